/*
 * fuzz_fragment.c - whatever may be cut is cut into packets that carry all of it and nothing else.
 *
 * Input: two bytes of MTU, a byte that says how much of the packet lies with its headers, then the packet.
 */
#include <stdlib.h>

#include "check.h"
#include "fragment.h"

/* What has come of the packet so far. */
struct assembled {
    const uint8_t *packet;
    size_t header_len;
    size_t data_len;
    size_t at;
    size_t mtu;
};

static void check_fragment(struct assembled *whole, const uint8_t *header, size_t header_len, const uint8_t *payload,
                           size_t payload_len)
{
    static uint8_t fragment[MAX_PACKET_LEN];
    size_t len = header_len + payload_len, data_len = len - whole->header_len;
    uint16_t flags = get_be16(header + 6), before = get_be16(whole->packet + 6);
    int last = whole->at + data_len == whole->data_len;

    CHECK(header_len >= whole->header_len && len <= whole->mtu && len <= sizeof fragment);
    memcpy(fragment, header, header_len);
    memcpy(fragment + header_len, payload, payload_len);
    CHECK(dp_packet_check(fragment, len) == DP_VERDICT_FORWARDED);
    CHECK((size_t)(flags & V4_FRAGMENT_OFFSET) * 8 == (size_t)(before & V4_FRAGMENT_OFFSET) * 8 + whole->at);
    CHECK(!(flags & V4_MORE_FRAGMENTS) == (last && !(before & V4_MORE_FRAGMENTS)) && !(flags & V4_DONT_FRAGMENT));
    CHECK(last || data_len % 8 == 0);
    CHECK(get_be16(header + 4) == get_be16(whole->packet + 4) && !memcmp(header + 12, whole->packet + 12, 8));
    if (dp_sum(whole->packet, whole->header_len) == 0xffff)
        CHECK(dp_sum(fragment, whole->header_len) == 0xffff);
    CHECK(!memcmp(fragment + whole->header_len, whole->packet + whole->header_len + whole->at, data_len));
    whole->at += data_len;
}

static void cut(const uint8_t *packet, size_t len, size_t head_len, size_t mtu)
{
    struct assembled whole = {.packet = packet, .header_len = dp_packet_header_len(packet), .mtu = mtu};
    struct dp_fragments fragments;

    whole.data_len = len - whole.header_len;
    head_len = min_size(min_size(len, MAX_SEGMENT_HEADER), whole.header_len + head_len);
    dp_fragments_begin(&fragments, packet, head_len, packet + head_len, len - head_len, mtu);
    for (size_t left; (left = dp_fragments_left(&fragments)) > 0;) {
        uint8_t header[MAX_SEGMENT_HEADER];
        const uint8_t *payload;
        size_t header_len, payload_len = dp_fragments_next(&fragments, header, &header_len, &payload);
        CHECK(header_len <= sizeof header && dp_fragments_left(&fragments) == left - 1);
        check_fragment(&whole, header, header_len, payload, payload_len);
    }
    CHECK(whole.at == whole.data_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_len);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_len)
{
    if (input_len < 3)
        return 0;
    size_t len = input_len - 3, mtu = get_be16(input), room = 10 * len + 1;
    uint8_t *packet = malloc(len + 1), *out = malloc(room);

    CHECK(packet && out);
    memcpy(packet, input + 3, len);
    if (len >= V4_HEADER_LEN && packet[0] >> 4 == 4)
        put_be16(packet + 2, (uint16_t)len);
    int good = dp_packet_check(packet, len) == DP_VERDICT_FORWARDED && dp_may_fragment(packet, len, mtu);
    int64_t cut_len = dp_fragment(packet, len, mtu, out, room);
    CHECK(good == (cut_len >= 0) && cut_len <= (int64_t)room);
    if (good)
        cut(packet, len, input[2] % MAX_SEGMENT_HEADER, mtu);
    free(out);
    free(packet);
    return 0;
}
