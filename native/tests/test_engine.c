/* test_engine.c - routes change under running workers; counters of peers that follow each other are kept apart. */
#include "check.h"
#include "engine.h"

#include <pthread.h>

#define N_UPDATES 2000
#define N_WORKERS 2

static const struct dp_config config = {.mtu = 1472};

static void set_routes(struct dp_engine *engine, int32_t id, uint32_t generation)
{
    struct dp_peer peer = {.id = id, .generation = generation, .port = 8285};
    struct dp_prefix prefix = {.length = 0, .peer = id};
    CHECK(dp_engine_set_routes(engine, &peer, 1, &prefix, 1) == 0);
}

static _Atomic int stop;

/* Look up while routes change: there is always one, and it is whole. */
static void *look_up(void *context)
{
    struct dp_worker *worker = context;
    struct dp_key key = {{1, 2}};

    while (!stop) {
        const struct dp_routes *routes = dp_worker_begin_turn(worker);
        for (int i = 0; i < 50; i++) {
            int32_t id = dp_routes_lookup(routes, &key);
            CHECK(dp_routes_peer(routes, id)->generation == (uint32_t)id + 1);
            dp_worker_count_peer(worker, routes, DP_DIRECTION_ENCAP, id, 1, 10, 0);
        }
        if (routes->n_peers % 7 == 0)
            dp_worker_set_idle(worker);
    }
    dp_worker_set_idle(worker);
    return NULL;
}

static void test_routes_change_under_workers(void)
{
    struct dp_engine *engine = dp_engine_new(&config);
    pthread_t threads[N_WORKERS];

    set_routes(engine, 0, 1);
    for (int i = 0; i < N_WORKERS; i++)
        CHECK(pthread_create(&threads[i], NULL, look_up, dp_engine_add_worker(engine)) == 0);
    for (int32_t i = 0; i < N_UPDATES; i++)
        set_routes(engine, i % 1500, (uint32_t)(i % 1500) + 1);
    stop = 1;
    for (int i = 0; i < N_WORKERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    set_routes(engine, 0, 1);
    CHECK(!engine->oldest_retired); /* with all workers idle nothing is kept */
    dp_engine_free(engine);
}

static void test_a_peer_does_not_inherit_counters(void)
{
    struct dp_engine *engine = dp_engine_new(&config);
    struct dp_worker *worker = dp_engine_worker(engine, 0);
    struct dp_peer_counters traffic, none;

    set_routes(engine, 3, 1);
    dp_worker_count_peer(worker, engine->routes, DP_DIRECTION_DECAP, 3, 5, 500, 99);
    CHECK(dp_worker_peer_counters(worker, 3, &traffic) == 1);
    CHECK(traffic.generation == 1 && traffic.rx_packets == 5 && traffic.rx_bytes == 500);
    CHECK(traffic.last_rx_ns == 99);
    set_routes(engine, 3, 2);
    dp_worker_count_peer(worker, engine->routes, DP_DIRECTION_ENCAP, 3, 1, 100, 0);
    CHECK(dp_worker_peer_counters(worker, 3, &traffic) == 1);
    CHECK(traffic.generation == 2 && traffic.rx_packets == 0 && traffic.tx_packets == 1);
    CHECK(!dp_worker_peer_counters(worker, -1, &none) && !dp_worker_peer_counters(worker, 5000, &none));
    dp_engine_free(engine);
}

static struct dp_engine *shared;

/* Twenty times as many packets as the number of the generation, of 10 bytes each, in both directions by turns. */
static void *count_for_one_peer_after_another(void *context)
{
    (void)context;
    for (uint32_t generation = 1; !stop; generation++) {
        set_routes(shared, 3, generation);
        for (uint32_t i = 0; i < 20; i++)
            dp_worker_count_peer(shared->batch_worker, shared->routes, i % 2, 3, generation, 10 * (uint64_t)generation,
                                 generation);
    }
    return NULL;
}

static void test_a_reader_sees_one_generation(void)
{
    struct dp_peer_counters traffic;
    struct dp_counters all;
    pthread_t thread;

    shared = dp_engine_new(&config);
    stop = 0;
    CHECK(pthread_create(&thread, NULL, count_for_one_peer_after_another, NULL) == 0);
    for (uint32_t n = 0; n < 20000;) {
        dp_worker_counters(shared->batch_worker, &all);
        if (!dp_worker_peer_counters(shared->batch_worker, 3, &traffic))
            continue;
        CHECK(traffic.tx_packets % traffic.generation == 0 && traffic.tx_packets / traffic.generation <= 10);
        CHECK(traffic.rx_bytes % traffic.generation == 0 && traffic.rx_bytes / traffic.generation <= 100);
        CHECK(traffic.last_rx_ns == traffic.generation || traffic.last_rx_ns == 0);
        n++;
    }
    stop = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    dp_engine_free(shared);
}

static void test_path_mtus_stay_with_their_peer(void)
{
    struct dp_engine *engine = dp_engine_new(&config);

    set_routes(engine, 3, 1);
    dp_engine_set_path_mtu(engine, 3, 1000, 5);
    dp_engine_set_path_mtu(engine, 9, 1000, 5); /* unknown */
    CHECK(dp_engine_path_mtu(engine, 3) == 1000 && dp_engine_path_mtu(engine, 9) == 1472);
    set_routes(engine, 3, 1);
    CHECK(dp_engine_path_mtu(engine, 3) == 1000);
    set_routes(engine, 3, 2);
    CHECK(dp_engine_path_mtu(engine, 3) == 1472);
    dp_engine_free(engine);
}

static void test_features(void)
{
    struct dp_features features;

    dp_features_init(&features, 1u << DP_FEATURE_GRO);
    CHECK(!dp_feature_possible(&features, DP_FEATURE_GRO) && dp_feature_possible(&features, DP_FEATURE_GSO));
    dp_feature_settle(&features, DP_FEATURE_GRO, 0); /* switched off by hand it stays off */
    CHECK(!dp_feature_on(&features, DP_FEATURE_GRO));
    dp_feature_settle(&features, DP_FEATURE_GSO, 0);
    CHECK(dp_feature_on(&features, DP_FEATURE_GSO));
    dp_feature_fail(&features, DP_FEATURE_GSO, 5);
    dp_feature_fail(&features, DP_FEATURE_GSO, 5);
    CHECK(!dp_feature_on(&features, DP_FEATURE_GSO) && features.changes == 1);
    dp_feature_settle(&features, DP_FEATURE_GSO, 0); /* another worker that starts does not bring it back */
    CHECK(features.state[DP_FEATURE_GSO] == DP_FEATURE_STATE_FAILED && features.error[DP_FEATURE_GSO] == 5);
}

static void test_kernels_that_spoil_segments(void)
{
    CHECK(dp_kernel_spoils_segments("7.0.0-rc1") && dp_kernel_spoils_segments("7.0.12"));
    CHECK(dp_kernel_spoils_segments("7.1.4-generic") && !dp_kernel_spoils_segments("7.1.5"));
    CHECK(!dp_kernel_spoils_segments("6.18.44") && !dp_kernel_spoils_segments("7.2.0"));
    CHECK(!dp_kernel_spoils_segments("") && !dp_kernel_spoils_segments("seven"));
}

int main(void)
{
    RUN(test_routes_change_under_workers);
    RUN(test_a_peer_does_not_inherit_counters);
    RUN(test_a_reader_sees_one_generation);
    RUN(test_path_mtus_stay_with_their_peer);
    RUN(test_features);
    RUN(test_kernels_that_spoil_segments);
    return 0;
}
