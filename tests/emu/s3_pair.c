/* s3_parallel.c on two threads of the desk: tasks are threads, a notification is a counting semaphore. */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "esp_cpu.h"
#include "freertos/task.h"
#include "s3.h"

struct tskTaskControlBlock {
    pthread_t thread;
    sem_t told;
    void (*code)(void *);
    void *arg;
};

static struct tskTaskControlBlock worker;
static atomic_uint wakes;

static void *start(void *arg)
{
    struct tskTaskControlBlock *task = arg;
    task->code(task->arg);
    return NULL;
}

BaseType_t xTaskCreatePinnedToCore(void (*code)(void *), const char *name, uint32_t stack_bytes, void *arg,
                                   UBaseType_t priority, TaskHandle_t *task, BaseType_t core)
{
    (void)name;
    (void)stack_bytes;
    (void)priority;
    worker.code = code;
    worker.arg = arg;
    *task = &worker;
    return core == 1 && sem_init(&worker.told, 0, 0) == 0 && pthread_create(&worker.thread, NULL, start, &worker) == 0;
}

uint32_t ulTaskNotifyTake(BaseType_t clear, TickType_t ticks)
{
    (void)clear;
    (void)ticks;
    (void)sem_wait(&worker.told);
    return 1;
}

BaseType_t xTaskNotifyGive(TaskHandle_t task)
{
    atomic_fetch_add(&wakes, 1u);
    return sem_post(&task->told) == 0;
}

uint32_t esp_cpu_get_cycle_count(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint32_t)((uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec);
}

typedef struct tally {
    uint32_t plain[2]; /* not atomic: each round must be seen whole by the next */
    uint32_t round;
} tally;

static void count(void *arg, uint32_t part, uint32_t parts)
{
    tally *t = arg;
    if (parts == 2 && t->plain[part] == t->round)
        t->plain[part]++;
}

int main(int argc, char **argv)
{
    static tally t;
    tlm_parallel pair;
    const uint32_t rounds = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000u;
    if (!s3_parallel_open(&pair) || pair.parts != 2)
        return 1;
    for (t.round = 0; t.round < rounds; t.round++) {
        pair.run(pair.ctx, count, &t);
        if (t.plain[0] != t.round + 1u || t.plain[1] != t.round + 1u)
            return 2;
        if (t.round % 64u == 63u) /* long enough for the worker to fall asleep, at times just about */
            (void)usleep(t.round % 4096u == 63u ? 2000 : 61);
    }
    printf("%u rounds, %u wakes\n", rounds, atomic_load(&wakes));
    return atomic_load(&wakes) > 0 ? 0 : 3;
}
