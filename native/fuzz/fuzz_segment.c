/*
 * fuzz_segment.c - any packet with any vnet header is refused, or cut into good packets that carry the same bytes and
 * that coalesce to the same payload.
 *
 * Input: the vnet header, then the packet, whose length field is made true.
 */
#include <stdlib.h>

#include "check.h"
#include "groups.h"
#include "packets.h"

static void cut(struct dp_super *super, const uint8_t *packet, size_t len)
{
    static uint8_t segments[2 * MAX_PACKET_LEN];
    static struct dp_coalescer coalescer;
    size_t carried = 0, used = 0, n_added = 0;

    coalescer.n_groups = 0;
    coalescer.tcp = coalescer.udp = 1;
    dp_super_begin(super);
    CHECK(super->n_segments > 0);
    while (super->next < super->n_segments && used + super->header_len + super->payload_len < sizeof segments) {
        const uint8_t *payload;
        uint8_t *segment = segments + used;
        size_t payload_len = dp_super_next(super, segment, &payload);
        size_t segment_len = super->header_len + payload_len;
        CHECK(payload == packet + super->header_len + carried && payload_len > 0);
        memcpy(segment + super->header_len, payload, payload_len);
        carried += payload_len;
        used += segment_len;
        CHECK(dp_packet_check(segment, segment_len) == DP_VERDICT_FORWARDED);
        if (super->l4_at == dp_packet_header_len(segment) && segment[is_v4(segment) ? 9 : 6] == (super->tcp ? 6 : 17))
            CHECK(packet_checksums_right(segment, segment_len));
        if (!dp_coalescer_full(&coalescer)) {
            dp_coalescer_add(&coalescer, segment, segment_len, 1);
            n_added++;
        }
    }
    CHECK(super->next < super->n_segments || carried == len - super->header_len);
    check_groups(&coalescer, n_added);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_len);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_len)
{
    struct virtio_net_hdr vnet;
    struct dp_super super;

    if (input_len < sizeof vnet)
        return 0;
    memcpy(&vnet, input, sizeof vnet);
    size_t len = input_len - sizeof vnet;
    uint8_t *packet = malloc(len + 1);
    CHECK(packet);
    memcpy(packet, input + sizeof vnet, len);
    if (len >= V4_HEADER_LEN && packet[0] >> 4 == 4)
        put_be16(packet + 2, (uint16_t)len);
    if (len >= V6_HEADER_LEN && packet[0] >> 4 == 6)
        put_be16(packet + 4, (uint16_t)(len - V6_HEADER_LEN));
    if (!dp_super_parse(&super, &vnet, packet, len))
        cut(&super, packet, len);
    if (dp_checksum_fits(packet, len, &vnet))
        dp_checksum_complete(packet, len, &vnet);
    free(packet);
    return 0;
}
