/* The serial line. Nothing here blocks: reading gives what has come, writing takes what fits. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "esp_log.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "s3.h"
#include "sdkconfig.h"

static bool active;

bool s3_line_active(void)
{
    const bool was = active;
    active = false;
    return was;
}

#if CONFIG_TLM_LINE_USB

#include "driver/usb_serial_jtag.h"

/* The driver throws away a packet that its ring has no room for, so the ring holds the window, frame overhead and
 * a request on top. */
#define RX_BYTES 4096u
#define TX_BYTES 2048u
#define PACKET 64u

const uint32_t s3_line_window = 2u * PROTO_MAX_CHUNK;

bool s3_line_open(void)
{
    usb_serial_jtag_driver_config_t config = {.tx_buffer_size = TX_BYTES, .rx_buffer_size = RX_BYTES};
    return usb_serial_jtag_driver_install(&config) == ESP_OK;
}

size_t s3_line_read(void *ctx, uint8_t *data, size_t cap)
{
    (void)ctx;
    const int n = usb_serial_jtag_read_bytes(data, (uint32_t)cap, 0);
    active = active || n > 0;
    return n > 0 ? (size_t)n : 0;
}

/* The driver's ring takes all of a piece or nothing of it. */
size_t s3_line_write(void *ctx, const uint8_t *data, size_t bytes)
{
    size_t sent = 0;
    (void)ctx;
    while (sent < bytes) {
        const size_t n = bytes - sent < PACKET ? bytes - sent : PACKET;
        if (usb_serial_jtag_write_bytes(data + sent, n, 0) != (int)n)
            break;
        sent += n;
    }
    return sent;
}

#else

#include "driver/uart.h"

#define RX_BYTES 4096
#define TX_PIN 43
#define RX_PIN 44

/* While flash is busy only the FIFO listens: the host sends one chunk and waits for its answer. */
const uint32_t s3_line_window = PROTO_MAX_CHUNK;

bool s3_line_open(void)
{
    const uart_config_t config = {
        .baud_rate = CONFIG_TLM_LINE_BAUD,
        .data_bits = UART_DATA_8_BITS,
        .parity = UART_PARITY_DISABLE,
        .stop_bits = UART_STOP_BITS_1,
        .flow_ctrl = UART_HW_FLOWCTRL_DISABLE,
        .source_clk = UART_SCLK_DEFAULT,
    };
    return uart_driver_install(UART_NUM_0, RX_BYTES, 0, 0, NULL, 0) == ESP_OK &&
           uart_param_config(UART_NUM_0, &config) == ESP_OK &&
           uart_set_pin(UART_NUM_0, TX_PIN, RX_PIN, UART_PIN_NO_CHANGE, UART_PIN_NO_CHANGE) == ESP_OK;
}

size_t s3_line_read(void *ctx, uint8_t *data, size_t cap)
{
    (void)ctx;
    const int n = uart_read_bytes(UART_NUM_0, data, (uint32_t)cap, 0);
    active = active || n > 0;
    return n > 0 ? (size_t)n : 0;
}

/* Without a ring of its own the driver fills the FIFO and returns; with one it would wait for room. */
size_t s3_line_write(void *ctx, const uint8_t *data, size_t bytes)
{
    (void)ctx;
    const int n = uart_tx_chars(UART_NUM_0, (const char *)data, (uint32_t)bytes);
    return n > 0 ? (size_t)n : 0;
}

#endif

/* ---- log lines -------------------------------------------------------------------------------------- */

#define LOG_BYTES 1024u
#define LOG_LINE 160u

static char waiting[LOG_BYTES];
static size_t n_waiting;
static portMUX_TYPE lock = portMUX_INITIALIZER_UNLOCKED;

/* Any task logs; the app's task alone writes to the line. What does not fit is dropped whole. */
static int keep(const char *format, va_list args)
{
    char line[LOG_LINE];
    const int n = vsnprintf(line, sizeof line, format, args);
    if (n <= 0)
        return n;
    const size_t bytes = (size_t)n < sizeof line ? (size_t)n : sizeof line - 1u;
    portENTER_CRITICAL(&lock);
    if (bytes <= sizeof waiting - n_waiting) {
        memcpy(waiting + n_waiting, line, bytes);
        n_waiting += bytes;
    }
    portEXIT_CRITICAL(&lock);
    return n;
}

void s3_log_open(void)
{
    (void)esp_log_set_vprintf(keep);
}

size_t s3_log_take(char *text, size_t cap)
{
    if (n_waiting == 0)
        return 0;
    portENTER_CRITICAL(&lock);
    const size_t n = n_waiting < cap ? n_waiting : cap;
    memcpy(text, waiting, n);
    n_waiting -= n;
    memmove(waiting, waiting + n, n_waiting);
    portEXIT_CRITICAL(&lock);
    return n;
}
