/* A prompt of 60 tokens, a decode step at position 40 and a draw, on RISC-V with the ESP32-S3's C files: marks around each, and
 * the list of assembly calls after. The model lies at BLOB. */
#include "tlm.h"
#pragma GCC optimize("no-tree-loop-distribute-patterns") /* memset is here */

#define BLOB ((const void *)0x83000000u)
enum { PROMPT = 60, POSITION = 40, HEAD_ROWS = 1024, CONTEXT = 128 };

/* As the C library of the ESP32-S3 has it: by words, four a turn. */
void *memset(void *to, int value, size_t bytes)
{
    uint8_t *at = to;
    const uint32_t word = 0x01010101u * (uint8_t)value;
    for (; bytes != 0 && (uintptr_t)at % 4u != 0; bytes--) {
        *at++ = (uint8_t)value;
    }
    for (; bytes >= 16u; bytes -= 16u, at += 16) {
        for (uint32_t i = 0; i < 4u; i++) {
            ((uint32_t *)(void *)at)[i] = word;
        }
    }
    while (bytes-- != 0) {
        *at++ = (uint8_t)value;
    }
    return to;
}

void calls_out(void);
extern char __start_stub_text[], __stop_stub_text[];
const void *const stub_text[] = {__start_stub_text, __stop_stub_text};

static uint8_t memory[1 << 20] __attribute__((aligned(64)));

__attribute__((noinline)) void mark(void)
{
    __asm__ volatile("" ::"r"(stub_text) : "memory");
}

static void end_of_window(void)
{
    mark();
    calls_out();
}

int main(void)
{
    static tlm_model model;
    static tlm_session session;
    static tlm_sampler sampler;
    static uint32_t ids[PROMPT];
    const tlm_mem piece = {memory, sizeof memory};
    tlm_config config;
    tlm_sampling sampling;
    tlm_choice choice;
    tlm_err err = tlm_model_open(&model, BLOB, BLOB_BYTES);
    tlm_config_default(&config, &model);
    config.context = CONTEXT;
    config.kv_type = KV_TYPE;
    config.kv_groups = KV_GROUPS;
    config.head_rows = HEAD_ROWS;
    config.backend = "esp32s3";
    err = err != TLM_OK ? err : tlm_session_init(&session, &model, &config, &piece, 1);
    tlm_sampling_default(&sampling, &model);
    sampling.temperature = 0.8f;
    sampling.top_k = 40;
    err = err != TLM_OK ? err : tlm_sampler_init(&sampler, &sampling);
    const tlm_sink sink = tlm_sampler_sink(&sampler);
    for (uint32_t i = 0; i < PROMPT; i++) {
        ids[i] = (i * 2654435761u >> 8) % model.spec->vocab;
    }
    if (err != TLM_OK) {
        return 1;
    }
    mark();
    err = tlm_eval(&session, ids, PROMPT, NULL, &sink);
    end_of_window();
    if (err != TLM_OK || tlm_rewind(&session, POSITION) != TLM_OK) {
        return 2;
    }
    mark();
    err = tlm_eval(&session, ids, 1, NULL, &sink);
    end_of_window();
    mark();
    err = err != TLM_OK ? err : tlm_sample(&sampler, &choice);
    end_of_window();
    mark();
    return 0;
}
