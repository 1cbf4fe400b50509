#include "ui_text.h"

#include <string.h>

/* U+00A0..U+017F. */
static const char latin[] =
    " !cLoY|S\"ca<-- -o+23'uP.,1o>113?"
    "AAAAAAACEEEEIIIIDNOOOOOxOUUUUYTs"
    "aaaaaaaceeeeiiiidnooooo/ouuuuyty"
    "AaAaAaCcCcCcCcDdDdEeEeEeEeEeGgGg"
    "GgGgHhHhIiIiIiIiIiIiJjKkkLlLlLlL"
    "lLlNnNnNnnNnOoOoOoOoRrRrRrSsSsSs"
    "SsTtTtTtUuUuUuUuUuUuWwYyYZzZzZzs";

static const struct {
    uint16_t code;
    char text[4];
} marks[] = {
    {0x00C6, "AE"}, {0x00E6, "ae"}, {0x0152, "OE"}, {0x0153, "oe"}, {0x00DF, "ss"}, {0x20AC, "EUR"}, {0x2026, "..."},
    {0x2018, "'"},  {0x2019, "'"},  {0x201A, ","},  {0x201C, "\""}, {0x201D, "\""}, {0x201E, "\""},  {0x2032, "'"},
    {0x2010, "-"},  {0x2011, "-"},  {0x2012, "-"},  {0x2013, "-"},  {0x2014, "--"}, {0x2015, "--"},  {0x2212, "-"},
    {0x2022, "*"},  {0x2039, "<"},  {0x203A, ">"},  {0x2190, "<-"}, {0x2192, "->"}, {0x2264, "<="},  {0x2265, ">="},
    {0x2260, "!="}, {0x3000, " "},  {0x3001, ","},  {0x3002, "."},
};

/* Length of the sequence that a leading byte announces; 0 = none. */
static size_t sequence(uint8_t lead)
{
    return lead < 0x80u ? 1u : lead < 0xC2u ? 0u : lead < 0xE0u ? 2u : lead < 0xF0u ? 3u : lead < 0xF5u ? 4u : 0u;
}

static size_t take(const uint8_t *p, size_t bytes, uint32_t *code)
{
    const size_t n = sequence(p[0]);
    *code = 0xFFFDu;
    if (n == 0 || n > bytes)
        return 1;
    uint32_t value = n == 1 ? p[0] : p[0] & (0xFFu >> (n + 1u));
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0u) != 0x80u)
            return 1;
        value = value << 6 | (p[i] & 0x3Fu);
    }
    *code = value;
    return n;
}

size_t ui_ascii(const char *text, size_t bytes, char out[3], size_t *n)
{
    uint32_t code;
    const size_t took = take((const uint8_t *)text, bytes, &code);
    *n = 1;
    out[0] = '?';
    if (code < 0x80u)
        out[0] = code >= 32u || code == '\n' ? (char)code : ' ';
    else if (code >= 0xA0u && code - 0xA0u < sizeof latin - 1u)
        out[0] = latin[code - 0xA0u];
    if (code == 0x7Fu)
        *n = 0;
    if ((code >= 0x300u && code < 0x370u) || code == 0x200Bu || code == 0x200Du || code == 0xFEFFu || code - 0xFE00u < 16u)
        *n = 0; /* joins the character before it */
    if (code >= 0x2000u && code <= 0x200Au)
        out[0] = ' ';
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (marks[i].code == code) {
            *n = strlen(marks[i].text);
            memcpy(out, marks[i].text, *n);
        }
    return took;
}

/* ---- lines ------------------------------------------------------------------------------------------ */

static ui_line *last(ui_scroll *s)
{
    return &s->lines[(s->begun - 1u) % UI_LINES];
}

void ui_scroll_clear(ui_scroll *s)
{
    memset(s, 0, sizeof *s);
}

void ui_scroll_begin(ui_scroll *s, uint8_t speaker)
{
    s->begun++;
    ui_line *line = last(s);
    line->bytes = 0;
    line->speaker = speaker;
}

/* The next line takes over the unfinished word, unless the word is the whole line. */
static void wrap(ui_scroll *s)
{
    ui_line *full = last(s);
    size_t word = full->bytes;
    while (word > 0 && full->text[word - 1u] != ' ')
        word--;
    ui_scroll_begin(s, full->speaker);
    ui_line *next = last(s);
    if (word == 0)
        return;
    next->bytes = (uint8_t)(full->bytes - word);
    memcpy(next->text, full->text + word, next->bytes);
    full->bytes = (uint8_t)word;
}

static void put(ui_scroll *s, char c)
{
    if (c == '\n') {
        ui_scroll_begin(s, last(s)->speaker);
        return;
    }
    if (last(s)->bytes == UI_COLS) {
        if (c == ' ') { /* the break stands for it */
            ui_scroll_begin(s, last(s)->speaker);
            return;
        }
        wrap(s);
    }
    ui_line *line = last(s);
    line->text[line->bytes++] = c;
}

void ui_scroll_add(ui_scroll *s, const char *text, size_t bytes)
{
    char ascii[3];
    size_t n;
    if (s->begun == 0)
        ui_scroll_begin(s, 0);
    for (size_t at = 0; at < bytes;) {
        at += ui_ascii(text + at, bytes - at, ascii, &n);
        for (size_t i = 0; i < n; i++)
            put(s, ascii[i]);
    }
}

uint32_t ui_scroll_count(const ui_scroll *s)
{
    return s->begun < UI_LINES ? s->begun : UI_LINES;
}

const ui_line *ui_scroll_line(const ui_scroll *s, uint32_t back)
{
    return back < ui_scroll_count(s) ? &s->lines[(s->begun - 1u - back) % UI_LINES] : NULL;
}
