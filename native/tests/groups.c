/* groups.c - the oracle of coalescing is cutting. */
#include "groups.h"

#include "check.h"
#include "packets.h"

#define MAX_IN_GROUPS (MAX_GROUPS * MAX_GROUP_SEGMENTS)

struct in_group {
    const uint8_t *packet;
    size_t len;
};

static struct in_group nth(const struct dp_group *group, size_t i)
{
    if (i == 0)
        return (struct in_group){group->packet, group->len};
    return (struct in_group){group->payload[i] - group->header_len, group->payload_lens[i] + group->header_len};
}

static void clear_id(uint8_t *packet)
{
    if (is_v4(packet) && get_be16(packet + 6) & V4_DONT_FRAGMENT) {
        put_be16(packet + 4, 0);
        put_be16(packet + V4_CHECKSUM_AT, 0);
    }
}

static void check_cut(const struct dp_group *group)
{
    static uint8_t super_packet[MAX_PACKET_LEN], cut[MAX_PACKET_LEN], original[MAX_PACKET_LEN];
    struct virtio_net_hdr vnet;
    struct dp_super super;
    size_t len = group->header_len + group->payload_len;

    dp_group_finish(group, &vnet, super_packet);
    memcpy(super_packet + group->header_len, group->packet + group->header_len, group->payload_len);
    for (size_t i = 1; i < group->n_packets; i++) {
        memcpy(super_packet + len, group->payload[i], group->payload_lens[i]);
        len += group->payload_lens[i];
    }
    CHECK(len == group->total_len && vnet.hdr_len == group->header_len);
    CHECK(dp_super_parse(&super, &vnet, super_packet, len) == 0 && super.n_segments == group->n_packets);
    dp_super_begin(&super);
    for (size_t i = 0; i < group->n_packets; i++) {
        struct in_group came = nth(group, i);
        const uint8_t *payload;
        size_t payload_len = dp_super_next(&super, cut, &payload);
        memcpy(cut + super.header_len, payload, payload_len);
        CHECK(super.header_len + payload_len == came.len);
        CHECK(packet_checksums_right(cut, came.len));
        memcpy(original, came.packet, came.len);
        clear_id(cut);
        clear_id(original);
        CHECK(!memcmp(cut, original, came.len));
    }
}

/* Whether the order of two packets matters: same flow, or one may belong to any flow between its addresses. */
static int ordered(const struct in_group *a, const struct in_group *b)
{
    const struct dp_family *family = dp_packet_family(a->packet);
    struct dp_flow flow_a = dp_flow_of(a->packet, a->len), flow_b = dp_flow_of(b->packet, b->len);

    if (is_v4(a->packet) != is_v4(b->packet) ||
        memcmp(a->packet + family->addresses_at, b->packet + family->addresses_at, 2u * family->address_len))
        return 0;
    if (!flow_a.protocol || !flow_b.protocol)
        return 1;
    return flow_a.protocol == flow_b.protocol && !memcmp(a->packet + flow_a.l4_at, b->packet + flow_b.l4_at, 4);
}

void check_groups(const struct dp_coalescer *coalescer, size_t n)
{
    static struct in_group out[MAX_IN_GROUPS];
    size_t n_out = 0;

    for (size_t i = 0; i < coalescer->n_groups; i++) {
        const struct dp_group *group = &coalescer->groups[i];
        size_t bytes = 0;
        for (size_t j = 0; j < group->n_packets; j++) {
            out[n_out] = nth(group, j);
            bytes += out[n_out++].len;
        }
        CHECK(bytes == group->bytes && group->total_len <= MAX_PACKET_LEN);
        if (group->n_packets > 1)
            check_cut(group);
    }
    CHECK(n_out == n);
    for (size_t i = 0; i < n_out; i++)
        for (size_t j = i + 1; j < n_out; j++)
            CHECK(out[i].packet != out[j].packet && (out[i].packet < out[j].packet || !ordered(&out[i], &out[j])));
}
