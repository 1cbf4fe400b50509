/* Text for a small screen: UTF-8 to the ASCII that every font has, and wrapped lines with scroll-back. */
#ifndef APP_UI_TEXT_H
#define APP_UI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UI_COLS 40u
#define UI_LINES 96u /* that can be scrolled back to */

/* ASCII for the character at text[0..bytes), which is at least one byte: letters without their accents, typographic
 * marks as typed ones, '?' for what has no likeness. *n gets the length, at most 3; returns the bytes that it took. */
size_t ui_ascii(const char *text, size_t bytes, char out[3], size_t *n);

typedef struct ui_line {
    char text[UI_COLS];
    uint8_t bytes, speaker;
} ui_line;

typedef struct ui_scroll {
    ui_line lines[UI_LINES]; /* a ring */
    uint32_t begun;          /* lines ever begun */
} ui_scroll;

void ui_scroll_clear(ui_scroll *s);
void ui_scroll_begin(ui_scroll *s, uint8_t speaker); /* a new line */
/* More text of the line begun last; words move to the next line as a whole where they can. Whole characters. */
void ui_scroll_add(ui_scroll *s, const char *text, size_t bytes);
uint32_t ui_scroll_count(const ui_scroll *s);
/* Line `back` from the end (0 = the newest), or NULL. */
const ui_line *ui_scroll_line(const ui_scroll *s, uint32_t back);

#endif
