// Rows of text straight to the display: a sprite of the whole screen would take 65 KB.
#include "cardputer.h"

#include <M5Unified.h>

#include <algorithm>
#include <cstring>

namespace {

constexpr int row_height = 10, column_width = 6, most_columns = 40;
constexpr uint32_t battery_every_ms = 5000;

} // namespace

extern "C" bool screen_open(void)
{
    auto config = M5.config();
    config.internal_imu = false;
    config.internal_rtc = false;
    config.internal_mic = false;
    config.internal_spk = false;
    config.output_power = false;
    M5.begin(config);
    M5.Display.setRotation(1);
    M5.Display.setFont(&fonts::Font0);
    M5.Display.setTextSize(1);
    M5.Display.setTextWrap(false);
    M5.Display.fillScreen(0);
    return M5.getBoard() == m5::board_t::board_M5CardputerADV;
}

extern "C" void screen_row(uint8_t row, uint16_t ink, uint16_t paper, const char *text, uint8_t columns)
{
    char line[most_columns + 1];
    const int n = std::min<int>(columns, most_columns);
    std::memcpy(line, text, n);
    line[n] = 0;
    M5.Display.startWrite();
    M5.Display.fillRect(0, row * row_height, n * column_width, 1, paper);
    M5.Display.setTextColor(ink, paper);
    M5.Display.drawString(line, 0, row * row_height + 1);
    M5.Display.fillRect(0, row * row_height + row_height - 1, n * column_width, 1, paper);
    M5.Display.endWrite();
}

extern "C" void screen_brightness(uint8_t percent)
{
    M5.Display.setBrightness(static_cast<uint8_t>(percent * 255 / 100));
}

extern "C" int screen_battery(void)
{
    static int level = -1;
    static uint32_t asked;
    const uint32_t now = m5gfx::millis();
    if (asked == 0 || now - asked > battery_every_ms) {
        asked = now | 1u;
        level = static_cast<int>(M5.Power.getBatteryLevel());
    }
    return level;
}
