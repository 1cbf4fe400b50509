#pragma once
#include <stdarg.h>
typedef int (*vprintf_like_t)(const char *format, va_list args);
vprintf_like_t esp_log_set_vprintf(vprintf_like_t function);
void esp_log_write_stub(const char *tag, const char *format, ...);
#define ESP_LOGE(tag, ...) esp_log_write_stub(tag, __VA_ARGS__)
#define ESP_LOGW(tag, ...) esp_log_write_stub(tag, __VA_ARGS__)
