/* engine.c - engines, workers, and the exchange of route snapshots between control and workers. */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>

static_assert(sizeof(struct dp_counters) % sizeof(uint64_t) == 0, "it is read as the numbers that it consists of");

static struct dp_own_subnet own_subnet(const uint8_t *subnet, uint32_t length, int v4)
{
    struct dp_own_subnet own = {.prefix = {{UINT64_MAX, UINT64_MAX}}};

    if (length == 0)
        return own;
    own.prefix = dp_key_load(subnet, sizeof own.prefix);
    own.mask = dp_key_prefix_mask(length);
    if (v4 && length < 127) /* two addresses have no broadcast address (RFC 3021) */
        for (size_t word = 0; word < 2; word++)
            own.broadcast.word[word] = own.prefix.word[word] | ~own.mask.word[word];
    return own;
}

struct dp_engine *dp_engine_new(const struct dp_config *config)
{
    struct dp_engine *engine = calloc(1, sizeof *engine);
    struct dp_routes *routes;

    if (!engine)
        return NULL;
    engine->config = *config;
    engine->own[0] = own_subnet(config->subnet6, config->subnet6_len, 0);
    engine->own[1] = own_subnet(config->subnet4, config->subnet4_len, 1);
    dp_limit_init(&engine->limit, config->icmp_rate, config->icmp_burst);
    dp_features_init(&engine->features, config->unwanted_features);
    if (dp_routes_new(NULL, 0, NULL, 0, &routes)) {
        free(engine);
        return NULL;
    }
    atomic_init(&engine->routes, routes);
    atomic_init(&engine->epoch, 1);
    if (!dp_engine_add_worker(engine)) {
        dp_engine_free(engine);
        return NULL;
    }
    return engine;
}

static void worker_free(struct dp_worker *worker)
{
    for (size_t page = 0; page < N_PEER_PAGES; page++)
        free(atomic_load(&worker->peers[page]));
    free(worker);
}

void dp_engine_free(struct dp_engine *engine)
{
    if (!engine)
        return;
    for (struct dp_worker *worker = engine->batch_worker, *next; worker; worker = next) {
        next = worker->next;
        worker_free(worker);
    }
    for (struct dp_routes *routes = engine->oldest_retired, *next; routes; routes = next) {
        next = routes->next_retired;
        dp_routes_free(routes);
    }
    dp_routes_free(atomic_load(&engine->routes));
    free(engine);
}

/* Let a worker count the peers with ids below @n_peers. */
static int add_peer_pages(struct dp_worker *worker, size_t n_peers)
{
    for (size_t page = 0; page * PEERS_PER_PAGE < n_peers; page++) {
        if (atomic_load(&worker->peers[page]))
            continue;
        struct dp_peer_counters *counters = calloc(PEERS_PER_PAGE, sizeof *counters);
        if (!counters)
            return -ENOMEM;
        atomic_store(&worker->peers[page], counters);
    }
    return 0;
}

struct dp_worker *dp_engine_add_worker(struct dp_engine *engine)
{
    struct dp_worker *worker = aligned_alloc(CACHE_LINE, sizeof *worker);
    struct dp_worker **last = &engine->batch_worker;

    if (!worker)
        return NULL;
    memset(worker, 0, sizeof *worker);
    worker->engine = engine;
    dp_worker_set_idle(worker);
    if (add_peer_pages(worker, atomic_load(&engine->routes)->n_peers)) {
        worker_free(worker);
        return NULL;
    }
    while (*last)
        last = &(*last)->next;
    *last = worker;
    return worker;
}

struct dp_worker *dp_engine_worker(struct dp_engine *engine, size_t i)
{
    struct dp_worker *worker = engine->batch_worker;
    while (worker && i-- > 0)
        worker = worker->next;
    return worker;
}

/* Free the snapshots that no worker can be using. */
static void reclaim(struct dp_engine *engine)
{
    uint64_t oldest_seen = WORKER_IDLE;

    for (struct dp_worker *worker = engine->batch_worker; worker; worker = worker->next) {
        uint64_t seen = atomic_load(&worker->seen);
        oldest_seen = seen < oldest_seen ? seen : oldest_seen;
    }
    while (engine->oldest_retired && engine->oldest_retired->retired_at <= oldest_seen) {
        struct dp_routes *routes = engine->oldest_retired;
        engine->oldest_retired = routes->next_retired;
        dp_routes_free(routes);
    }
}

static void retire(struct dp_engine *engine, struct dp_routes *routes)
{
    struct dp_routes **last = &engine->oldest_retired;

    routes->retired_at = atomic_fetch_add(&engine->epoch, 1) + 1;
    while (*last)
        last = &(*last)->next_retired;
    *last = routes;
}

static void keep_path_mtus(struct dp_routes *fresh, const struct dp_routes *old)
{
    for (size_t id = 0; id < fresh->n_peers && id < old->n_peers; id++)
        if (fresh->peers[id].generation == old->peers[id].generation) {
            fresh->peers[id].path_mtu = old->peers[id].path_mtu;
            fresh->peers[id].learned_ns = old->peers[id].learned_ns;
        }
}

int dp_engine_set_routes(struct dp_engine *engine, const struct dp_peer *peers, size_t n_peers,
                         const struct dp_prefix *prefixes, size_t n_prefixes)
{
    struct dp_routes *old = atomic_load(&engine->routes), *fresh;
    int error = dp_routes_new(peers, n_peers, prefixes, n_prefixes, &fresh);

    for (struct dp_worker *worker = engine->batch_worker; worker && !error; worker = worker->next) {
        error = add_peer_pages(worker, fresh->n_peers);
        if (error)
            dp_routes_free(fresh);
    }
    if (error)
        return error;
    keep_path_mtus(fresh, old);
    atomic_store(&engine->routes, fresh);
    retire(engine, old);
    reclaim(engine);
    return 0;
}

const struct dp_routes *dp_worker_begin_turn(struct dp_worker *worker)
{
    /* The order matters, see engine.h: with the epoch noted first, the snapshot is at least as new. */
    atomic_store(&worker->seen, atomic_load(&worker->engine->epoch));
    return atomic_load(&worker->engine->routes);
}

void dp_worker_learn_mtu(struct dp_worker *worker, const struct dp_routes *routes, int32_t peer, uint32_t mtu,
                         uint64_t now_ns)
{
    const struct dp_config *config = &worker->engine->config;
    struct dp_route_peer *known = dp_routes_peer(routes, peer);
    uint32_t before = dp_routes_path(routes, config, peer).carried;

    if (!known)
        return;
    if (mtu == 0 || mtu >= config->mtu) {
        atomic_store_explicit(&known->path_mtu, 0, memory_order_relaxed);
    } else if (mtu != before) {
        atomic_store_explicit(&known->path_mtu, mtu, memory_order_relaxed);
        atomic_store_explicit(&known->learned_ns, now_ns, memory_order_relaxed);
        dp_counter_add(&worker->counters.events[DP_EVENT_MTU_LEARNED], mtu < before);
    }
}

void dp_engine_set_path_mtu(struct dp_engine *engine, int32_t peer, uint32_t mtu, uint64_t now_ns)
{
    dp_worker_learn_mtu(engine->batch_worker, atomic_load(&engine->routes), peer, mtu, now_ns);
}

uint32_t dp_engine_path_mtu(struct dp_engine *engine, int32_t peer)
{
    return dp_routes_path(atomic_load(&engine->routes), &engine->config, peer).mtu;
}

uint32_t dp_engine_learned_mtu(struct dp_engine *engine, int32_t peer, uint64_t *since_ns)
{
    const struct dp_route_peer *known = dp_routes_peer(atomic_load(&engine->routes), peer);

    *since_ns = known ? atomic_load_explicit(&known->learned_ns, memory_order_relaxed) : 0;
    return known ? atomic_load_explicit(&known->path_mtu, memory_order_relaxed) : 0;
}

int dp_engine_feature(const struct dp_engine *engine, int feature, int *error)
{
    *error = engine->features.error[feature];
    return engine->features.state[feature];
}

void dp_worker_counters(const struct dp_worker *worker, struct dp_counters *counters)
{
    const uint64_t *from = (const uint64_t *)&worker->counters;
    uint64_t *to = (uint64_t *)counters;

    for (size_t i = 0; i < sizeof *counters / sizeof *to; i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

/* The counters of a peer, or NULL when it has no place for them. */
static struct dp_peer_counters *peer_counters(const struct dp_worker *worker, int32_t peer)
{
    if (peer < 0 || peer > DP_MAX_PEER_ID)
        return NULL;
    struct dp_peer_counters *page = atomic_load_explicit(&worker->peers[peer / PEERS_PER_PAGE], memory_order_acquire);
    return page ? &page[peer % PEERS_PER_PAGE] : NULL;
}

/*
 * Each number is written with release and read with acquire, so whoever reads one of a new generation does not find the
 * old generation behind it.
 */
int dp_worker_peer_counters(const struct dp_worker *worker, int32_t peer, struct dp_peer_counters *counters)
{
    const struct dp_peer_counters *traffic = peer_counters(worker, peer);

    if (!traffic)
        return 0;
    counters->generation = __atomic_load_n(&traffic->generation, __ATOMIC_ACQUIRE);
    counters->tx_packets = __atomic_load_n(&traffic->tx_packets, __ATOMIC_ACQUIRE);
    counters->tx_bytes = __atomic_load_n(&traffic->tx_bytes, __ATOMIC_ACQUIRE);
    counters->rx_packets = __atomic_load_n(&traffic->rx_packets, __ATOMIC_ACQUIRE);
    counters->rx_bytes = __atomic_load_n(&traffic->rx_bytes, __ATOMIC_ACQUIRE);
    counters->last_rx_ns = __atomic_load_n(&traffic->last_rx_ns, __ATOMIC_ACQUIRE);
    return counters->generation && counters->generation == __atomic_load_n(&traffic->generation, __ATOMIC_RELAXED);
}

/* Begin to count for another peer of the same id; generation 0 tells readers to keep off until that is done. */
static void reset(struct dp_peer_counters *traffic, uint32_t generation)
{
    __atomic_store_n(&traffic->generation, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&traffic->tx_packets, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&traffic->tx_bytes, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&traffic->rx_packets, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&traffic->rx_bytes, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&traffic->last_rx_ns, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&traffic->generation, generation, __ATOMIC_RELEASE);
}

void dp_worker_count_peer(struct dp_worker *worker, const struct dp_routes *routes, enum dp_direction direction,
                          int32_t peer, uint64_t packets, uint64_t bytes, uint64_t now_ns)
{
    uint32_t generation = routes->peers[peer].generation;
    struct dp_peer_counters *traffic = peer_counters(worker, peer);

    if (traffic->generation != generation) /* what is counted here was another peer's */
        reset(traffic, generation);
    if (direction == DP_DIRECTION_ENCAP) {
        dp_counter_add(&traffic->tx_packets, packets);
        dp_counter_add(&traffic->tx_bytes, bytes);
    } else {
        dp_counter_add(&traffic->rx_packets, packets);
        dp_counter_add(&traffic->rx_bytes, bytes);
        __atomic_store_n(&traffic->last_rx_ns, now_ns, __ATOMIC_RELEASE);
    }
}
