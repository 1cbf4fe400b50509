/* tlm-sim: the firmware's app as a program on the desk. */
#define _DEFAULT_SOURCE
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "line.h"
#include "sim_board.h"
#include "tlm_pool.h"

static const char usage[] =
    "usage: tlm-sim [BLOB] [options]\n"
    "  BLOB               a .tlm file, used in place\n"
    "  --flash IMAGE      emulated flash with model slots, made when missing; a BLOB becomes its first model\n"
    "  --flash-bytes N    size of a new image (8 MiB)     --slots N      1 or 2 (2)\n"
    "  --like BOARD       memory, batch and head of a board of boards.toml, such as cardputer\n"
    "  --context N        positions                       --kv TYPE      f32, f16, i8, i4\n"
    "  --batch N          tokens of a prefill slice       --head-rows N  logits at once, 0 = all\n"
    "  --memory BYTES     in one piece                    --threads N    (1)\n"
    "  --backend NAME     ref, avx2, avx512vnni\n"
    "  --pty | --tcp PORT a pseudo terminal, or a port of this machine (0: any); else standard streams\n";

typedef struct desk {
    sim_board sim;
    sim_line line;
    app_t app;
    uint64_t start;
} desk;

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "tlm-sim: %s: %s\n", what, why);
    return 1;
}

static uint64_t desk_clock(void *ctx)
{
    struct timespec t;
    (void)ctx;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* sim_board is the first member of desk, so that its own functions take the same ctx. */
static size_t desk_read(void *ctx, uint8_t *data, size_t cap)
{
    return line_read(&((desk *)ctx)->line, data, cap);
}

static size_t desk_write(void *ctx, const uint8_t *data, size_t bytes)
{
    return line_write(&((desk *)ctx)->line, data, bytes);
}

static uint64_t true_random(void)
{
    uint64_t value = 0;
    const int fd = open("/dev/urandom", O_RDONLY);
    if (fd >= 0) {
        (void)!read(fd, &value, sizeof value);
        (void)close(fd);
    }
    return value ^ desk_clock(NULL);
}

/* A fresh image as erased flash, written rather than mapped: a full disk is an error here, and a signal there. */
static bool fill_erased(int fd, size_t size)
{
    static uint8_t erased[SIM_SECTOR];
    memset(erased, 0xFF, sizeof erased);
    for (size_t at = 0; at < size;) {
        const size_t left = size - at;
        const ssize_t n = write(fd, erased, left < sizeof erased ? left : sizeof erased);
        if (n <= 0) {
            const int why = errno;
            (void)!ftruncate(fd, 0);
            errno = why;
            return false;
        }
        at += (size_t)n;
    }
    return true;
}

/* Maps a file; `size` 0 takes the file's own and reads only, else it is made that large and shared. */
static void *map_file(const char *path, size_t *size)
{
    struct stat info;
    const bool writable = *size != 0;
    errno = 0;
    const int fd = open(path, writable ? O_RDWR | O_CREAT : O_RDONLY, 0644);
    if (fd < 0)
        return NULL;
    void *at = MAP_FAILED;
    if (fstat(fd, &info) == 0) {
        const bool fresh = writable && info.st_size == 0;
        if (!fresh)
            *size = (size_t)info.st_size;
        if (*size > 0 && (!fresh || fill_erased(fd, *size)))
            at = mmap(NULL, *size, writable ? PROT_READ | PROT_WRITE : PROT_READ, writable ? MAP_SHARED : MAP_PRIVATE, fd, 0);
    }
    (void)close(fd);
    return at == MAP_FAILED ? NULL : at;
}

/* A blob for a flash image without a model goes the way of an upload. */
static uint16_t install(board *b, const uint8_t *blob, size_t bytes)
{
    store s;
    sha256 hash;
    uint8_t digest[32], slot = 0;
    uint32_t detail = 0;
    store_init(&s, b->models, b->slots);
    if (store_newest(&s, UINT32_MAX) != PROTO_AUTO)
        return PROTO_ERROR_NONE;
    sha256_init(&hash);
    sha256_add(&hash, blob, bytes);
    sha256_end(&hash, digest);
    uint16_t error = store_choose(&s, PROTO_AUTO, PROTO_AUTO, (uint32_t)bytes, &slot, &detail);
    if (error == PROTO_ERROR_NONE)
        error = store_begin(&s, slot, (uint32_t)bytes, digest);
    for (uint32_t at = 0; at < bytes && error == PROTO_ERROR_NONE; at += PROTO_MAX_CHUNK) {
        const uint32_t n = bytes - at < PROTO_MAX_CHUNK ? (uint32_t)(bytes - at) : PROTO_MAX_CHUNK;
        error = store_chunk(&s, at, app_crc32(0, blob + at, n), blob + at, n, &detail);
    }
    if (error != PROTO_ERROR_NONE)
        return error;
    s.slot[slot].state = PROTO_SLOT_STATE_VERIFIED;
    return store_activate(&s);
}

typedef struct arguments {
    sim_options sim;
    const char *blob, *flash;
    uint32_t flash_bytes, threads;
    long port;
    bool pty;
} arguments;

static bool number(const char *text, uint32_t *out)
{
    char *end;
    const unsigned long value = strtoul(text, &end, 10);
    *out = (uint32_t)value;
    return *text != 0 && *text != '-' && *end == 0 && value <= 0xFFFFFFFFul;
}

static bool parse(int argc, char **argv, arguments *a)
{
    uint32_t slots = 2, port = 0;
    bool tcp = false;
    const struct {
        const char *name;
        uint32_t *number;
        const char **text;
    } options[] = {
        {"--flash", NULL, &a->flash},           {"--flash-bytes", &a->flash_bytes, NULL}, {"--slots", &slots, NULL},
        {"--like", NULL, &a->sim.like},         {"--context", &a->sim.context, NULL},     {"--kv", NULL, &a->sim.kv},
        {"--batch", &a->sim.batch, NULL},       {"--head-rows", &a->sim.head_rows, NULL}, {"--memory", &a->sim.memory, NULL},
        {"--threads", &a->threads, NULL},       {"--backend", NULL, &a->sim.backend},     {"--tcp", &port, NULL},
    };
    for (int i = 1; i < argc; i++) {
        size_t o = 0;
        const size_t n = sizeof options / sizeof options[0];
        if (strcmp(argv[i], "--pty") == 0) {
            a->pty = true;
            continue;
        }
        if (argv[i][0] != '-' && a->blob == NULL) {
            a->blob = argv[i];
            continue;
        }
        while (o < n && strcmp(argv[i], options[o].name) != 0)
            o++;
        if (o == n || ++i == argc || (options[o].number != NULL && !number(argv[i], options[o].number)))
            return false;
        if (options[o].text != NULL)
            *options[o].text = argv[i];
        tcp = tcp || options[o].number == &port;
    }
    a->sim.slots = (uint8_t)slots;
    a->port = tcp ? (long)port : -1;
    return (slots == 1 || slots == 2) && port <= 65535 && a->threads >= 1 && a->threads <= TLM_MAX_PARTS;
}

/* Any other file that is named by mistake must not be written to. */
static bool is_flash(const uint8_t *flash, size_t bytes)
{
    uint32_t first;
    if (bytes < 4u * SIM_SECTOR + SIM_SETTINGS_BYTES || bytes % SIM_SECTOR != 0 || bytes > UINT32_MAX)
        return false;
    memcpy(&first, flash, sizeof first);
    return first == STORE_HEADER_MAGIC || first == 0xFFFFFFFFu;
}

/* The model: a blob in place, or flash. 0 or an exit status. */
static int give_model(board *b, sim_board *sim, const arguments *a)
{
    size_t bytes = 0, flash_bytes = a->flash_bytes + SIM_SETTINGS_BYTES;
    const void *blob = NULL;
    if (a->blob != NULL && (blob = map_file(a->blob, &bytes)) == NULL)
        return fail(a->blob, errno != 0 ? strerror(errno) : "the file is empty");
    if (a->flash == NULL) {
        tlm_model model;
        const tlm_err err = blob != NULL ? tlm_model_open(&model, blob, bytes) : TLM_OK;
        b->fixed_model = blob;
        b->fixed_bytes = bytes;
        return err == TLM_OK ? 0 : fail(a->blob, tlm_err_text(err));
    }
    uint8_t *flash = map_file(a->flash, &flash_bytes);
    if (flash == NULL)
        return fail(a->flash, strerror(errno));
    if (!is_flash(flash, flash_bytes))
        return fail(a->flash, "not a flash image");
    sim_board_flash(sim, flash, (uint32_t)flash_bytes - SIM_SETTINGS_BYTES);
    const uint16_t error = blob != NULL ? install(b, blob, bytes) : PROTO_ERROR_NONE;
    return error == PROTO_ERROR_NONE ? 0 : fail(a->flash, proto_error_text(error));
}

static void serve(desk *d)
{
    for (;;) {
        const bool more = app_step(&d->app);
        if (d->sim.reboot_wanted) {
            d->sim.reboot_wanted = false;
            sim_flash_power(&d->sim.models, 0);
            app_init(&d->app, &d->sim.board);
            continue;
        }
        const bool output_waits = frame_tx_room(&d->app.tx) != FRAME_TX_BYTES;
        if (d->line.ended && !more && !output_waits)
            return;
        if (!more)
            line_wait(&d->line, output_waits);
    }
}

int main(int argc, char **argv)
{
    static desk d;
    static tlm_parallel parallel;
    arguments a;
    memset(&a, 0, sizeof a);
    sim_options_default(&a.sim);
    a.flash_bytes = 8u << 20;
    a.threads = 1;
    if (!parse(argc, argv, &a)) {
        fputs(usage, stderr);
        return 2;
    }
    tlm_pool *pool = a.threads > 1 ? tlm_pool_new(a.threads) : NULL;
    if (pool != NULL) {
        parallel = tlm_pool_parallel(pool);
        a.sim.parallel = &parallel;
    }
    const char *wrong = sim_board_init(&d.sim, &a.sim);
    if (wrong != NULL)
        return fail("options", wrong);
    d.sim.board.ctx = &d;
    d.sim.board.read = desk_read;
    d.sim.board.write = desk_write;
    d.sim.board.clock_us = desk_clock;
    d.sim.random = true_random();
    const int status = give_model(&d.sim.board, &d.sim, &a);
    if (status != 0)
        return status;
    (void)signal(SIGPIPE, SIG_IGN);
    wrong = a.pty ? line_open_pty(&d.line) : a.port >= 0 ? line_open_tcp(&d.line, (uint16_t)a.port) : line_open_stdio(&d.line);
    if (wrong != NULL)
        return fail("line", wrong);
    app_init(&d.app, &d.sim.board);
    serve(&d);
    tlm_pool_free(pool);
    sim_board_free(&d.sim);
    return 0;
}
