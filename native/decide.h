/* decide.h - what becomes of a packet: the rules of dataplane/engines/contract.py, in their order. */
#ifndef DP_DECIDE_H
#define DP_DECIDE_H

#include "engine.h"

/**
 * struct dp_packet - a packet in hand
 * @data: its first byte, behind at least DP_ICMP_HEADROOM writable bytes, unless there is @scratch
 * @len: its bytes
 * @wire_len: bytes of the largest packet that it becomes on the wire; @len unless it is a super-packet
 * @n_packets: how many packets it stands for: 1 unless it is a super-packet
 * @peer: set by a decision: the peer it goes to or came from, or NO_PEER
 * @verdict: set by a decision: an enum dp_verdict
 * @egress: set by a decision: an enum dp_egress
 * @fragment_len: set by encapsulation: bytes of the largest fragment that it is to be cut into, or 0
 * @no_df: set by encapsulation: whether it goes in datagrams without DF
 * @tos: TOS byte of the outer header: as received, or set by a decision
 * @scratch: DP_ICMP_SCRATCH bytes to build an ICMP error in, or NULL when the place before @data is free for that
 */
struct dp_packet {
    uint8_t *data;
    uint32_t len;
    uint32_t wire_len;
    uint32_t n_packets;
    int32_t peer;
    uint32_t fragment_len;
    uint8_t verdict;
    uint8_t egress;
    uint8_t no_df;
    uint8_t tos;
    uint8_t *scratch;
};

/**
 * dp_encapsulate() - decide about a packet read from the TUN
 * @worker: counts events
 * @routes: the snapshot in use
 * @packet: the packet
 * @now_ns: the time
 */
void dp_encapsulate(struct dp_worker *worker, const struct dp_routes *routes, struct dp_packet *packet,
                    uint64_t now_ns);

/**
 * dp_decapsulate() - decide about a datagram read from the underlay
 * @worker: counts events
 * @routes: the snapshot in use
 * @packet: the datagram's payload
 * @sender: the underlay address that it came from
 * @now_ns: the time
 */
void dp_decapsulate(struct dp_worker *worker, const struct dp_routes *routes, struct dp_packet *packet,
                    const struct dp_key *sender, uint64_t now_ns);

/**
 * dp_refuse() - drop a packet, and put an ICMP error in its place where one is due
 * @worker: counts events
 * @packet: the packet, with its bytes as received
 * @reason: the verdict
 * @mtu: the number to tell when @reason is TOO_BIG
 * @now_ns: the time
 */
void dp_refuse(struct dp_worker *worker, struct dp_packet *packet, enum dp_verdict reason, uint32_t mtu,
               uint64_t now_ns);

/**
 * dp_fit() - whether and how a packet can be sent to its peer
 * @worker: counts events
 * @routes: the snapshot in use
 * @packet: the packet, with @fragment_len and @no_df as they were decided before, or 0
 *
 * Return: whether it can.
 */
int dp_fit(struct dp_worker *worker, const struct dp_routes *routes, struct dp_packet *packet);

/**
 * dp_refuse_too_big() - refuse a packet that was encapsulated, but that the underlay found too large
 * @worker: counts events
 * @routes: the snapshot in use, with the peer's path MTU learned already
 * @packet: the packet, which does not fit; the TTL step is undone for the quote
 * @now_ns: the time
 */
void dp_refuse_too_big(struct dp_worker *worker, const struct dp_routes *routes, struct dp_packet *packet,
                       uint64_t now_ns);

#endif
