/* The chat screen of a board with a keyboard: 40 columns of ASCII, a status line, the conversation, a line to type
 * in; pages for settings, models on a card and what the model is. The board draws rows and tells keys. */
#ifndef APP_UI_H
#define APP_UI_H

#include "install.h"
#include "ui_keys.h"
#include "ui_text.h"

#define UI_ROWS 13u
#define UI_TYPED 256u
#define UI_NAME 32u
#define UI_FILES 16u

typedef enum ui_colour { UI_REPLY, UI_PERSON, UI_NOTE, UI_BAR, UI_INPUT, UI_CHOSEN } ui_colour;
typedef enum ui_page { UI_CHAT, UI_SETTINGS, UI_FILE_LIST, UI_ABOUT } ui_page;

/* What the board gives. */
typedef struct ui_screen {
    void *ctx;
    /* `text` has UI_COLS characters. */
    void (*row)(void *ctx, uint8_t row, ui_colour colour, const char *text);
    void (*brightness)(void *ctx, uint8_t percent);
    int (*battery)(void *ctx); /* percent, or less than 0: unknown */
    /* Models on the card; NULL without one. Names of at most UI_NAME-1 bytes; returns how many there are. */
    uint8_t (*files)(void *ctx, char names[UI_FILES][UI_NAME]);
    bool (*open)(void *ctx, const char *name, install_source *source);
    void (*close)(void *ctx);
} ui_screen;

typedef struct ui {
    const ui_screen *screen;
    app_t *app;
    board_ui hooks; /* for board.ui */
    ui_status status;
    ui_scroll scroll;
    uint32_t back; /* lines scrolled back */
    ui_page page;
    uint8_t row; /* chosen on a page */
    char typed[UI_TYPED];
    uint16_t n_typed;
    bool story; /* each prompt begins a new text */
    char files[UI_FILES][UI_NAME];
    uint8_t n_files;
    install install;
    char shown[UI_ROWS][UI_COLS];
    uint8_t colours[UI_ROWS];
    bool drawn, lit; /* lit: `brightness` is what the screen has */
    uint8_t brightness;
} ui;

void ui_init(ui *u, const ui_screen *screen); /* hooks are ready after it */
void ui_attach(ui *u, app_t *app);            /* after app_init */
void ui_key(ui *u, uint8_t key);
/* A piece of an installation under way, and rows that changed. True: there is more to do at once. */
bool ui_step(ui *u);

/* ui_pages.c */
void ui_page_text(const ui *u, uint8_t row, char text[UI_COLS], ui_colour *colour);
void ui_page_key(ui *u, uint8_t key);
void ui_page_open(ui *u, ui_page page);
void ui_note(ui *u, const char *text); /* a line of the conversation */

/* Writing into a row of UI_COLS characters. */
typedef struct ui_out {
    char *text;
    size_t at;
} ui_out;
void ui_put(ui_out *out, const char *text);
void ui_put_number(ui_out *out, uint32_t value);
void ui_put_tenths(ui_out *out, uint32_t tenths);

#endif
