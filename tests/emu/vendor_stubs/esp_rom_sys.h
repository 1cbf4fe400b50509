#pragma once
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
uint32_t esp_rom_get_cpu_ticks_per_us(void);
void esp_rom_delay_us(uint32_t us);
#ifdef __cplusplus
}
#endif
