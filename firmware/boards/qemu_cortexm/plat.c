/* ARM's MPS2 boards in QEMU: Cortex-M3 (an385) and Cortex-M7 (an500). CMSDK UART and timer; external memory takes the
 * place of flash. */
#include "plat.h"

#define UART_DATA (*(volatile uint32_t *)0x40004000u)
#define UART_STATE (*(volatile uint32_t *)0x40004004u) /* bit 0: output full, bit 1: input there */
#define UART_CTRL (*(volatile uint32_t *)0x40004008u)
#define UART_BAUDDIV (*(volatile uint32_t *)0x40004010u)
#define TIMER_CTRL (*(volatile uint32_t *)0x40000000u)
#define TIMER_VALUE (*(volatile uint32_t *)0x40000004u)
#define TIMER_RELOAD (*(volatile uint32_t *)0x40000008u)
#define TIMER_MHZ 25u

extern char __stack[];

const char plat_name[] = "qemu_cortexm", plat_flash_mode[] = "memory";
#ifdef __ARM_FP
const char plat_chip[] = "Cortex-M7 (QEMU mps2-an500)";
#else
const char plat_chip[] = "Cortex-M3 (QEMU mps2-an385)";
#endif
const uint32_t plat_flash_bytes = 12u << 20, plat_flash_sector = 4096;

void plat_init(void)
{
    UART_BAUDDIV = 16;
    UART_CTRL = 3;
    TIMER_RELOAD = 0xFFFFFFFFu;
    TIMER_VALUE = 0xFFFFFFFFu;
    TIMER_CTRL = 1;
}

size_t plat_read(uint8_t *data, size_t cap)
{
    size_t n = 0;
    while (n < cap && (UART_STATE & 2u) != 0)
        data[n++] = (uint8_t)UART_DATA;
    return n;
}

size_t plat_write(const uint8_t *data, size_t bytes)
{
    size_t n = 0;
    while (n < bytes && (UART_STATE & 1u) == 0)
        UART_DATA = data[n++];
    return n;
}

uint64_t plat_clock_us(void)
{
    static uint64_t ticks;
    static uint32_t last;
    const uint32_t now = ~TIMER_VALUE; /* it counts down */
    ticks += (uint32_t)(now - last);
    last = now;
    return ticks / TIMER_MHZ;
}

uint8_t *plat_flash_base(void)
{
    return (uint8_t *)FLASH_BASE;
}

uint8_t *plat_stack(uint32_t *bytes)
{
    *bytes = STACK_BYTES;
    return (uint8_t *)((uintptr_t)__stack - STACK_BYTES);
}
