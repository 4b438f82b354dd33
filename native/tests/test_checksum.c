/* test_checksum.c - every variant of the sum is the sum, for any length, address and content. */
#include "api.h"
#include "bytes.h"
#include "check.h"
#include "checksum.h"

#include <string.h>

static uint16_t slow_sum(const uint8_t *data, size_t len)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < len; i++) {
        sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
        sum = sum > 0xffff ? sum - 0xffff : sum;
    }
    return (uint16_t)sum;
}

static void test_variants_agree(void)
{
    static uint8_t data[65536 + 64];
    uint64_t seed = 1;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)next_random(&seed);
    for (const struct dp_sum_variant *variant = dp_sum_variants; variant->name; variant++) {
        if (!variant->usable())
            continue;
        printf("   %s\n", variant->name);
        for (size_t len = 0; len < 400; len++)
            for (size_t at = 0; at < 9; at++)
                CHECK(variant->sum(data + at, len) == slow_sum(data + at, len));
        for (size_t len = 65000; len <= 65536; len += 67)
            CHECK(variant->sum(data + 1, len) == slow_sum(data + 1, len));
    }
}

static void test_carries(void)
{
    uint8_t ones[4096];

    memset(ones, 0xff, sizeof ones);
    for (const struct dp_sum_variant *variant = dp_sum_variants; variant->name; variant++)
        if (variant->usable())
            for (size_t len = 2; len <= sizeof ones; len += 2)
                CHECK(variant->sum(ones, len) == 0xffff);
    CHECK(dp_sum(ones, 0) == 0);
    CHECK(dp_sum(ones, 1) == 0xff00);
}

static void test_example_of_rfc_1071(void)
{
    static const uint8_t data[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    CHECK(dp_sum(data, sizeof data) == 0xddf2);
}

static void test_update_is_what_computing_anew_gives(void)
{
    uint64_t seed = 7;

    for (int round = 0; round < 10000; round++) {
        uint8_t header[20];
        for (size_t i = 0; i < sizeof header; i++)
            header[i] = (uint8_t)next_random(&seed);
        uint16_t before = dp_checksum(header, sizeof header), old_word = get_be16(header + 8);
        put_be16(header + 8, (uint16_t)next_random(&seed));
        CHECK(dp_checksum_update(before, old_word, get_be16(header + 8)) == dp_checksum(header, sizeof header));
    }
}

int main(void)
{
    RUN(test_variants_agree);
    RUN(test_carries);
    RUN(test_example_of_rfc_1071);
    RUN(test_update_is_what_computing_anew_gives);
    return 0;
}
