#pragma once
#include <cstddef>
#include <cstdint>
namespace m5gfx {
uint32_t millis();
}
namespace fonts {
struct IFont {};
extern const IFont Font0;
}
namespace m5 {
enum class board_t { board_M5Cardputer, board_M5CardputerADV };
struct config_t {
    bool internal_imu, internal_rtc, internal_mic, internal_spk, output_power;
};
struct Display {
    void setRotation(uint_fast8_t rotation);
    void setFont(const fonts::IFont *font);
    void setTextSize(float size);
    void setTextWrap(bool wrap);
    void fillScreen(uint16_t colour);
    void startWrite();
    void endWrite();
    void fillRect(int32_t x, int32_t y, int32_t w, int32_t h, uint16_t colour);
    void setTextColor(uint16_t ink, uint16_t paper);
    size_t drawString(const char *text, int32_t x, int32_t y);
    void setBrightness(uint8_t brightness);
};
struct Power {
    int32_t getBatteryLevel();
};
struct I2C {
    bool writeRegister8(uint8_t address, uint8_t reg, uint8_t data, uint32_t freq) const;
    uint8_t readRegister8(uint8_t address, uint8_t reg, uint32_t freq) const;
};
struct M5Unified {
    m5::Display Display;
    m5::Power Power;
    m5::I2C &In_I2C;
    config_t config();
    void begin(config_t config);
    board_t getBoard();
};
}
extern m5::M5Unified M5;
