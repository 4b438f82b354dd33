/* test_segment.c - super-packets are cut into packets that a network card would have made. */
#include "segment.h"

#include <errno.h>

#include "check.h"
#include "packets.h"

static uint8_t packet[MAX_PACKET_LEN], cut[MAX_PACKET_LEN];

/* Cut what the recipe makes and compare each segment with what the recipe makes for its part. */
static void check_cut(struct recipe recipe, uint16_t gso_size)
{
    struct virtio_net_hdr vnet = vnet_for(&recipe, gso_size);
    size_t len = make_packet(packet, &recipe), payload_len, rest = recipe.payload_len;
    struct recipe part = recipe;
    struct dp_super super;
    const uint8_t *payload;

    CHECK(dp_super_parse(&super, &vnet, packet, len) == 0);
    dp_super_begin(&super);
    for (; super.next < super.n_segments; rest -= payload_len) {
        static uint8_t expected[MAX_PACKET_LEN];
        int last = super.next + 1 == super.n_segments;
        part.payload_len = rest < gso_size ? rest : gso_size;
        part.flags = (uint8_t)(recipe.flags & ~(last ? 0 : TCP_FIN | TCP_PSH) & ~(super.next ? TCP_CWR : 0));
        payload_len = dp_super_next(&super, cut, &payload);
        memcpy(cut + super.header_len, payload, payload_len);
        CHECK(super.header_len + payload_len == make_packet(expected, &part));
        CHECK(!memcmp(cut, expected, super.header_len + payload_len));
        part.sequence += (uint32_t)payload_len;
        part.id++;
    }
    CHECK(rest == 0);
}

static void test_segments(void)
{
    static const size_t lens[] = {1, 100, 1000, 1001, 2000, 14321, 60000};

    for (int kind = 0; kind < 4; kind++)
        for (size_t i = 0; i < sizeof lens / sizeof *lens; i++)
            for (uint16_t gso_size = 1000; gso_size < 1460; gso_size = (uint16_t)(gso_size + 77))
                check_cut(
                    (struct recipe){
                        .v6 = kind & 1,
                        .tcp = kind >> 1,
                        .port = 4000,
                        .sequence = 0xffffff00, /* wraps on the way, as the identification does */
                        .acknowledgement = 77,
                        .window = 500,
                        .flags = TCP_ACK | TCP_PSH | TCP_FIN | TCP_CWR | TCP_ECE,
                        .tos = 0xb9,
                        .id = 0xfffe,
                        .options_len = 12,
                        .payload_len = lens[i],
                    },
                    gso_size);
}

static void test_a_udp_checksum_is_never_zero(void)
{
    struct recipe recipe = {.port = 1, .payload_len = 4};
    struct virtio_net_hdr vnet = vnet_for(&recipe, 2);
    int found = 0;

    for (uint32_t i = 0; i < 65536; i++) {
        size_t len = make_packet(packet, &recipe);
        struct dp_super super;
        const uint8_t *payload;
        put_be16(packet + 28, (uint16_t)i);
        CHECK(dp_super_parse(&super, &vnet, packet, len) == 0);
        dp_super_begin(&super);
        dp_super_next(&super, cut, &payload);
        CHECK(get_be16(cut + 26) != 0);
        found |= get_be16(cut + 26) == 0xffff;
    }
    CHECK(found);
}

static void test_what_cannot_be_cut(void)
{
    struct recipe recipe = {.tcp = 1, .flags = TCP_ACK, .payload_len = 3000};
    struct virtio_net_hdr good = vnet_for(&recipe, 1000), vnet;
    size_t len = make_packet(packet, &recipe);
    struct dp_super super;

    CHECK(dp_super_parse(&super, &good, packet, len) == 0);
    CHECK(dp_super_parse(&super, &good, packet, len - 1) == -EINVAL);
    CHECK(dp_super_parse(&super, &good, packet, 0) == -EINVAL);
    vnet = good, vnet.gso_size = 0;
    CHECK(dp_super_parse(&super, &vnet, packet, len) == -EINVAL);
    vnet = good, vnet.csum_start = 10;
    CHECK(dp_super_parse(&super, &vnet, packet, len) == -EINVAL);
    vnet = good, vnet.csum_start = (uint16_t)len;
    CHECK(dp_super_parse(&super, &vnet, packet, len) == -EINVAL);
    vnet = good, vnet.csum_start = 200; /* headers longer than any that we cut */
    CHECK(dp_super_parse(&super, &vnet, packet, len) == -EINVAL);
    vnet = good, vnet.csum_start = 24; /* not where TCP starts */
    CHECK(dp_super_parse(&super, &vnet, packet, len) == -EINVAL);
    vnet = good, vnet.csum_offset = 6;
    CHECK(dp_super_parse(&super, &vnet, packet, len) == -EINVAL);
    for (uint8_t type = 0; type < 0x7f; type++) {
        vnet = good, vnet.gso_type = type;
        CHECK((dp_super_parse(&super, &vnet, packet, len) == 0) == (type == VIRTIO_NET_HDR_GSO_TCPV4));
    }
    packet[V4_HEADER_LEN + 12] = 0x40; /* TCP header of 16 bytes */
    CHECK(dp_super_parse(&super, &good, packet, len) == -EINVAL);
}

static void test_the_length_of_the_headers_is_not_believed(void)
{
    struct recipe recipe = {.tcp = 1, .flags = TCP_ACK, .options_len = 12, .payload_len = 3000};
    struct virtio_net_hdr vnet = vnet_for(&recipe, 1000);
    size_t len = make_packet(packet, &recipe);
    struct dp_super super;

    vnet.hdr_len = 1500; /* forwarded packets come with the length of their linear part */
    CHECK(dp_super_parse(&super, &vnet, packet, len) == 0 && super.header_len == 52);
}

static void test_checksum_complete(void)
{
    struct recipe recipe = {.tcp = 1, .flags = TCP_ACK, .payload_len = 333};
    struct virtio_net_hdr vnet = vnet_for(&recipe, 0);
    size_t len = make_packet(packet, &recipe);

    put_be16(packet + 36, dp_sum_pseudo_header(packet + 12, 4, PROTOCOL_TCP, len - V4_HEADER_LEN));
    CHECK(!packet_checksums_right(packet, len));
    CHECK(dp_checksum_fits(packet, len, &vnet));
    dp_checksum_complete(packet, len, &vnet);
    CHECK(packet_checksums_right(packet, len));
}

static void test_where_a_checksum_may_go(void)
{
    struct recipe recipe = {.payload_len = 333};
    struct virtio_net_hdr vnet = vnet_for(&recipe, 0);

    for (recipe.v6 = 0; recipe.v6 <= 1; recipe.v6++) {
        size_t len = make_packet(packet, &recipe), header_len = dp_packet_header_len(packet);
        for (size_t start = 0; start <= UINT16_MAX; start += start < 500 ? 1 : 127) {
            vnet.csum_start = (uint16_t)start;
            for (size_t offset = 0; offset <= UINT16_MAX; offset += offset < 500 ? 1 : 127) {
                vnet.csum_offset = (uint16_t)offset;
                CHECK(dp_checksum_fits(packet, len, &vnet) == (start >= header_len && start + offset + 2 <= len));
            }
        }
    }
}

int main(void)
{
    RUN(test_segments);
    RUN(test_a_udp_checksum_is_never_zero);
    RUN(test_what_cannot_be_cut);
    RUN(test_the_length_of_the_headers_is_not_believed);
    RUN(test_checksum_complete);
    RUN(test_where_a_checksum_may_go);
    return 0;
}
