/* decide.h - what becomes of a packet: the rules of dataplane/engine.py, in their order. */
#ifndef DP_DECIDE_H
#define DP_DECIDE_H

#include "engine.h"

/**
 * struct dp_packet - a packet in hand
 * @data: its first byte, behind at least DP_ICMP_HEADROOM writable bytes, unless there is @scratch
 * @len: its bytes
 * @wire_len: bytes of the largest packet that it becomes on the wire; @len unless it is a super-packet
 * @peer: set by a decision: the peer it goes to or came from, or NO_PEER
 * @verdict: set by a decision: an enum dp_verdict
 * @egress: set by a decision: an enum dp_egress
 * @tos: TOS byte of the outer header: as received, or set by a decision
 * @scratch: DP_ICMP_SCRATCH bytes to build an ICMP error in, or NULL when the place before @data is free for that
 */
struct dp_packet {
    uint8_t *data;
    uint32_t len;
    uint32_t wire_len;
    int32_t peer;
    uint8_t verdict;
    uint8_t egress;
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
 * dp_refuse_too_big() - refuse a packet that was encapsulated, but that the underlay found too large
 * @worker: counts events
 * @routes: the snapshot in use, with the peer's path MTU learned already
 * @packet: the packet; the TTL step is undone for the quote
 * @now_ns: the time
 */
void dp_refuse_too_big(struct dp_worker *worker, const struct dp_routes *routes, struct dp_packet *packet,
                       uint64_t now_ns);

#endif
