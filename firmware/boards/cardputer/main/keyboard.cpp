// Two keyboards: a matrix behind a 3-to-8 decoder on the first Cardputer, a TCA8418 on I2C on the Cardputer-Adv.
#include "cardputer.h"

#include <M5Unified.h>

#include "driver/gpio.h"
#include "esp_rom_sys.h"

extern "C" {
#include "ui_keys.h"
}

namespace {

constexpr gpio_num_t select_pins[] = {GPIO_NUM_8, GPIO_NUM_9, GPIO_NUM_11};
constexpr gpio_num_t input_pins[] = {GPIO_NUM_13, GPIO_NUM_15, GPIO_NUM_3, GPIO_NUM_4,
                                     GPIO_NUM_5,  GPIO_NUM_6,  GPIO_NUM_7};
constexpr uint32_t settle_us = 5;

constexpr uint8_t tca = 0x34;
constexpr uint32_t tca_hz = 400000;
constexpr uint8_t reg_config = 0x01, reg_status = 0x02, reg_count = 0x03, reg_event = 0x04;
constexpr uint8_t reg_rows = 0x1D, reg_columns = 0x1E, reg_columns_8_9 = 0x1F;
constexpr uint8_t events_on = 0x01, status_overflow = 0x08, status_all = 0x1F, pressed = 0x80;

bool is_adv;
uint64_t held;

void write_register(uint8_t reg, uint8_t value)
{
    M5.In_I2C.writeRegister8(tca, reg, value, tca_hz);
}

uint8_t read_register(uint8_t reg)
{
    return M5.In_I2C.readRegister8(tca, reg, tca_hz);
}

uint64_t scan_matrix()
{
    uint64_t down = 0;
    for (uint8_t select = 0; select < 8; select++) {
        for (uint8_t bit = 0; bit < 3; bit++)
            gpio_set_level(select_pins[bit], select >> bit & 1);
        esp_rom_delay_us(settle_us);
        for (uint8_t input = 0; input < 7; input++)
            if (gpio_get_level(input_pins[input]) == 0)
                down |= ui_key_of_matrix(select, input);
    }
    return down;
}

// Events queue up while the processor is busy; when some are lost, so may be a release.
uint64_t take_events()
{
    const uint8_t count = read_register(reg_count) & 0x0F;
    for (uint8_t i = 0; i < count; i++) {
        const uint8_t event = read_register(reg_event);
        const uint64_t key = ui_key_of_tca8418(event & 0x7F);
        held = (event & pressed) != 0 ? held | key : held & ~key;
    }
    if (count != 0) {
        if ((read_register(reg_status) & status_overflow) != 0)
            held = 0;
        write_register(reg_status, status_all);
    }
    return held;
}

void open_matrix()
{
    for (const gpio_num_t pin : select_pins) {
        gpio_reset_pin(pin);
        gpio_set_direction(pin, GPIO_MODE_OUTPUT);
        gpio_set_level(pin, 0);
    }
    for (const gpio_num_t pin : input_pins) {
        gpio_reset_pin(pin);
        gpio_set_direction(pin, GPIO_MODE_INPUT);
        gpio_set_pull_mode(pin, GPIO_PULLUP_ONLY);
    }
}

} // namespace

extern "C" void keyboard_open(bool adv)
{
    is_adv = adv;
    if (!adv) {
        open_matrix();
        return;
    }
    write_register(reg_rows, 0x7F);
    write_register(reg_columns, 0xFF);
    write_register(reg_columns_8_9, 0x00);
    write_register(reg_status, status_all);
    write_register(reg_config, events_on);
}

extern "C" uint64_t keyboard_down(void)
{
    return is_adv ? take_events() : scan_matrix();
}
