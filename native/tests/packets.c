/* packets.c - making packets, and checking them the slow way. */
#include "packets.h"

uint16_t slow_sum(uint16_t sum, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i += 2) {
        uint32_t word = (uint32_t)data[i] << 8 | (i + 1 < len ? data[i + 1] : 0);
        uint32_t wide = sum + word;
        sum = (uint16_t)(wide > 0xffff ? wide - 0xffff : wide);
    }
    return sum;
}

uint16_t slow_l4_sum(const uint8_t *packet, size_t len, size_t l4_at, uint8_t protocol)
{
    size_t l4_len = len - l4_at;
    uint8_t tail[8] = {0, 0, (uint8_t)(l4_len >> 8), (uint8_t)l4_len, 0, 0, 0, protocol};
    uint16_t sum = slow_sum(0, packet + (is_v4(packet) ? 12 : 8), is_v4(packet) ? 8 : 32);

    sum = slow_sum(sum, tail, sizeof tail);
    return slow_sum(sum, packet + l4_at, l4_len);
}

int packet_checksums_right(const uint8_t *packet, size_t len)
{
    if (is_v4(packet) && slow_sum(0, packet, dp_packet_header_len(packet)) != 0xffff)
        return 0;
    return slow_l4_sum(packet, len, dp_packet_header_len(packet), packet[is_v4(packet) ? 9 : 6]) == 0xffff;
}

static size_t put_ip(uint8_t *packet, const struct recipe *recipe, size_t l4_len)
{
    uint8_t protocol = recipe->tcp ? PROTOCOL_TCP : PROTOCOL_UDP;

    memset(packet, 0, V6_HEADER_LEN);
    if (recipe->v6) {
        put_be16(packet, (uint16_t)(0x6000 | recipe->tos << 4));
        put_be16(packet + 4, (uint16_t)l4_len);
        packet[6] = protocol;
        packet[7] = 64;
        packet[8] = packet[24] = 0xfd;
        packet[23] = 1;
        packet[39] = 2;
        return V6_HEADER_LEN;
    }
    packet[0] = 0x45;
    packet[1] = recipe->tos;
    put_be16(packet + 2, (uint16_t)(V4_HEADER_LEN + l4_len));
    put_be16(packet + 4, recipe->id);
    put_be16(packet + 6, recipe->fragment);
    packet[8] = 64;
    packet[9] = protocol;
    put_be32(packet + 12, 0x0a050102);
    put_be32(packet + 16, 0x0a050202);
    put_be16(packet + V4_CHECKSUM_AT, (uint16_t)~slow_sum(0, packet, V4_HEADER_LEN));
    return V4_HEADER_LEN;
}

size_t make_packet(uint8_t *packet, const struct recipe *recipe)
{
    size_t header_len = recipe->tcp ? TCP_HEADER_LEN + recipe->options_len : UDP_HEADER_LEN;
    size_t l4_len = header_len + recipe->payload_len, l4_at = put_ip(packet, recipe, l4_len);
    uint8_t *l4 = packet + l4_at;

    memset(l4, 0, header_len);
    put_be16(l4, recipe->port);
    put_be16(l4 + 2, 5201);
    if (recipe->tcp) {
        put_be32(l4 + 4, recipe->sequence);
        put_be32(l4 + 8, recipe->acknowledgement);
        l4[12] = (uint8_t)(header_len / 4 << 4);
        l4[TCP_FLAGS_AT] = recipe->flags;
        put_be16(l4 + 14, recipe->window);
        memset(l4 + TCP_HEADER_LEN, 1, recipe->options_len); /* NOP */
    } else {
        put_be16(l4 + 4, (uint16_t)l4_len);
    }
    for (size_t i = 0; i < recipe->payload_len; i++)
        l4[header_len + i] = (uint8_t)((recipe->sequence + i) * 2654435761u >> 24);
    uint16_t checksum =
        (uint16_t)~slow_l4_sum(packet, l4_at + l4_len, l4_at, recipe->tcp ? PROTOCOL_TCP : PROTOCOL_UDP);
    put_be16(l4 + (recipe->tcp ? TCP_CHECKSUM_AT : UDP_CHECKSUM_AT), checksum || recipe->tcp ? checksum : 0xffff);
    return l4_at + l4_len;
}

struct virtio_net_hdr vnet_for(const struct recipe *recipe, uint16_t gso_size)
{
    uint8_t tcp = recipe->v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
    uint8_t type = recipe->tcp ? tcp : VIRTIO_NET_HDR_GSO_UDP_L4;

    return (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = gso_size ? type : VIRTIO_NET_HDR_GSO_NONE,
        .gso_size = gso_size,
        .csum_start = recipe->v6 ? V6_HEADER_LEN : V4_HEADER_LEN,
        .csum_offset = recipe->tcp ? TCP_CHECKSUM_AT : UDP_CHECKSUM_AT,
    };
}
