/*
 * segment.c - cutting super-packets.
 *
 * Checksums cost the most, so what the segments have in common is summed up once: the headers without the fields that
 * change. For each segment those fields and the payload are added.
 */
#include "segment.h"

#include <errno.h>

/* The protocol that a GSO type is for, or 0 for a type that no queue of ours hands out for this IP version. */
static uint8_t protocol_of(const struct virtio_net_hdr *vnet, int v4)
{
    switch (vnet->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_TCPV4: return v4 ? PROTOCOL_TCP : 0;
    case VIRTIO_NET_HDR_GSO_TCPV6: return v4 ? 0 : PROTOCOL_TCP;
    case VIRTIO_NET_HDR_GSO_UDP_L4: return PROTOCOL_UDP;
    default: return 0;
    }
}

/* Whether TCP or UDP may start at @l4_at: right behind the IP header, or with IPv6 behind extension headers. */
static int starts_at(const uint8_t *packet, size_t l4_at, uint8_t protocol)
{
    size_t header_len = dp_packet_header_len(packet);

    if (l4_at == header_len)
        return packet[is_v4(packet) ? 9 : 6] == protocol;
    return !is_v4(packet) && l4_at > header_len && packet[6] != PROTOCOL_TCP && packet[6] != PROTOCOL_UDP;
}

/* Bytes of the TCP or UDP header at @l4_at, or 0 when it is not all there. */
static size_t l4_header_len(const uint8_t *packet, size_t len, size_t l4_at, int tcp)
{
    if (size_left(len, l4_at) < (tcp ? TCP_HEADER_LEN : UDP_HEADER_LEN))
        return 0;
    if (!tcp)
        return UDP_HEADER_LEN;
    size_t stated_len = (size_t)(packet[l4_at + 12] >> 4) * 4;
    return stated_len < TCP_HEADER_LEN ? 0 : stated_len;
}

int dp_super_parse(struct dp_super *super, const struct virtio_net_hdr *vnet, const uint8_t *packet, size_t len)
{
    if (dp_packet_check(packet, len) != DP_VERDICT_FORWARDED || vnet->gso_size == 0)
        return -EINVAL;
    uint8_t protocol = protocol_of(vnet, is_v4(packet));
    int checksum = vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, tcp = protocol == PROTOCOL_TCP;
    /* With extension headers only the kernel knows where TCP starts. */
    size_t l4_at = checksum ? vnet->csum_start : dp_packet_header_len(packet);
    if (!protocol || !starts_at(packet, l4_at, protocol) ||
        (checksum && vnet->csum_offset != (tcp ? TCP_CHECKSUM_AT : UDP_CHECKSUM_AT)))
        return -EINVAL;
    size_t l4_len = l4_header_len(packet, len, l4_at, tcp), all_payload_len = size_left(len, l4_at + l4_len);
    if (l4_len == 0 || all_payload_len == 0 || l4_at + l4_len > MAX_SEGMENT_HEADER)
        return -EINVAL;
    super->packet = packet;
    super->len = len;
    super->l4_at = l4_at;
    super->header_len = l4_at + l4_len;
    super->payload_len = vnet->gso_size;
    super->n_segments = ROUND_UP(all_payload_len, super->payload_len) / super->payload_len;
    super->tcp = tcp;
    return 0;
}

void dp_super_begin(struct dp_super *super)
{
    const uint8_t *packet = super->packet, *l4 = packet + super->l4_at;
    const struct dp_family *family = dp_packet_family(packet);
    uint64_t l4_sum = dp_sum_pseudo_header(packet + family->addresses_at, family->address_len,
                                           super->tcp ? PROTOCOL_TCP : PROTOCOL_UDP, 0);

    memcpy(super->header, packet, super->header_len);
    super->ip_sum = 0;
    if (is_v4(packet)) /* all but total length, identification, checksum */
        super->ip_sum = (uint64_t)get_be16(packet) + dp_sum(packet + 6, 4) + dp_sum(packet + 12, super->l4_at - 12);
    if (super->tcp) /* all but sequence number, flags, checksum */
        l4_sum += (uint64_t)dp_sum(l4, 4) + dp_sum(l4 + 8, 4) + dp_sum(l4 + 14, 2) +
                  dp_sum(l4 + 18, super->header_len - super->l4_at - 18);
    else /* all but length, checksum */
        l4_sum += dp_sum(l4, 4);
    super->l4_sum = l4_sum;
    super->next = 0;
}

static void put_ip_header(const struct dp_super *super, uint8_t *header, size_t len)
{
    if (!is_v4(header)) {
        put_be16(header + 4, (uint16_t)(len - V6_HEADER_LEN));
        return;
    }
    uint16_t id = (uint16_t)(get_be16(header + 4) + super->next);
    put_be16(header + 2, (uint16_t)len);
    put_be16(header + 4, id);
    put_be16(header + V4_CHECKSUM_AT, (uint16_t)~dp_sum_fold(super->ip_sum + len + id));
}

/* Write what differs in the TCP header; returns the sum of that. */
static uint64_t put_tcp_fields(const struct dp_super *super, uint8_t *l4)
{
    uint32_t sequence = get_be32(l4 + 4) + (uint32_t)(super->next * super->payload_len);

    put_be32(l4 + 4, sequence);
    if (super->next > 0) /* what CWR says is said once (RFC 3168 6.1.2) */
        l4[TCP_FLAGS_AT] &= (uint8_t)~TCP_CWR;
    if (super->next + 1 < super->n_segments)
        l4[TCP_FLAGS_AT] &= (uint8_t)~(TCP_FIN | TCP_PSH);
    return (uint64_t)(sequence >> 16) + (sequence & 0xffff) + get_be16(l4 + 12);
}

size_t dp_super_next(struct dp_super *super, uint8_t *header, const uint8_t **payload)
{
    size_t at = super->header_len + super->next * super->payload_len;
    size_t payload_len = min_size(super->payload_len, size_left(super->len, at));
    size_t l4_len = super->header_len - super->l4_at + payload_len;
    uint8_t *l4 = header + super->l4_at, *checksum = l4 + (super->tcp ? TCP_CHECKSUM_AT : UDP_CHECKSUM_AT);
    uint64_t sum = super->l4_sum + l4_len;

    memcpy(header, super->header, super->header_len);
    put_ip_header(super, header, super->header_len + payload_len);
    if (super->tcp) {
        sum += put_tcp_fields(super, l4);
    } else {
        put_be16(l4 + 4, (uint16_t)l4_len);
        sum += l4_len;
    }
    *payload = super->packet + at;
    uint16_t value = (uint16_t)~dp_sum_fold(sum + dp_sum(*payload, payload_len));
    put_be16(checksum, value == 0 && !super->tcp ? 0xffff : value); /* 0 in UDP means that there is none (RFC 768) */
    super->next++;
    return payload_len;
}

int dp_checksum_fits(const uint8_t *packet, size_t len, const struct virtio_net_hdr *vnet)
{
    return dp_packet_check(packet, len) == DP_VERDICT_FORWARDED && vnet->csum_start >= dp_packet_header_len(packet) &&
           size_left(len, vnet->csum_start) >= (size_t)vnet->csum_offset + 2;
}

void dp_checksum_complete(uint8_t *packet, size_t len, const struct virtio_net_hdr *vnet)
{
    size_t start = vnet->csum_start;
    uint16_t value = (uint16_t)~dp_sum(packet + start, size_left(len, start));

    if (value == 0 && vnet->csum_offset == UDP_CHECKSUM_AT)
        value = 0xffff;
    put_be16(packet + start + vnet->csum_offset, value);
}
