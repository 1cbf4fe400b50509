/* Two cores. A tiny model hands out work every few microseconds and waking a task costs some thirty, so the worker
 * looks for work a while before it sleeps. Its tasks are pinned: the vector unit's registers do not move between
 * cores. */
#include <stdatomic.h>

#include "esp_cpu.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "s3.h"

#define PARTS 2u
#define WORKER_STACK 6144u /* the vector kernels keep 3.7 KB there, saved registers take 0.6 KB */
#define WORKER_PRIORITY 5u
#define SPIN_CYCLES 60000u /* a quarter of a millisecond at 240 MHz */

static struct {
    TaskHandle_t worker;
    void (*job)(void *arg, uint32_t part, uint32_t parts);
    void *arg;
    atomic_uint given, done; /* rounds */
    atomic_bool asleep;
} pair;

/* Asleep is said before the last look, so that a round is either seen here or wakes the worker. */
static void await_round(uint32_t seen)
{
    const uint32_t start = esp_cpu_get_cycle_count();
    while (atomic_load(&pair.given) == seen)
        if ((uint32_t)esp_cpu_get_cycle_count() - start > SPIN_CYCLES) {
            atomic_store(&pair.asleep, true);
            while (atomic_load(&pair.given) == seen)
                (void)ulTaskNotifyTake(pdTRUE, portMAX_DELAY);
            atomic_store(&pair.asleep, false);
        }
}

static void work(void *arg)
{
    uint32_t round = 0;
    (void)arg;
    for (;;) {
        await_round(round);
        round++;
        pair.job(pair.arg, 1, PARTS);
        atomic_store(&pair.done, round);
    }
}

static void run(void *ctx, void (*job)(void *arg, uint32_t part, uint32_t parts), void *arg)
{
    (void)ctx;
    pair.job = job;
    pair.arg = arg;
    const uint32_t round = atomic_fetch_add(&pair.given, 1u) + 1u;
    if (atomic_load(&pair.asleep))
        (void)xTaskNotifyGive(pair.worker);
    job(arg, 0, PARTS);
    while (atomic_load(&pair.done) != round) {
    }
}

bool s3_parallel_open(tlm_parallel *parallel)
{
    if (xTaskCreatePinnedToCore(work, "tlm_worker", WORKER_STACK, NULL, WORKER_PRIORITY, &pair.worker, 1) != pdPASS)
        return false;
    parallel->run = run;
    parallel->ctx = NULL;
    parallel->parts = PARTS;
    return true;
}
