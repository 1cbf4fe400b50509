/* What the files of the Python library share. */
#ifndef TLM_PY_H
#define TLM_PY_H

#include "tlm.h"

typedef struct tlm_py_model {
    tlm_model model;
    void *memory;
} tlm_py_model;

/* Options of a session; mirrors a ctypes.Structure. */
typedef struct tlm_py_options {
    uint32_t context, kv_type, kv_groups, batch, head_rows, threads;
    uint8_t batch_in_pages, repack, pin;
    uint64_t own[TLM_OWN_BLOCKS];
    const char *backend;
} tlm_py_options;

tlm_config tlm_py_config(const tlm_model *model, const tlm_py_options *options);

static inline void *tlm_py_align64(void *memory)
{
    return (void *)(((uintptr_t)memory + 63u) & ~(uintptr_t)63u);
}

#endif
