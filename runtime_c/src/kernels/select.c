/* Which kernels a session runs. Backends stack: each later one overwrites the slots it has. */
#include <string.h>

#include "tlm_kernels.h"

#if defined(TLM_TARGET_ESP32S3)
#define TLM_BACKENDS {tlm_kernels_esp32s3}
#define TLM_BACKEND_NAMES {"esp32s3"}
#elif defined(TLM_HAVE_AVX512VNNI) && defined(TLM_HAVE_AVX2)
#define TLM_BACKENDS {tlm_kernels_avx2, tlm_kernels_avx512vnni}
#define TLM_BACKEND_NAMES {"avx2", "avx512vnni"}
#elif defined(TLM_HAVE_AVX2)
#define TLM_BACKENDS {tlm_kernels_avx2}
#define TLM_BACKEND_NAMES {"avx2"}
#endif

bool tlm_kernels_select(tlm_kernels *k, const char *name)
{
    tlm_kernels_ref(k);
    if (name != NULL && strcmp(name, k->name) == 0) {
        return true;
    }
#ifdef TLM_BACKENDS
    bool (*const fill[])(tlm_kernels *) = TLM_BACKENDS;
    const char *const names[] = TLM_BACKEND_NAMES;
    for (size_t i = 0; i < sizeof fill / sizeof fill[0]; i++) {
        const bool here = fill[i](k);
        if (name != NULL && strcmp(name, names[i]) == 0) {
            return here;
        }
    }
#endif
    return name == NULL;
}
