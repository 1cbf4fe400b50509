/* Times llama2.c, whose run.c the user has: cc -Ofast -march=native -DRUN_C='"/path/to/run.c"' peer_llama2c.c -lm.
 *
 * Usage: peer_llama2c MODEL.bin; then, for each line "prompt decode" on standard input, a line with the seconds of the
 * prompt (token by token: it has no batches) and of the greedy decode, argmax included. */
#define TESTING /* leaves its main out */
#include RUN_C

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    Transformer model;
    int prompt, decode;
    if (argc != 2) {
        return 2;
    }
    build_transformer(&model, argv[1]);
    const int vocab = model.config.vocab_size;
    while (scanf("%d %d", &prompt, &decode) == 2) {
        float *logits = NULL;
        int at = 0;
        const double t0 = seconds();
        for (; at < prompt; at++) {
            logits = forward(&model, (int)((at * 7919ull + 11u) % (unsigned)vocab), at);
        }
        const double t1 = seconds();
        for (; at < prompt + decode; at++) {
            logits = forward(&model, sample_argmax(logits, vocab), at);
        }
        printf("%.9f %.9f\n", t1 - t0, seconds() - t1);
        fflush(stdout);
    }
    return 0;
}
