/*
 * limit.h - how many ICMP errors may go out; see ErrorLimit in dataplane/packets/icmp.py for the reasons.
 *
 * All workers share one limit without a lock: it is a table of buckets.
 */
#ifndef DP_LIMIT_H
#define DP_LIMIT_H

#include "bucket.h"
#include "packet.h"

#define N_SOURCES   1024
#define SOURCE_PART 8

/**
 * struct dp_limit - buckets for all errors, and for those to each source
 * @all: what all errors pay into
 * @reserve: nanoseconds that errors other than TOO_BIG have to leave in @all
 * @source_cost: nanoseconds that an event costs its source
 * @source_capacity: nanoseconds that a source can save up
 * @full_at_ns: when the bucket of a source is full again, by hash of its address
 */
struct dp_limit {
    struct dp_bucket all;
    uint64_t reserve;
    uint64_t source_cost;
    uint64_t source_capacity;
    _Atomic uint64_t full_at_ns[N_SOURCES];
};

/* Full buckets, for @rate errors a second and @burst at once. */
static inline void dp_limit_init(struct dp_limit *limit, uint32_t rate, uint32_t burst)
{
    uint32_t source_burst = burst && burst < SOURCE_PART ? 1 : burst / SOURCE_PART;

    dp_bucket_init(&limit->all, rate, burst);
    limit->reserve = burst / 2 * limit->all.cost;
    limit->source_cost = SOURCE_PART * limit->all.cost;
    limit->source_capacity = rate ? source_burst * limit->source_cost : 0;
    for (size_t i = 0; i < N_SOURCES; i++)
        atomic_init(&limit->full_at_ns[i], 0);
}

/* The number of a source's bucket: FNV-1a in 32 bits over the address and one byte for the kind of error. */
static inline size_t dp_limit_slot(const struct dp_key *source, int too_big)
{
    uint8_t bytes[sizeof *source + 1];
    uint32_t hash = 0x811c9dc5;

    memcpy(bytes, source, sizeof *source);
    bytes[sizeof *source] = (uint8_t)too_big;
    for (size_t i = 0; i < sizeof bytes; i++)
        hash = (hash ^ bytes[i]) * 0x01000193;
    return (hash ^ hash >> 16) % N_SOURCES;
}

/**
 * dp_limit_take() - pay for one error
 * @limit: the limit
 * @reason: what the error is about
 * @source: where it goes
 * @now_ns: the time
 *
 * Return: whether it may go out.
 */
static inline int dp_limit_take(struct dp_limit *limit, enum dp_verdict reason, const struct dp_key *source,
                                uint64_t now_ns)
{
    int too_big = reason == DP_VERDICT_TOO_BIG;
    uint64_t capacity = limit->all.capacity;

    if (capacity == 0)
        return 0;
    return dp_bucket_pay(&limit->full_at_ns[dp_limit_slot(source, too_big)], limit->source_cost, limit->source_capacity,
                         now_ns) &&
           dp_bucket_pay(&limit->all.full_at_ns, limit->all.cost, capacity - (too_big ? 0 : limit->reserve), now_ns);
}

#endif
