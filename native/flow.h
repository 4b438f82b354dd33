/* flow.h - which flow a packet belongs to. */
#ifndef DP_FLOW_H
#define DP_FLOW_H

#include "packet.h"

/**
 * struct dp_flow - the transport header of a packet
 * @protocol: PROTOCOL_TCP or PROTOCOL_UDP, or 0 when the ports are not known: another protocol, a fragment, IPv6
 * extension headers, or a packet cut short
 * @l4_at: where the TCP or UDP header starts
 */
struct dp_flow {
    uint8_t protocol;
    size_t l4_at;
};

/**
 * dp_flow_of() - find the transport header
 * @packet: a packet whose header is good
 * @len: its bytes
 */
static inline struct dp_flow dp_flow_of(const uint8_t *packet, size_t len)
{
    size_t l4_at = dp_packet_header_len(packet);
    uint8_t protocol = packet[is_v4(packet) ? 9 : 6];
    int fragment = is_v4(packet) && (get_be16(packet + 6) & (V4_FRAGMENT_OFFSET | V4_MORE_FRAGMENTS));

    if (fragment || (protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP) || len < l4_at + 4)
        protocol = 0;
    return (struct dp_flow){protocol, l4_at};
}

/**
 * dp_flow_hash() - a number that all packets of a flow have in common
 * @packet: a packet whose header is good
 * @flow: of this packet
 *
 * Packets without ports are told apart by their addresses.
 */
static inline uint32_t dp_flow_hash(const uint8_t *packet, const struct dp_flow *flow)
{
    struct dp_key source = dp_packet_source(packet), destination = dp_packet_destination(packet);
    uint64_t mixed = source.word[0] ^ source.word[1] * 0x9e3779b97f4a7c15;

    mixed = (mixed ^ destination.word[0]) * 0xff51afd7ed558ccd ^ destination.word[1];
    if (flow->protocol)
        mixed ^= (uint64_t)get_be32(packet + flow->l4_at) << 16;
    mixed *= 0xc4ceb9fe1a85ec53;
    return (uint32_t)(mixed >> 32);
}

#endif
