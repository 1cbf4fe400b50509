/* From reset to main, and vectors that end the emulator with status 100 + EXCCAUSE (through a simcall). */

    .section .text.start, "ax"
    .literal_position
    .global _start
    .align  4
_start:
    movi    a1, __stack_top
    movi    a2, vectors
    .byte   0x20, 0xe7, 0x13            /* wsr.vecbase a2: Debian's assembler lacks the name */
    movi    a3, 0x20                    /* no window overflow, no interrupt level */
    wsr     a3, ps
    rsync
    movi    a2, __bss_start
    movi    a3, __bss_end
    movi    a4, 0
1:  bgeu    a2, a3, 2f
    s32i    a4, a2, 0
    addi    a2, a2, 4
    j       1b
2:  movi    a0, main
    callx0  a0
    j       .

/* Every vector of the core lies at a multiple of 16 in these 4 KB. */
    .section .vectors, "ax"
    .align  4096
vectors:
    .rept   256
    rsr     a3, exccause
    movi    a2, 100
    add     a3, a3, a2
    movi    a2, 1
    simcall
    .align  16
    .endr
