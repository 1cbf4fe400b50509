/* Memory that behaves like flash, for machines without any: an erase sets bits, a write clears them. */
#include <string.h>

#include "plat.h"

bool plat_flash_write(uint32_t offset, const void *data, uint32_t bytes)
{
    uint8_t *at = plat_flash_base() + offset;
    const uint8_t *from = data;
    for (uint32_t i = 0; i < bytes; i++)
        at[i] &= from[i];
    return true;
}

bool plat_flash_erase(uint32_t offset)
{
    memset(plat_flash_base() + offset, 0xFF, plat_flash_sector);
    return true;
}
