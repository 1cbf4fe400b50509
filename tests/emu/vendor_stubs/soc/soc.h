#pragma once
#include <stdint.h>
#define REG_READ(reg) (*(volatile uint32_t *)(uintptr_t)(reg))
#define REG_GET_FIELD(reg, field) ((REG_READ(reg) >> (field##_S)) & (field##_V))
