#pragma once
#include "driver/spi_common.h"
#define SDSPI_DEFAULT_DMA SPI_DMA_CH_AUTO
typedef struct {
    int slot, max_freq_khz;
} sdmmc_host_t;
typedef struct {
    spi_host_device_t host_id;
    int gpio_cs;
} sdspi_device_config_t;
#define SDSPI_HOST_DEFAULT() {SPI2_HOST, 20000}
#define SDSPI_DEVICE_CONFIG_DEFAULT() {SPI2_HOST, 13}
