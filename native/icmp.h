/* icmp.h - ICMP errors: whether a packet may be answered with one, how it is built, and how many may go out. */
#ifndef DP_ICMP_H
#define DP_ICMP_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "packet.h"

/* Bytes that an error needs in front of the packet that it quotes: headers of IPv6 and ICMPv6. */
#define DP_ICMP_HEADROOM 48

/* Bytes of the longest error: the IPv6 minimum MTU. */
#define DP_ICMP_MAX_LEN 1280

/* Bytes of a place where an error can be built together with the packet that it quotes. */
#define DP_ICMP_SCRATCH (DP_ICMP_HEADROOM + DP_ICMP_MAX_LEN)

/**
 * struct dp_bucket - lets through some events a second in the long run, and a burst at once
 * @lock: held for the few instructions of dp_bucket_take(), since workers share a bucket
 * @cost: nanoseconds that an event costs; 0 when none may happen
 * @capacity: nanoseconds that can be saved up
 * @credit: nanoseconds saved up
 * @last_ns: when @credit was right
 */
struct dp_bucket {
    atomic_flag lock;
    uint64_t cost;
    uint64_t capacity;
    uint64_t credit;
    uint64_t last_ns;
};

/**
 * dp_bucket_init() - a full bucket
 * @bucket: the bucket
 * @rate: events a second; 0 for none ever
 * @burst: events at once
 */
void dp_bucket_init(struct dp_bucket *bucket, uint32_t rate, uint32_t burst);

/**
 * dp_bucket_take() - pay for one event
 * @bucket: the bucket
 * @now_ns: the time
 *
 * Return: whether the event may happen.
 */
int dp_bucket_take(struct dp_bucket *bucket, uint64_t now_ns);

/**
 * dp_icmp_answers() - whether a verdict is one that is answered with an ICMP error
 * @reason: the verdict
 */
int dp_icmp_answers(enum dp_verdict reason);

/**
 * dp_icmp_may_answer() - whether an ICMP error about a packet may be sent to its source
 * @packet: a packet whose header is good
 * @len: its bytes
 */
int dp_icmp_may_answer(const uint8_t *packet, size_t len);

/**
 * dp_icmp_put_error() - build the error about a packet, right in front of it
 * @packet: the packet, which is quoted unchanged; DP_ICMP_HEADROOM bytes before it are writable
 * @len: its bytes
 * @reason: NO_ROUTE, TTL_EXCEEDED or TOO_BIG
 * @sender: the node's address in the packet's family
 * @mtu: the number to tell when @reason is TOO_BIG
 * @error: where the start of the error is put
 *
 * Return: bytes of the error.
 */
size_t dp_icmp_put_error(uint8_t *packet, size_t len, enum dp_verdict reason, const uint8_t *sender, uint32_t mtu,
                         uint8_t **error);

#endif
