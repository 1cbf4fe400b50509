/* QEMU plugin: instructions executed between calls of `mark`. Arguments: mark=ADDRESS, marks=N, out=FILE, and where given
 * skip=LOW:HIGH, addresses whose code does not count. A line "instructions divisions" for each mark, totals since the start;
 * divisions are fdiv.s of RISC-V. The N-th mark ends the emulator.
 *
 * Debian ships no header of this interface (version 1, QEMU 4.2 on): what is used of it is declared here. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                                  void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t at);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
extern void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int add, void *to, uint64_t by);
extern void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*cb)(unsigned, void *),
                                                   int no_registers, void *data);

int qemu_plugin_version = 1;

static uint64_t instructions, divisions, mark, low, high;
static unsigned left;
static FILE *out;

static void marked(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    fprintf(out, "%" PRIu64 " %" PRIu64 "\n", instructions, divisions);
    if (--left == 0) {
        fclose(out);
        _Exit(0);
    }
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const uint64_t at = qemu_plugin_insn_vaddr(insn);
        uint32_t word = 0;
        if (at == mark) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, marked, 0, NULL);
        }
        if (at >= low && at < high) {
            continue;
        }
        qemu_plugin_register_vcpu_insn_exec_inline(insn, 0, &instructions, 1);
        if (qemu_plugin_insn_size(insn) == sizeof word) {
            memcpy(&word, qemu_plugin_insn_data(insn), sizeof word);
        }
        if ((word & 0xfe00007fu) == 0x18000053u) {
            qemu_plugin_register_vcpu_insn_exec_inline(insn, 0, &divisions, 1);
        }
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "mark=", 5) == 0) {
            mark = strtoull(argv[i] + 5, NULL, 0);
        } else if (strncmp(argv[i], "marks=", 6) == 0) {
            left = (unsigned)strtoul(argv[i] + 6, NULL, 0);
        } else if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "w");
        } else if (sscanf(argv[i], "skip=%" SCNx64 ":%" SCNx64, &low, &high) != 2) {
            return -1;
        }
    }
    if (out == NULL || left == 0) {
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
