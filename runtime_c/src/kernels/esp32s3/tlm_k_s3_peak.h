/* The largest magnitude of some floats, for the assembly kernels (assembler only).
 *
 * PEAK: \peak = max(bits(x) & 0x7fffffff) over `vectors` (a register, >= 1, lost) of four values from `at` on, which moves past
 * them; q6 holds four of 0x7FFFFFFF. \w0-\w2, q0-q2 are lost. `end` is a label. */
    .macro PEAK at, vectors, peak, w0, w1, w2, end
    ee.vld.128.ip q0, \at, 16
    ee.zero.q q2
    addi \vectors, \vectors, -1
    loopnez \vectors, \end
    ee.andq q1, q0, q6
    ee.vmax.s32.ld.incp q0, \at, q2, q2, q1
\end:
    ee.andq q1, q0, q6
    ee.vmax.s32 q2, q2, q1
    ee.movi.32.a q2, \peak, 0
    ee.movi.32.a q2, \w0, 1
    ee.movi.32.a q2, \w1, 2
    ee.movi.32.a q2, \w2, 3
    max \peak, \peak, \w0
    max \w1, \w1, \w2
    max \peak, \peak, \w1
    .endm
