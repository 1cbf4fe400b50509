/* QEMU's RISC-V `virt` machine, 32 bits: 16550 UART, CFI flash, the CLINT's clock. */
#include "plat.h"

#define UART_BASE 0x10000000u
#define UART_REG uint8_t
#include "uart16550.h"

#define MTIME_LOW ((volatile uint32_t *)0x0200BFF8u)
#define MTIME_HIGH ((volatile uint32_t *)0x0200BFFCu)

extern char __stack[];

const char plat_name[] = "qemu_riscv", plat_flash_mode[] = "CFI NOR, 32 bits";
#ifdef __riscv_flen
const char plat_chip[] = "rv32imafc (QEMU virt)";
#else
const char plat_chip[] = "rv32imac (QEMU virt)";
#endif
const uint32_t plat_flash_bytes = 16u << 20, plat_flash_sector = 256u << 10;

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
    uint32_t high, low;
    do {
        high = *MTIME_HIGH;
        low = *MTIME_LOW;
    } while (high != *MTIME_HIGH);
    return ((uint64_t)high << 32 | low) / 10u; /* 10 MHz */
}

uint8_t *plat_flash_base(void)
{
    return (uint8_t *)0x22000000u;
}

uint8_t *plat_stack(uint32_t *bytes)
{
    *bytes = STACK_BYTES;
    return (uint8_t *)((uintptr_t)__stack - STACK_BYTES);
}
