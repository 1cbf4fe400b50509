/* The board of an ESP32-S3, and the task that runs the app on core 0. */
#include "esp_log.h"
#include "esp_random.h"
#include "esp_system.h"
#include "esp_task_wdt.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "s3.h"
#include "sdkconfig.h"

#define STACK CONFIG_TLM_APP_STACK
#define PRIORITY 5u
#define REST_US 200000 /* busy for so long, the idle tasks get a tick */
#define FLUSH_MS 100u  /* for the driver to send what it was given */
#define SETTLE_MS 20u  /* for the main task to end and its stack to return to the heap */

static const char tag[] = "tlm";
static app_t app;
static board self;
static s3_extras extras;

static uint64_t clock_us(void *ctx)
{
    (void)ctx;
    return (uint64_t)esp_timer_get_time();
}

static uint64_t random64(void *ctx)
{
    (void)ctx;
    const uint64_t high = esp_random();
    return high << 32 | esp_random();
}

static void reboot(void *ctx)
{
    (void)ctx;
    vTaskDelay(pdMS_TO_TICKS(FLUSH_MS));
    esp_restart();
}

static void fill_board(void)
{
    self.ctx = &app;
    self.name = extras.name;
    self.read = s3_line_read;
    self.write = s3_line_write;
    self.stall_ms = 2000;
    self.max_text = CONFIG_TLM_MAX_TEXT;
    self.window = s3_line_window;
    self.clock_us = clock_us;
    self.random = random64;
    self.reboot = reboot;
    self.facts = s3_facts;
    self.models = s3_flash_models(&self.slots);
    self.settings = s3_flash_settings();
    self.benches = S3_BENCHES;
    self.bench = s3_bench;
    self.ui = extras.ui;
    self.session.batch = TLM_MAX_BATCH;
    self.session.head_rows = 256;
    self.session.pin = true;
    if (!s3_parallel_open(&self.session.parallel))
        ESP_LOGW(tag, "no second core: the model runs on one");
    self.n_pieces = s3_memory_take(self.pieces, S3_RESERVE + extras.reserve);
    /* Scratch for batches hides in pages of the cache where memory is short. */
    self.session.batch_in_pages = self.n_pieces == 0 || self.pieces[self.n_pieces - 1u].bytes < 1u << 20;
}

static void pass_logs(void)
{
    char text[128];
    if (frame_tx_room(&app.tx) < APP_ROOM)
        return;
    const size_t n = s3_log_take(text, sizeof text);
    for (size_t i = 0, from = 0; i < n; i++)
        if (text[i] == '\n') {
            frame_text(&app.tx, text + from, i - from);
            frame_text(&app.tx, "\r\n", 2);
            from = i + 1u;
        } else if (i + 1u == n) {
            frame_text(&app.tx, text + from, n - from);
        }
}

static void serve(void)
{
    int64_t rested = esp_timer_get_time();
    for (;;) {
        bool more = app_step(&app);
        more = (extras.poll != NULL && extras.poll(&app)) || more;
        more = s3_line_active() || more;
        pass_logs();
        (void)esp_task_wdt_reset();
        if (more && esp_timer_get_time() - rested < REST_US)
            continue;
        vTaskDelay(1);
        rested = esp_timer_get_time();
    }
}

/* The drivers are installed here because their interrupts run on the core that installs them, beside the app. */
static void run_app(void *arg)
{
    (void)arg;
    vTaskDelay(pdMS_TO_TICKS(SETTLE_MS));
    if (s3_line_open())
        s3_log_open();
    else
        ESP_LOGE(tag, "the serial driver does not start");
    fill_board();
    app_init(&app, &self);
    if (extras.ready != NULL)
        extras.ready(&app);
    (void)esp_task_wdt_add(NULL);
    serve();
}

void s3_start(const s3_extras *wanted)
{
    extras = *wanted;
    if (xTaskCreatePinnedToCore(run_app, "tlm_app", STACK, NULL, PRIORITY, NULL, 0) != pdPASS)
        ESP_LOGE(tag, "no memory for the app's task");
}
