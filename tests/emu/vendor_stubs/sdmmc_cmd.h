#pragma once
#include "driver/sdspi_host.h"
typedef struct {
    sdmmc_host_t host;
} sdmmc_card_t;
