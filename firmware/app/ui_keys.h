/* Keys of a small keyboard: 4 rows of 14 as on the Cardputer, with shift and fn. */
#ifndef APP_UI_KEYS_H
#define APP_UI_KEYS_H

#include <stdint.h>

#define UI_KEY_ROWS 4u
#define UI_KEY_COLS 14u
#define UI_KEY_BIT(row, col) ((uint64_t)1 << ((row)*UI_KEY_COLS + (col)))

/* What a key says: a printable ASCII character, or one of these. */
enum {
    UI_NO_KEY = 0,
    UI_KEY_RUB_OUT = 8,
    UI_KEY_TAB = 9,
    UI_KEY_ENTER = 13,
    UI_KEY_ESCAPE = 27,
    UI_KEY_UP = 128,
    UI_KEY_DOWN,
    UI_KEY_LEFT,
    UI_KEY_RIGHT,
};

typedef struct ui_keys {
    uint64_t down, told; /* keys held; those among them that were told */
    uint8_t repeats;     /* the key that repeats while it is held */
    uint64_t next_us;
} ui_keys;

/* One key event, or UI_NO_KEY. `down` has the bits of the keys that are held now; call until it gives none. */
uint8_t ui_keys_next(ui_keys *keys, uint64_t down, uint64_t now_us);

/* Places of keys: of select line 0..7 and input 0..6 of the first Cardputer's matrix, and of the codes 1..80 that the
 * TCA8418 of the Cardputer-Adv reports. 0 where there is no key. */
uint64_t ui_key_of_matrix(uint8_t select, uint8_t input);
uint64_t ui_key_of_tca8418(uint8_t code);

#endif
