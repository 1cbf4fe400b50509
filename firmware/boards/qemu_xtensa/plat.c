/* QEMU's kc705-nommu board with an lx106 core: the ESP32's stand-in that Debian's packages can build for. It has the
 * instruction set of the ESP8266: call0 ABI, no FPU, no vectors, and it traps unaligned access. */
#include "plat.h"

#define UART_BASE 0x9d050020u
#define UART_REG uint32_t
#include "uart16550.h"

#define CLOCK_MHZ 40u

extern uint8_t __stack_bottom[], __stack_top[];

const char plat_name[] = "qemu_xtensa", plat_flash_mode[] = "CFI NOR, 16 bits", plat_chip[] = "lx106 (QEMU kc705-nommu)";
const uint32_t plat_flash_bytes = 16u << 20, plat_flash_sector = 128u << 10;

void plat_init(void)
{
}

size_t plat_read(uint8_t *data, size_t cap)
{
    return uart_read(data, cap);
}

size_t plat_write(const uint8_t *data, size_t bytes)
{
    return uart_write(data, bytes);
}

uint64_t plat_clock_us(void)
{
    static uint64_t ticks;
    static uint32_t last;
    uint32_t now;
    __asm__ volatile("rsr %0, ccount" : "=r"(now));
    ticks += (uint32_t)(now - last);
    last = now;
    return ticks / CLOCK_MHZ;
}

uint8_t *plat_flash_base(void)
{
    return (uint8_t *)0x70000000u;
}

uint8_t *plat_stack(uint32_t *bytes)
{
    *bytes = (uint32_t)(__stack_top - __stack_bottom);
    return __stack_bottom;
}
