/* coalesce.c - the rules by which packets join; coalesce.h says what they are for. */
#include "coalesce.h"

#define SEQUENCE_AT    4
#define DATA_OFFSET_AT 12
#define V4_ID_AT       4
#define V4_FRAGMENT_AT 6

/* Tunnels that pods may run: kernels before 6.9 cut a super-packet of these wrongly when it leaves by another tunnel.
 */
static int is_tunnel_port(uint16_t port)
{
    return port == 4789 || port == 8472 || port == 6081; /* VXLAN, VXLAN of old, Geneve */
}

/* Bytes of the headers of a packet that may be one of several, else 0. */
static size_t mergeable_header_len(const struct dp_coalescer *coalescer, const uint8_t *packet, size_t len,
                                   const struct dp_flow *flow)
{
    const uint8_t *l4 = packet + flow->l4_at;
    size_t header_len = flow->l4_at + UDP_HEADER_LEN;

    if (is_v4(packet) && flow->l4_at != V4_HEADER_LEN)
        return 0;
    if (flow->protocol == PROTOCOL_TCP && coalescer->tcp) {
        if (len < flow->l4_at + TCP_HEADER_LEN)
            return 0;
        header_len = flow->l4_at + (size_t)(l4[DATA_OFFSET_AT] >> 4) * 4;
        if (header_len < flow->l4_at + TCP_HEADER_LEN || (l4[TCP_FLAGS_AT] & ~(TCP_PSH | TCP_ECE)) != TCP_ACK)
            return 0;
    } else if (flow->protocol == PROTOCOL_UDP && coalescer->udp) {
        if (len < header_len || get_be16(l4 + 4) != len - flow->l4_at || get_be16(l4 + UDP_CHECKSUM_AT) == 0 ||
            is_tunnel_port(get_be16(l4 + 2)))
            return 0;
    } else {
        return 0;
    }
    return header_len < len ? header_len : 0;
}

/* Whether the checksums of IPv4 and of TCP or UDP are right. */
static int checksums_right(const uint8_t *packet, size_t len, const struct dp_flow *flow)
{
    const struct dp_family *family = dp_packet_family(packet);
    size_t l4_len = len - flow->l4_at;
    uint64_t sum = dp_sum_pseudo_header(packet + family->addresses_at, family->address_len, flow->protocol, l4_len);

    if (is_v4(packet) && dp_sum(packet, V4_HEADER_LEN) != 0xffff)
        return 0;
    return dp_sum_fold(sum + dp_sum(packet + flow->l4_at, l4_len)) == 0xffff;
}

static int same_flow(const struct dp_group *group, const uint8_t *packet, const struct dp_flow *flow)
{
    const struct dp_family *family = dp_packet_family(packet);

    return is_v4(group->packet) == is_v4(packet) && group->flow.protocol == flow->protocol &&
           !memcmp(group->packet + family->addresses_at, packet + family->addresses_at, 2u * family->address_len) &&
           !memcmp(group->packet + group->flow.l4_at, packet + flow->l4_at, 4);
}

/* Whether the IP headers differ only in what they must; addresses and protocol are known to be equal. */
static int ip_headers_follow(const struct dp_group *group, const uint8_t *packet)
{
    const uint8_t *first = group->packet;

    if (!is_v4(packet)) /* version, traffic class, flow label; next header, hop limit */
        return !memcmp(first, packet, 4) && !memcmp(first + 6, packet + 6, 2);
    if (memcmp(first, packet, 2) || memcmp(first + V4_FRAGMENT_AT, packet + V4_FRAGMENT_AT, 4))
        return 0; /* version, length of the header, TOS; flags, TTL, protocol */
    if (get_be16(packet + V4_FRAGMENT_AT) & V4_DONT_FRAGMENT)
        return 1; /* the identification means nothing (RFC 6864 4.1) */
    return get_be16(packet + V4_ID_AT) == (uint16_t)(get_be16(first + V4_ID_AT) + group->n_packets);
}

static int tcp_headers_follow(const struct dp_group *group, const uint8_t *l4)
{
    const uint8_t *first = group->packet + group->flow.l4_at;
    size_t options_len = group->header_len - group->flow.l4_at - TCP_HEADER_LEN;

    return get_be32(l4 + SEQUENCE_AT) == group->next_sequence &&
           !memcmp(first + 8, l4 + 8, 5) && /* acknowledgement, length of the header */
           !((first[TCP_FLAGS_AT] ^ l4[TCP_FLAGS_AT]) & ~TCP_PSH) && !memcmp(first + 14, l4 + 14, 2) && /* window */
           !memcmp(first + 18, l4 + 18, 2 + options_len);
}

/* Whether a packet of the group's flow may be its next one. */
static int may_join(struct dp_group *group, const uint8_t *packet, size_t len, size_t header_len)
{
    if (group->closed || header_len == 0 || header_len != group->header_len || len - header_len > group->payload_len ||
        group->n_packets == MAX_GROUP_SEGMENTS || group->total_len + len - header_len > MAX_PACKET_LEN ||
        !ip_headers_follow(group, packet))
        return 0;
    if (group->flow.protocol == PROTOCOL_TCP && !tcp_headers_follow(group, packet + group->flow.l4_at))
        return 0;
    if (!group->checked && !checksums_right(group->packet, group->len, &group->flow)) {
        group->closed = 1;
        return 0;
    }
    group->checked = 1;
    return checksums_right(packet, len, &group->flow);
}

static int has_push(const struct dp_group *group, const uint8_t *packet)
{
    return group->flow.protocol == PROTOCOL_TCP && packet[group->flow.l4_at + TCP_FLAGS_AT] & TCP_PSH;
}

static void join(struct dp_group *group, uint8_t *packet, size_t len)
{
    uint32_t payload_len = (uint32_t)len - group->header_len;

    group->payload[group->n_packets] = packet + group->header_len;
    group->payload_lens[group->n_packets] = payload_len;
    group->n_packets++;
    group->total_len += payload_len;
    group->bytes += (uint32_t)len;
    group->next_sequence += payload_len;
    group->push = has_push(group, packet) != 0;
    group->closed = group->push || payload_len < group->payload_len;
}

static void begin_group(struct dp_coalescer *coalescer, uint8_t *packet, size_t len, int32_t peer,
                        const struct dp_flow *flow, uint32_t hash, size_t header_len)
{
    struct dp_group *group = &coalescer->groups[coalescer->n_groups++];

    group->packet = packet;
    group->len = group->total_len = group->bytes = (uint32_t)len;
    group->hash = hash;
    group->peer = peer;
    group->flow = *flow;
    group->header_len = (uint32_t)header_len;
    group->n_packets = 1;
    group->checked = 0;
    group->push = 0;
    group->closed = 1;
    if (header_len == 0)
        return;
    group->payload_len = (uint32_t)(len - header_len);
    group->push = has_push(group, packet) != 0;
    group->closed = group->push || header_len > MAX_SEGMENT_HEADER;
    if (flow->protocol == PROTOCOL_TCP)
        group->next_sequence = get_be32(packet + flow->l4_at + SEQUENCE_AT) + group->payload_len;
}

/* Close all groups between two addresses: a packet without ports may belong to any of their flows. */
static void close_groups(struct dp_coalescer *coalescer, const uint8_t *packet)
{
    const struct dp_family *family = dp_packet_family(packet);

    for (size_t i = 0; i < coalescer->n_groups; i++) {
        struct dp_group *group = &coalescer->groups[i];
        if (is_v4(group->packet) == is_v4(packet) &&
            !memcmp(group->packet + family->addresses_at, packet + family->addresses_at, 2u * family->address_len))
            group->closed = 1;
    }
}

void dp_coalescer_add(struct dp_coalescer *coalescer, uint8_t *packet, size_t len, int32_t peer)
{
    struct dp_flow flow = dp_flow_of(packet, len);
    uint32_t hash = dp_flow_hash(packet, &flow);
    size_t header_len = 0;

    if (flow.protocol)
        header_len = mergeable_header_len(coalescer, packet, len, &flow);
    else
        close_groups(coalescer, packet);
    for (size_t i = coalescer->n_groups; flow.protocol && i-- > 0;) {
        struct dp_group *group = &coalescer->groups[i];
        if (group->hash != hash || !same_flow(group, packet, &flow))
            continue;
        if (may_join(group, packet, len, header_len)) {
            join(group, packet, len);
            return;
        }
        break; /* only the newest group of a flow may grow, and it is older than the one that begins now */
    }
    begin_group(coalescer, packet, len, peer, &flow, hash, header_len);
}

void dp_group_finish(const struct dp_group *group, struct virtio_net_hdr *vnet, uint8_t *header)
{
    const struct dp_family *family = dp_packet_family(group->packet);
    int v4 = is_v4(group->packet), tcp = group->flow.protocol == PROTOCOL_TCP;
    size_t l4_len = group->total_len - group->flow.l4_at;
    uint8_t *l4 = header + group->flow.l4_at;
    uint16_t checksum_at = tcp ? TCP_CHECKSUM_AT : UDP_CHECKSUM_AT;

    memcpy(header, group->packet, group->header_len);
    if (v4) {
        put_be16(header + 2, (uint16_t)group->total_len);
        put_be16(header + V4_CHECKSUM_AT, 0);
        put_be16(header + V4_CHECKSUM_AT, dp_checksum(header, V4_HEADER_LEN));
    } else {
        put_be16(header + 4, (uint16_t)l4_len);
    }
    if (!tcp)
        put_be16(l4 + 4, (uint16_t)l4_len);
    else if (group->push)
        l4[TCP_FLAGS_AT] |= TCP_PSH;
    put_be16(l4 + checksum_at,
             dp_sum_pseudo_header(header + family->addresses_at, family->address_len, group->flow.protocol, l4_len));
    *vnet = (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = !tcp ? VIRTIO_NET_HDR_GSO_UDP_L4
                    : v4 ? VIRTIO_NET_HDR_GSO_TCPV4
                         : VIRTIO_NET_HDR_GSO_TCPV6,
        .hdr_len = (uint16_t)group->header_len,
        .gso_size = (uint16_t)group->payload_len,
        .csum_start = (uint16_t)group->flow.l4_at,
        .csum_offset = checksum_at,
    };
}
