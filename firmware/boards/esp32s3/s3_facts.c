/* What is in force, read from the hardware: the flash mode is the bootloader's, which may be another project's. */
#include <stdio.h>

#include "esp_chip_info.h"
#include "esp_heap_caps.h"
#include "esp_rom_sys.h"
#include "s3.h"
#include "soc/extmem_reg.h"
#include "soc/soc.h"
#include "soc/spi_mem_reg.h"

#define CACHE_BUS 0 /* SPI0 serves the caches */
#define LEAST_MHZ 40u

static const char slow[] = "flash runs in two-bit mode: the bootloader is not this firmware's; flash the complete image for "
                           "about twice the speed";
/* ESP-IDF slows the flash down to talk to PSRAM, and leaves it so where none answers. */
static const char slowest[] = "flash runs at a quarter of its clock: another bootloader, or no PSRAM where the build wants "
                              "it; flash this module's image";
static const char no_store[] = "the partition table has no partition labelled model: flash the complete image";

static uint16_t line_bytes(void)
{
    static const uint16_t bytes[4] = {16, 32, 64, 0};
    return bytes[REG_GET_FIELD(EXTMEM_DCACHE_CTRL_REG, EXTMEM_DCACHE_BLOCKSIZE_MODE)];
}

uint32_t s3_flash_mhz(void)
{
    static const uint16_t core[4] = {80, 120, 160, 240};
    const uint32_t clock = REG_READ(SPI_MEM_CLOCK_REG(CACHE_BUS));
    const uint32_t divider = (clock & SPI_MEM_CLK_EQU_SYSCLK) != 0 ? 1u : (clock >> SPI_MEM_CLKCNT_N_S & SPI_MEM_CLKCNT_N_V) + 1u;
    return core[REG_GET_FIELD(SPI_MEM_CORE_CLK_SEL_REG(CACHE_BUS), SPI_MEM_CORE_CLK_SEL)] / divider;
}

static const char *mode_name(bool *is_slow)
{
    const uint32_t control = REG_READ(SPI_MEM_CTRL_REG(CACHE_BUS));
    *is_slow = false;
    if ((REG_READ(SPI_MEM_DDR_REG(CACHE_BUS)) & SPI_MEM_SPI_FMEM_DDR_EN) != 0)
        return "OPI";
    if ((control & SPI_MEM_FREAD_QIO) != 0)
        return "QIO";
    if ((control & SPI_MEM_FREAD_QUAD) != 0)
        return "QOUT";
    *is_slow = true;
    if ((control & SPI_MEM_FREAD_DIO) != 0)
        return "DIO";
    return (control & SPI_MEM_FREAD_DUAL) != 0 ? "DOUT" : "SIO";
}

void s3_facts(void *ctx, board_facts *facts)
{
    static char chip[24], mode[16];
    const app_t *app = ctx;
    const uint32_t mhz = s3_flash_mhz();
    bool two_bit;
    esp_chip_info_t info;
    esp_chip_info(&info);
    (void)snprintf(chip, sizeof chip, "esp32s3 rev %u.%u", info.revision / 100u % 100u, info.revision % 100u);
    (void)snprintf(mode, sizeof mode, "%s %u MHz", mode_name(&two_bit), (unsigned)mhz % 1000u);
    facts->chip = chip;
    facts->flash_mode = mode;
    facts->flash_slow = two_bit || mhz < LEAST_MHZ;
    facts->warning = app->board->models == NULL ? no_store : two_bit ? slow : facts->flash_slow ? slowest : NULL;
    facts->heap_free = (uint32_t)heap_caps_get_free_size(MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT);
    facts->psram = (uint32_t)heap_caps_get_total_size(MALLOC_CAP_SPIRAM);
    facts->cpu_mhz = (uint16_t)esp_rom_get_cpu_ticks_per_us();
    facts->cache_line = line_bytes();
}
