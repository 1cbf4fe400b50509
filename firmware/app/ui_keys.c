#include "ui_keys.h"

#include <stdbool.h>

#define FN UI_KEY_BIT(2, 0)
#define SHIFT UI_KEY_BIT(2, 1)
#define REPEAT_AFTER_US 400000u
#define REPEAT_EVERY_US 60000u

static const char plain[UI_KEY_ROWS][UI_KEY_COLS + 1u] = {
    "`1234567890-=\b",
    "\tqwertyuiop[]\\",
    "\0\0asdfghjkl;'\r",
    "\0\0\0zxcvbnm,./ ",
};
static const char shifted[UI_KEY_ROWS][UI_KEY_COLS + 1u] = {
    "~!@#$%^&*()_+\b",
    "\tQWERTYUIOP{}|",
    "\0\0ASDFGHJKL:\"\r",
    "\0\0\0ZXCVBNM<>? ",
};

static uint8_t with_fn(char key)
{
    switch (key) {
    case ';':
        return UI_KEY_UP;
    case '.':
        return UI_KEY_DOWN;
    case ',':
        return UI_KEY_LEFT;
    case '/':
        return UI_KEY_RIGHT;
    case '`':
        return UI_KEY_ESCAPE;
    default:
        return UI_NO_KEY;
    }
}

static uint8_t key_at(uint32_t place, uint64_t down)
{
    const uint32_t row = place / UI_KEY_COLS, col = place % UI_KEY_COLS;
    if ((down & FN) != 0)
        return with_fn(plain[row][col]);
    return (uint8_t)((down & SHIFT) != 0 ? shifted : plain)[row][col];
}

static bool may_repeat(uint8_t key)
{
    return key == UI_KEY_RUB_OUT || key >= UI_KEY_UP;
}

uint8_t ui_keys_next(ui_keys *keys, uint64_t down, uint64_t now_us)
{
    if (down != keys->down)
        keys->repeats = UI_NO_KEY;
    keys->down = down;
    keys->told &= down;
    for (uint32_t place = 0; place < UI_KEY_ROWS * UI_KEY_COLS; place++) {
        const uint64_t bit = (uint64_t)1 << place;
        if ((down & bit) == 0 || (keys->told & bit) != 0)
            continue;
        keys->told |= bit;
        const uint8_t key = key_at(place, down);
        if (key == UI_NO_KEY)
            continue;
        keys->repeats = may_repeat(key) ? key : (uint8_t)UI_NO_KEY;
        keys->next_us = now_us + REPEAT_AFTER_US;
        return key;
    }
    if (keys->repeats != UI_NO_KEY && now_us >= keys->next_us) {
        keys->next_us = now_us + REPEAT_EVERY_US;
        return keys->repeats;
    }
    return UI_NO_KEY;
}

/* Select lines 4..7 are the even columns, 0..3 the odd ones; each goes from the bottom row to the top one. */
uint64_t ui_key_of_matrix(uint8_t select, uint8_t input)
{
    if (select > 7u || input > 6u)
        return 0;
    return UI_KEY_BIT(3u - select % 4u, 2u * input + (select > 3u ? 0u : 1u));
}

/* Codes count ten columns a row; a row of the controller holds two columns of the keyboard. */
uint64_t ui_key_of_tca8418(uint8_t code)
{
    if (code < 1u || code > 70u)
        return 0;
    const uint32_t row = (code - 1u) / 10u, col = (code - 1u) % 10u;
    return col > 7u ? 0 : UI_KEY_BIT(col % 4u, 2u * row + (col > 3u ? 1u : 0u));
}
