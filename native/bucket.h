/*
 * bucket.h - a limit on how often something happens, shared by threads without a lock.
 *
 * Workers of one engine share a bucket, and some of them are real-time threads. One that waited for a lock which an
 * ordinary thread holds on the same processor would wait until the kernel throttles it. So all that changes is one
 * word: the time when the bucket will be full (the generic cell rate algorithm, ITU-T I.371), and a thread that loses
 * the race for it tries again only because another one got on.
 */
#ifndef DP_BUCKET_H
#define DP_BUCKET_H

#include <stdatomic.h>
#include <stdint.h>

#define NANOSECONDS 1000000000U

/**
 * struct dp_bucket - lets through some events a second in the long run, and a burst at once
 * @cost: nanoseconds that an event costs
 * @capacity: nanoseconds that can be saved up
 * @full_at_ns: when the bucket is full again if nothing happens; at most @capacity from now
 */
struct dp_bucket {
    uint64_t cost;
    uint64_t capacity;
    _Atomic uint64_t full_at_ns;
};

/**
 * dp_bucket_init() - a full bucket
 * @bucket: the bucket
 * @rate: events a second; 0 for none ever
 * @burst: events at once
 */
static inline void dp_bucket_init(struct dp_bucket *bucket, uint32_t rate, uint32_t burst)
{
    bucket->cost = rate ? NANOSECONDS / rate : 1;
    bucket->capacity = rate ? burst * bucket->cost : 0;
    atomic_init(&bucket->full_at_ns, 0);
}

/**
 * dp_bucket_pay() - pay for one event out of a bucket that is only a number
 * @full_at_ns: when the bucket is full again
 * @cost: nanoseconds that the event costs
 * @capacity: nanoseconds that can be saved up, less what has to be left over
 * @now_ns: the time; may be a little earlier than another thread's
 *
 * Return: whether the event may happen.
 */
static inline int dp_bucket_pay(_Atomic uint64_t *full_at_ns, uint64_t cost, uint64_t capacity, uint64_t now_ns)
{
    uint64_t full_at = atomic_load_explicit(full_at_ns, memory_order_relaxed), paid;

    do {
        paid = (full_at > now_ns ? full_at : now_ns) + cost;
        if (paid - now_ns > capacity)
            return 0;
    } while (
        !atomic_compare_exchange_weak_explicit(full_at_ns, &full_at, paid, memory_order_relaxed, memory_order_relaxed));
    return 1;
}

/* Pay for one event; returns whether it may happen. */
static inline int dp_bucket_take(struct dp_bucket *bucket, uint64_t now_ns)
{
    return dp_bucket_pay(&bucket->full_at_ns, bucket->cost, bucket->capacity, now_ns);
}

#endif
