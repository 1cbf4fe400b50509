#include "sim_flash.h"

#include <string.h>

static bool inside(sim_flash *f, uint32_t offset, uint32_t bytes, uint32_t unit)
{
    const bool ok = offset % unit == 0 && bytes % unit == 0 && offset <= f->flash.bytes && bytes <= f->flash.bytes - offset;
    f->misused = f->misused || !ok;
    return ok && !f->off;
}

static void check_unmapped(sim_flash *f, uint32_t offset, uint32_t bytes)
{
    for (int i = 0; i < 2; i++)
        if (offset < f->mapped[i][0] + f->mapped[i][1] && f->mapped[i][0] < offset + bytes)
            f->misused = true;
}

/* True while there is power for one more byte. */
static bool spend(sim_flash *f)
{
    f->work++;
    if (f->cut != 0 && f->work >= f->cut)
        f->off = true;
    return !f->off;
}

static bool flash_read(void *ctx, uint32_t offset, void *data, uint32_t bytes)
{
    sim_flash *f = ctx;
    if (!inside(f, offset, bytes, 1))
        return false;
    memcpy(data, f->bytes + offset, bytes);
    return true;
}

static bool flash_write(void *ctx, uint32_t offset, const void *data, uint32_t bytes)
{
    sim_flash *f = ctx;
    if (!inside(f, offset, bytes, 4))
        return false;
    check_unmapped(f, offset, bytes);
    for (uint32_t i = 0; i < bytes; i++) {
        if (!spend(f))
            return false;
        f->bytes[offset + i] &= ((const uint8_t *)data)[i];
    }
    return true;
}

/* Cut short, an erase leaves the first part erased, a strip undefined and the rest as it was. */
static bool flash_erase(void *ctx, uint32_t offset, uint32_t bytes)
{
    sim_flash *f = ctx;
    if (!inside(f, offset, bytes, f->flash.erase_bytes))
        return false;
    check_unmapped(f, offset, bytes);
    const uint32_t strip = bytes / SIM_ERASE_WORK;
    for (uint32_t i = 0; i < SIM_ERASE_WORK; i++) {
        if (!spend(f)) {
            for (uint32_t j = 0; j < strip; j++)
                f->bytes[offset + i * strip + j] |= (uint8_t)(j * 37u + 11u);
            return false;
        }
        memset(f->bytes + offset + i * strip, 0xFF, strip);
    }
    return true;
}

static const void *flash_map(void *ctx, uint32_t offset, uint32_t bytes)
{
    sim_flash *f = ctx;
    if (!inside(f, offset, bytes, 1))
        return NULL;
    for (int i = 0; i < 2; i++)
        if (f->mapped[i][1] == 0) {
            f->mapped[i][0] = offset;
            f->mapped[i][1] = bytes;
            return f->bytes + offset;
        }
    f->misused = true;
    return NULL;
}

static void flash_unmap(void *ctx, const void *address)
{
    sim_flash *f = ctx;
    const uint32_t offset = (uint32_t)((const uint8_t *)address - f->bytes);
    for (int i = 0; i < 2; i++)
        if (f->mapped[i][1] != 0 && f->mapped[i][0] == offset) {
            f->mapped[i][1] = 0;
            return;
        }
    f->misused = true;
}

void sim_flash_init(sim_flash *f, uint8_t *bytes, uint32_t size, uint32_t erase_bytes)
{
    memset(f, 0, sizeof *f);
    f->bytes = bytes;
    f->flash.ctx = f;
    f->flash.bytes = size;
    f->flash.erase_bytes = erase_bytes;
    f->flash.read = flash_read;
    f->flash.write = flash_write;
    f->flash.erase = flash_erase;
    f->flash.map = flash_map;
    f->flash.unmap = flash_unmap;
}

void sim_flash_power(sim_flash *f, uint64_t cut)
{
    f->off = false;
    f->work = 0;
    f->cut = cut;
    memset(f->mapped, 0, sizeof f->mapped);
}
