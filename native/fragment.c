/* fragment.c - fragments of IPv4 packets. */
#include "fragment.h"

#include <assert.h>
#include <errno.h>

#define UNIT               8     /* bytes that offsets count in */
#define MAX_DATA           65535 /* bytes of data that offsets can tell apart */
#define OPTION_END         0
#define OPTION_NOTHING     1
#define OPTION_COPIED      0x80
#define V4_TOTAL_LENGTH_AT 2
#define V4_FRAGMENT_AT     6

/* The first fragment's header and the first bytes of data that came with it fit where headers of segments go. */
static_assert(V4_MAX_HEADER_LEN <= MAX_SEGMENT_HEADER, "a header with all options fits");

int dp_may_fragment(const uint8_t *packet, size_t len, size_t mtu)
{
    if (!is_v4(packet))
        return 0;
    size_t flags = get_be16(packet + V4_FRAGMENT_AT), header_len = dp_packet_header_len(packet);
    if (flags & V4_DONT_FRAGMENT || len < header_len || mtu < header_len + UNIT)
        return 0;
    return (flags & V4_FRAGMENT_OFFSET) * UNIT + (len - header_len) <= MAX_DATA;
}

/* Make no-operations of the options that are not for later fragments; behind one that is cut short, all stays. */
static void blank_options(uint8_t *header, size_t header_len)
{
    size_t at = V4_HEADER_LEN;

    while (at < header_len && header[at] != OPTION_END) {
        if (header[at] == OPTION_NOTHING) {
            at++;
            continue;
        }
        size_t option_len = at + 1 < header_len ? header[at + 1] : 0;
        if (option_len < 2 || option_len > header_len - at)
            return;
        if (!(header[at] & OPTION_COPIED))
            for (size_t i = 0; i < option_len; i++)
                dp_packet_set_byte(header, at + i, OPTION_NOTHING);
        at += option_len;
    }
}

void dp_fragments_begin(struct dp_fragments *fragments, const uint8_t *header, size_t header_len,
                        const uint8_t *payload, size_t payload_len, size_t mtu)
{
    size_t ip_len = dp_packet_header_len(header);

    assert(ip_len <= header_len && header_len <= MAX_SEGMENT_HEADER && mtu >= ip_len + UNIT);
    *fragments = (struct dp_fragments){
        .ip_len = ip_len,
        .head_len = header_len - ip_len,
        .payload = payload,
        .data_len = header_len - ip_len + payload_len,
        .step = (mtu - ip_len) / UNIT * UNIT,
    };
    memcpy(fragments->first, header, header_len);
    memcpy(fragments->later, header, ip_len);
    blank_options(fragments->later, ip_len);
}

size_t dp_fragments_next(struct dp_fragments *fragments, uint8_t *header, size_t *header_len, const uint8_t **payload)
{
    size_t at = fragments->at, len = min_size(fragments->step, fragments->data_len - at);
    size_t head_len = at < fragments->head_len ? min_size(len, fragments->head_len - at) : 0;
    size_t flags = get_be16(fragments->first + V4_FRAGMENT_AT) + at / UNIT;

    memcpy(header, at ? fragments->later : fragments->first, fragments->ip_len);
    memcpy(header + fragments->ip_len, fragments->first + fragments->ip_len + (head_len ? at : 0), head_len);
    if (at + len < fragments->data_len)
        flags |= V4_MORE_FRAGMENTS;
    dp_packet_set_word(header, V4_TOTAL_LENGTH_AT, (uint16_t)(fragments->ip_len + len));
    dp_packet_set_word(header, V4_FRAGMENT_AT, (uint16_t)flags);
    *header_len = fragments->ip_len + head_len;
    *payload = fragments->payload + (head_len ? 0 : at - fragments->head_len);
    fragments->at = at + len;
    return len - head_len;
}

int64_t dp_fragment(const uint8_t *packet, size_t len, size_t mtu, uint8_t *out, size_t out_len)
{
    struct dp_fragments fragments;
    uint8_t header[MAX_SEGMENT_HEADER];
    const uint8_t *payload;
    size_t used = 0, header_len, payload_len;

    if (dp_packet_check(packet, len) != DP_VERDICT_FORWARDED || !dp_may_fragment(packet, len, mtu))
        return -EINVAL;
    header_len = dp_packet_header_len(packet);
    dp_fragments_begin(&fragments, packet, header_len, packet + header_len, len - header_len, mtu);
    while (dp_fragments_left(&fragments)) {
        payload_len = dp_fragments_next(&fragments, header, &header_len, &payload);
        if (out_len - used < header_len + payload_len)
            return -ENOBUFS;
        memcpy(out + used, header, header_len);
        memcpy(out + used + header_len, payload, payload_len);
        used += header_len + payload_len;
    }
    return (int64_t)used;
}
