/* The parts of the Cardputer: screen and keyboard through M5Unified, the microSD card through ESP-IDF. */
#ifndef CARDPUTER_H
#define CARDPUTER_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* screen.cpp */
bool screen_open(void); /* true: this is a Cardputer-Adv */
void screen_row(uint8_t row, uint16_t ink, uint16_t paper, const char *text, uint8_t columns);
void screen_brightness(uint8_t percent);
int screen_battery(void); /* percent, or less than 0 */

/* keyboard.cpp: keys held, in the bits of ui_keys.h */
void keyboard_open(bool adv);
uint64_t keyboard_down(void);

/* card.c: .tlm files in the card's root. The card is mounted while it is looked at or read. */
uint8_t card_list(char (*names)[32], uint8_t cap);
bool card_open(const char *name, uint32_t *bytes);
bool card_read(uint32_t offset, void *data, uint32_t bytes);
void card_close(void);

#ifdef __cplusplus
}
#endif

#endif
