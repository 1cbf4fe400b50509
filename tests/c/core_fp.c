/* Does the self-test notice arithmetic that breaks NUMERICS.md. Usage: core_fp EXPECTED [ftz], a number of tlm_err. */
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include "check.h"
#include "tlm.h"

int main(int argc, char **argv)
{
    CHECK(argc >= 2);
#if defined(__SSE2__)
    if (argc > 2) {
        _mm_setcsr(_mm_getcsr() | (unsigned)strtoul(argv[2], NULL, 0));
    }
#endif
    CHECK(tlm_self_test() == (tlm_err)atoi(argv[1]));
    printf("ok\n");
    return 0;
}
