/* Flash regions are partitions found by label, so that any table with these labels will do. */
#include <string.h>

#include "esp_partition.h"
#include "s3.h"

#define MAPS 2u
#define TWO_SLOTS 0x400000u /* a smaller partition is one slot */
#define PAST 64u            /* kernels may load so much past the end of a blob */

typedef struct region {
    board_flash flash;
    const esp_partition_t *partition;
    struct {
        const void *address;
        esp_partition_mmap_handle_t handle;
    } maps[MAPS];
} region;

static region models, settings;

static bool flash_read(void *ctx, uint32_t offset, void *data, uint32_t bytes)
{
    const region *r = ctx;
    return esp_partition_read(r->partition, offset, data, bytes) == ESP_OK;
}

static bool flash_write(void *ctx, uint32_t offset, const void *data, uint32_t bytes)
{
    const region *r = ctx;
    return esp_partition_write(r->partition, offset, data, bytes) == ESP_OK;
}

static bool flash_erase(void *ctx, uint32_t offset, uint32_t bytes)
{
    const region *r = ctx;
    return esp_partition_erase_range(r->partition, offset, bytes) == ESP_OK;
}

/* A new mapping starts with a clean cache, which is why the store maps after its last write and never writes what is
 * mapped: ESP-IDF 5.1 refreshes only the first MMU page of a mapping that is written to. */
static const void *flash_map(void *ctx, uint32_t offset, uint32_t bytes)
{
    region *r = ctx;
    uint32_t i = 0;
    while (i < MAPS && r->maps[i].address != NULL)
        i++;
    if (i == MAPS || offset > r->flash.bytes || bytes > r->flash.bytes - offset)
        return NULL;
    const uint32_t rest = r->flash.bytes - offset - bytes;
    bytes += rest < PAST ? rest : PAST;
    if (esp_partition_mmap(r->partition, offset, bytes, ESP_PARTITION_MMAP_DATA, &r->maps[i].address,
                           &r->maps[i].handle) != ESP_OK)
        r->maps[i].address = NULL;
    return r->maps[i].address;
}

static void flash_unmap(void *ctx, const void *address)
{
    region *r = ctx;
    for (uint32_t i = 0; i < MAPS; i++)
        if (address != NULL && r->maps[i].address == address) {
            esp_partition_munmap(r->maps[i].handle);
            r->maps[i].address = NULL;
            return;
        }
}

static const board_flash *open_region(region *r, const char *label)
{
    memset(r, 0, sizeof *r);
    r->partition = esp_partition_find_first(ESP_PARTITION_TYPE_ANY, ESP_PARTITION_SUBTYPE_ANY, label);
    if (r->partition == NULL || r->partition->encrypted || r->partition->size < 2u * r->partition->erase_size)
        return NULL;
    r->flash.ctx = r;
    r->flash.bytes = r->partition->size;
    r->flash.erase_bytes = r->partition->erase_size;
    r->flash.read = flash_read;
    r->flash.write = flash_write;
    r->flash.erase = flash_erase;
    r->flash.map = flash_map;
    r->flash.unmap = flash_unmap;
    return &r->flash;
}

const board_flash *s3_flash_models(uint8_t *slots)
{
    const board_flash *flash = open_region(&models, "model");
    *slots = flash == NULL ? 0 : flash->bytes < TWO_SLOTS ? 1 : 2;
    return flash;
}

const board_flash *s3_flash_settings(void)
{
    return open_region(&settings, "settings");
}
