#define _POSIX_C_SOURCE 200809L
#include "tlm_pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

/* A tiny model hands out work every few microseconds: waiters look this often before they sleep. */
#define SPINS 4000u

typedef struct worker {
    tlm_pool *pool;
    pthread_t thread;
    uint32_t part;
} worker;

struct tlm_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    void (*job)(void *arg, uint32_t part, uint32_t parts);
    void *arg;
    uint32_t parts, started;
    uint32_t round; /* atomic: a new value means new work, or the end */
    uint32_t left;  /* atomic: workers still busy with this round */
    bool stop;
    worker workers[TLM_MAX_PARTS];
};

static uint32_t await_round(tlm_pool *pool, uint32_t seen)
{
    for (uint32_t i = 0; i < SPINS; i++) {
        const uint32_t now = __atomic_load_n(&pool->round, __ATOMIC_ACQUIRE);
        if (now != seen) {
            return now;
        }
    }
    pthread_mutex_lock(&pool->lock);
    while (__atomic_load_n(&pool->round, __ATOMIC_ACQUIRE) == seen) {
        pthread_cond_wait(&pool->wake, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return __atomic_load_n(&pool->round, __ATOMIC_ACQUIRE);
}

static void *work(void *arg)
{
    worker *self = arg;
    tlm_pool *pool = self->pool;
    uint32_t seen = 0;
    for (;;) {
        seen = await_round(pool, seen);
        if (pool->stop) {
            return NULL;
        }
        pool->job(pool->arg, self->part, pool->parts);
        __atomic_sub_fetch(&pool->left, 1u, __ATOMIC_ACQ_REL);
    }
}

static void next_round(tlm_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    __atomic_add_fetch(&pool->round, 1u, __ATOMIC_ACQ_REL);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

static void run(void *ctx, void (*job)(void *arg, uint32_t part, uint32_t parts), void *arg)
{
    tlm_pool *pool = ctx;
    pool->job = job;
    pool->arg = arg;
    __atomic_store_n(&pool->left, pool->parts - 1u, __ATOMIC_RELEASE);
    next_round(pool);
    job(arg, 0, pool->parts);
    for (uint32_t i = 0; __atomic_load_n(&pool->left, __ATOMIC_ACQUIRE) != 0; i++) {
        if (i > SPINS) {
            sched_yield();
        }
    }
}

tlm_pool *tlm_pool_new(uint32_t parts)
{
    tlm_pool *pool = parts >= 2 && parts <= TLM_MAX_PARTS ? calloc(1, sizeof *pool) : NULL;
    if (pool == NULL) {
        return NULL;
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pool->parts = parts;
    for (uint32_t part = 1; part < parts; part++) {
        worker *w = &pool->workers[part];
        w->pool = pool;
        w->part = part;
        if (pthread_create(&w->thread, NULL, work, w) != 0) {
            tlm_pool_free(pool);
            return NULL;
        }
        pool->started = part;
    }
    return pool;
}

void tlm_pool_free(tlm_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    pool->stop = true;
    next_round(pool);
    for (uint32_t part = 1; part <= pool->started; part++) {
        pthread_join(pool->workers[part].thread, NULL);
    }
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

tlm_parallel tlm_pool_parallel(tlm_pool *pool)
{
    const tlm_parallel parallel = {run, pool, pool->parts};
    return parallel;
}
