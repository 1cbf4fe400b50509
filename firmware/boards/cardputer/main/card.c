/* The microSD card on a bus of its own (the display has SPI3). */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "cardputer.h"
#include "driver/sdspi_host.h"
#include "driver/spi_common.h"
#include "esp_vfs_fat.h"
#include "sdmmc_cmd.h"

#define MOUNT "/card"
#define ENDING ".tlm"
#define HOST SPI2_HOST

static sdmmc_card_t *card;
static FILE *file;

static bool mount(void)
{
    const spi_bus_config_t bus = {
        .mosi_io_num = 14,
        .miso_io_num = 39,
        .sclk_io_num = 40,
        .quadwp_io_num = -1,
        .quadhd_io_num = -1,
        .max_transfer_sz = 4096,
    };
    const esp_vfs_fat_mount_config_t fat = {.max_files = 1};
    sdmmc_host_t host = SDSPI_HOST_DEFAULT();
    sdspi_device_config_t slot = SDSPI_DEVICE_CONFIG_DEFAULT();
    host.slot = HOST;
    slot.host_id = HOST;
    slot.gpio_cs = 12;
    if (card != NULL)
        return true;
    if (spi_bus_initialize(HOST, &bus, SDSPI_DEFAULT_DMA) != ESP_OK)
        return false;
    if (esp_vfs_fat_sdspi_mount(MOUNT, &host, &slot, &fat, &card) == ESP_OK)
        return true;
    card = NULL;
    (void)spi_bus_free(HOST);
    return false;
}

void card_close(void)
{
    if (file != NULL)
        (void)fclose(file);
    file = NULL;
    if (card == NULL)
        return;
    (void)esp_vfs_fat_sdcard_unmount(MOUNT, card);
    (void)spi_bus_free(HOST);
    card = NULL;
}

static bool is_model(const char *name)
{
    const size_t n = strlen(name), ending = sizeof ENDING - 1u;
    return n > ending && n < 32u && name[0] != '.' && strcasecmp(name + n - ending, ENDING) == 0;
}

uint8_t card_list(char (*names)[32], uint8_t cap)
{
    uint8_t n = 0;
    DIR *folder = mount() ? opendir(MOUNT) : NULL;
    if (folder != NULL) {
        for (const struct dirent *e = readdir(folder); e != NULL && n < cap; e = readdir(folder))
            if (is_model(e->d_name))
                strcpy(names[n++], e->d_name);
        (void)closedir(folder);
    }
    card_close();
    return n;
}

bool card_open(const char *name, uint32_t *bytes)
{
    char path[sizeof MOUNT + 32u];
    (void)snprintf(path, sizeof path, MOUNT "/%s", name);
    file = mount() ? fopen(path, "rb") : NULL;
    const bool ok = file != NULL && fseek(file, 0, SEEK_END) == 0;
    const long end = ok ? ftell(file) : -1;
    *bytes = end > 0 ? (uint32_t)end : 0;
    if (end <= 0)
        card_close();
    return end > 0;
}

bool card_read(uint32_t offset, void *data, uint32_t bytes)
{
    return file != NULL && (ftell(file) == (long)offset || fseek(file, (long)offset, SEEK_SET) == 0) &&
           fread(data, 1, bytes, file) == bytes;
}
