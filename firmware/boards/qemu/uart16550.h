/* A 16550 without interrupts; UART_BASE and UART_REG (type of a register) come from the board. */
static volatile UART_REG *const uart = (volatile UART_REG *)UART_BASE;

static size_t uart_read(uint8_t *data, size_t cap)
{
    size_t n = 0;
    while (n < cap && (uart[5] & 1u) != 0)
        data[n++] = (uint8_t)uart[0];
    return n;
}

static size_t uart_write(const uint8_t *data, size_t bytes)
{
    size_t n = 0;
    while (n < bytes && (uart[5] & 0x20u) != 0)
        uart[0] = data[n++];
    return n;
}
