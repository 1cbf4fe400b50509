/* Threads for tlm_parallel, for hosts with POSIX threads. */
#ifndef TLM_POOL_H
#define TLM_POOL_H

#include "tlm.h"

typedef struct tlm_pool tlm_pool;

/* parts - 1 threads that wait for work; the caller's thread is part 0. NULL: no memory or no threads.
 * parts is 2..TLM_MAX_PARTS. */
tlm_pool *tlm_pool_new(uint32_t parts);
void tlm_pool_free(tlm_pool *pool);

/* What tlm_config.parallel takes. One session uses a pool at a time. */
tlm_parallel tlm_pool_parallel(tlm_pool *pool);

#endif
