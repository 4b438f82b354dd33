/*
 * engine.h - an engine and its workers: routes in use, path MTUs, counters.
 *
 * One thread, called control here, owns the engine; each worker belongs to a thread of its own. They share the route
 * snapshot, without a lock (quiescent state based reclamation): control puts the new snapshot in place and then raises
 * the epoch; a worker notes the epoch at the start of each turn, before it takes the snapshot, and notes that it is
 * idle before it sleeps. A snapshot that was replaced in epoch e is freed when every worker is idle or has noted e.
 */
#ifndef DP_ENGINE_H
#define DP_ENGINE_H

#include <assert.h>
#include <stdatomic.h>

#include "icmp.h"
#include "limit.h"
#include "offload.h"
#include "routes.h"

#define PEERS_PER_PAGE 1024
#define N_PEER_PAGES   ((DP_MAX_PEER_ID + 1) / PEERS_PER_PAGE)
#define WORKER_IDLE    UINT64_MAX
#define CACHE_LINE     64

static_assert((DP_MAX_PEER_ID + 1) % PEERS_PER_PAGE == 0, "every peer's id has its place in a page");

struct dp_loop;

/**
 * struct dp_own_subnet - one of the node's own subnets
 * @prefix: its first address; all ones, which no masked address is, where there is no subnet
 * @mask: the key with its prefix length's bits set
 * @broadcast: its broadcast address; all zero, and so outside of it, where there is none
 */
struct dp_own_subnet {
    struct dp_key prefix;
    struct dp_key mask;
    struct dp_key broadcast;
};

/**
 * struct dp_worker - what one thread needs to decide about packets, and what it counts
 * @counters: first, so that no two workers write to one cache line
 * @peers: its counters of each peer, in pages that control adds and that stay
 * @seen: the epoch that the worker noted last, or WORKER_IDLE
 * @engine: the engine
 * @loop: the run that is interrupted to tell about a failed feature, or NULL
 * @next: the worker that was added after this one
 */
struct dp_worker {
    _Alignas(CACHE_LINE) struct dp_counters counters;
    _Atomic(struct dp_peer_counters *) peers[N_PEER_PAGES];
    _Alignas(CACHE_LINE) _Atomic uint64_t seen;
    struct dp_engine *engine;
    struct dp_loop *loop;
    struct dp_worker *next;
};

/**
 * struct dp_engine - what all workers share
 * @config: never changes
 * @own: the node's own subnets, IPv6 and IPv4, by is_v4(); never change either
 * @limit: on ICMP errors
 * @features: what the kernel lets the loop do
 * @routes: the snapshot in use
 * @epoch: how often @routes was replaced
 * @oldest_retired: snapshots that were replaced, in that order
 * @batch_worker: the worker of the functions that take a batch, and of control
 */
struct dp_engine {
    struct dp_config config;
    struct dp_own_subnet own[2];
    struct dp_limit limit;
    struct dp_features features;
    _Atomic(struct dp_routes *) routes;
    _Atomic uint64_t epoch;
    struct dp_routes *oldest_retired;
    struct dp_worker *batch_worker;
};

/* Add to a counter that others read: never torn, and seen no earlier than what was written before. */
static inline void dp_counter_add(uint64_t *counter, uint64_t amount)
{
    __atomic_store_n(counter, *counter + amount, __ATOMIC_RELEASE);
}

/**
 * dp_worker_begin_turn() - note a quiescent point and take the routes
 * @worker: the worker
 *
 * Return: the snapshot, valid until the worker's next turn, or until it notes that it is idle.
 */
const struct dp_routes *dp_worker_begin_turn(struct dp_worker *worker);

/* Note that the worker holds no snapshot. */
static inline void dp_worker_set_idle(struct dp_worker *worker)
{
    atomic_store(&worker->seen, WORKER_IDLE);
}

/**
 * dp_worker_count() - count packets of one kind
 * @worker: the worker
 * @direction: their way
 * @verdict: their final verdict
 * @packets: how many
 * @bytes: their bytes as read
 */
static inline void dp_worker_count(struct dp_worker *worker, enum dp_direction direction, enum dp_verdict verdict,
                                   uint64_t packets, uint64_t bytes)
{
    dp_counter_add(&worker->counters.packets[direction][verdict], packets);
    dp_counter_add(&worker->counters.bytes[direction][verdict], bytes);
}

/**
 * dp_worker_count_peer() - count packets that were forwarded to or from a peer
 * @worker: the worker
 * @routes: the snapshot in use
 * @direction: their way
 * @peer: the peer's id
 * @packets: how many
 * @bytes: their bytes as read
 * @now_ns: the time
 */
void dp_worker_count_peer(struct dp_worker *worker, const struct dp_routes *routes, enum dp_direction direction,
                          int32_t peer, uint64_t packets, uint64_t bytes, uint64_t now_ns);

/**
 * struct dp_path - what the path to a peer carries
 * @mtu: bytes of the largest inner packet
 * @carried: bytes of the largest that goes in a datagram with DF; less than @mtu where @mtu is the least that is
 * allowed
 */
struct dp_path {
    uint32_t mtu;
    uint32_t carried;
};

/**
 * dp_routes_path() - what the path to a peer carries
 * @routes: the snapshot
 * @config: what is configured
 * @peer: the peer's id, known or not
 */
static inline struct dp_path dp_routes_path(const struct dp_routes *routes, const struct dp_config *config,
                                            int32_t peer)
{
    const struct dp_route_peer *known = dp_routes_peer(routes, peer);
    uint32_t learned = known ? atomic_load_explicit(&known->path_mtu, memory_order_relaxed) : 0;
    uint32_t carried = learned ? learned : config->mtu;
    return (struct dp_path){.mtu = carried > config->least_mtu ? carried : config->least_mtu, .carried = carried};
}

/**
 * dp_worker_learn_mtu() - note what the path to a peer carries
 * @worker: counts MTU_LEARNED when that is less than what was known
 * @routes: the snapshot in use
 * @peer: the peer's id; unknown ones are ignored
 * @mtu: bytes of the largest inner packet; 0 for as configured
 * @now_ns: the time
 */
void dp_worker_learn_mtu(struct dp_worker *worker, const struct dp_routes *routes, int32_t peer, uint32_t mtu,
                         uint64_t now_ns);

#endif
