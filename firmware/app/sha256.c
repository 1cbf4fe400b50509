#include "sha256.h"

static uint32_t rotr(uint32_t x, unsigned n)
{
    return x >> n | x << (32u - n);
}

static void block(sha256 *s)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t w[16], v[8];
    for (unsigned i = 0; i < 16; i++) {
        const uint8_t *p = s->block + 4u * i;
        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
    }
    for (unsigned i = 0; i < 8; i++)
        v[i] = s->h[i];
    for (unsigned i = 0; i < 64; i++) {
        if (i >= 16) {
            const uint32_t a = w[(i + 1) % 16], b = w[(i + 14) % 16];
            w[i % 16] += (rotr(a, 7) ^ rotr(a, 18) ^ a >> 3) + w[(i + 9) % 16] + (rotr(b, 17) ^ rotr(b, 19) ^ b >> 10);
        }
        const uint32_t t1 = v[7] + (rotr(v[4], 6) ^ rotr(v[4], 11) ^ rotr(v[4], 25)) +
                            ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i % 16];
        const uint32_t t2 = (rotr(v[0], 2) ^ rotr(v[0], 13) ^ rotr(v[0], 22)) +
                            ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        for (unsigned j = 7; j > 0; j--)
            v[j] = v[j - 1];
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (unsigned i = 0; i < 8; i++)
        s->h[i] += v[i];
}

void sha256_init(sha256 *s)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    for (unsigned i = 0; i < 8; i++)
        s->h[i] = start[i];
    s->bytes = 0;
}

void sha256_add(sha256 *s, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    while (bytes-- > 0) {
        s->block[s->bytes++ % 64u] = *p++;
        if (s->bytes % 64u == 0)
            block(s);
    }
}

void sha256_end(sha256 *s, uint8_t digest[32])
{
    const uint64_t bits = s->bytes * 8u;
    const uint8_t one = 0x80, zero = 0;
    sha256_add(s, &one, 1);
    while (s->bytes % 64u != 56u)
        sha256_add(s, &zero, 1);
    for (unsigned i = 0; i < 8; i++) {
        const uint8_t byte = (uint8_t)(bits >> (56u - 8u * i));
        sha256_add(s, &byte, 1);
    }
    for (unsigned i = 0; i < 32; i++)
        digest[i] = (uint8_t)(s->h[i / 4] >> (24u - 8u * (i % 4u)));
}
