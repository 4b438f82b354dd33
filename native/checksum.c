/*
 * checksum.c - the Internet checksum (RFC 1071), as fast as the machine allows.
 *
 * The sum does not depend on byte order (RFC 1071 2 B): words are added as the machine loads them, and only the result
 * is swapped. All variants add 32-bit words into 64-bit lanes, which cannot overflow below 2^32 words, so there are no
 * carries to follow. They differ in how many lanes they have.
 */
#include "checksum.h"

#include "api.h"
#include "bytes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static uint16_t swap_to_host(uint16_t sum)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (uint16_t)(sum << 8 | sum >> 8);
#else
    return sum;
#endif
}

/* Add the bytes to lanes that are 64 bits wide; the result is in the machine's byte order. */
static uint64_t add_words(uint64_t sum, const uint8_t *data, size_t len)
{
    for (; len >= 4; data += 4, len -= 4) {
        uint32_t word;
        memcpy(&word, data, 4);
        sum += word;
    }
    if (len) {
        uint32_t word = 0;
        memcpy(&word, data, len);
        sum += word;
    }
    return sum;
}

static uint16_t sum_portable(const uint8_t *data, size_t len)
{
    return swap_to_host(dp_sum_fold(add_words(0, data, len)));
}

static int always(void)
{
    return 1;
}

#if defined(__x86_64__)

__attribute__((target("avx2"))) static uint16_t sum_avx2(const uint8_t *data, size_t len)
{
    const __m256i low = _mm256_set1_epi64x(0xffffffff);
    __m256i even = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
    for (; len >= 32; data += 32, len -= 32) {
        __m256i words = _mm256_loadu_si256((const __m256i *)data);
        even = _mm256_add_epi64(even, _mm256_and_si256(words, low));
        odd = _mm256_add_epi64(odd, _mm256_srli_epi64(words, 32));
    }
    uint64_t lanes[4];
    _mm256_storeu_si256((__m256i *)lanes, _mm256_add_epi64(even, odd));
    return swap_to_host(dp_sum_fold(add_words(lanes[0] + lanes[1] + lanes[2] + lanes[3], data, len)));
}

static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}

__attribute__((target("avx512f,avx512bw"))) static uint16_t sum_avx512(const uint8_t *data, size_t len)
{
    const __m512i low = _mm512_set1_epi64(0xffffffff);
    __m512i even = _mm512_setzero_si512(), odd = _mm512_setzero_si512();
    for (; len >= 64; data += 64, len -= 64) {
        __m512i words = _mm512_loadu_si512(data);
        even = _mm512_add_epi64(even, _mm512_and_si512(words, low));
        odd = _mm512_add_epi64(odd, _mm512_srli_epi64(words, 32));
    }
    if (len) {
        __m512i words = _mm512_maskz_loadu_epi8((1ULL << len) - 1, data);
        even = _mm512_add_epi64(even, _mm512_and_si512(words, low));
        odd = _mm512_add_epi64(odd, _mm512_srli_epi64(words, 32));
    }
    return swap_to_host(dp_sum_fold((uint64_t)_mm512_reduce_add_epi64(_mm512_add_epi64(even, odd))));
}

static int has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

#endif

const struct dp_sum_variant dp_sum_variants[] = {
#if defined(__x86_64__)
    {"avx512", sum_avx512, has_avx512},
    {"avx2", sum_avx2, has_avx2},
#endif
    {"portable", sum_portable, always},
    {0},
};

static const struct dp_sum_variant *best;

__attribute__((constructor)) static void choose_variant(void)
{
    best = dp_sum_variants;
    while (!best->usable())
        best++;
}

const char *dp_checksum_variant(void)
{
    return best->name;
}

uint16_t dp_sum(const uint8_t *data, size_t len)
{
    return best->sum(data, len);
}

uint16_t dp_sum_pseudo_header(const uint8_t *addresses, size_t address_len, uint8_t protocol, size_t len)
{
    uint64_t sum = dp_sum_fold(protocol + (uint64_t)len);
    for (size_t i = 0; i < 2 * address_len; i += 2)
        sum += get_be16(addresses + i);
    return dp_sum_fold(sum);
}

uint16_t dp_checksum(const uint8_t *data, size_t len)
{
    return (uint16_t)~dp_sum(data, len);
}
