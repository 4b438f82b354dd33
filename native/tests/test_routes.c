/* test_routes.c - the lookup finds what a scan of the whole list finds; bad lists are refused. */
#include "check.h"
#include "routes.h"

#include <errno.h>

#define N_PREFIXES 500

/* What the longest prefix is, by looking at all of them. */
static int32_t scan(const struct dp_prefix *prefixes, size_t n, const uint8_t *key)
{
    int32_t best = NO_PEER;
    uint32_t best_length = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t bit = 0;
        while (bit < prefixes[i].length && !((prefixes[i].key[bit / 8] ^ key[bit / 8]) & 0x80 >> bit % 8))
            bit++;
        if (bit == prefixes[i].length && (best == NO_PEER || prefixes[i].length >= best_length)) {
            best = prefixes[i].peer;
            best_length = prefixes[i].length;
        }
    }
    return best;
}

/* Keys of few different bytes, so that prefixes overlap and lookups hit. */
static void random_key(uint8_t *key, uint64_t *seed)
{
    for (size_t i = 0; i < 16; i++)
        key[i] = (uint8_t)(next_random(seed) % 3 * 0x55);
}

static void test_lookup_is_a_scan(void)
{
    static struct dp_prefix prefixes[N_PREFIXES];
    struct dp_peer peers[8] = {0};
    uint64_t seed = 3;

    for (int i = 0; i < 8; i++)
        peers[i] = (struct dp_peer){.id = i * 3, .generation = 1};
    for (int round = 0; round < 20; round++) {
        size_t n = next_random(&seed) % N_PREFIXES;
        struct dp_routes *routes;
        for (size_t i = 0; i < n; i++) {
            random_key(prefixes[i].key, &seed);
            prefixes[i].length = next_random(&seed) % 129;
            prefixes[i].peer = (int32_t)(next_random(&seed) % 8 * 3);
        }
        CHECK(dp_routes_new(peers, 8, prefixes, n, &routes) == 0);
        for (int lookup = 0; lookup < 500; lookup++) {
            uint8_t bytes[16];
            random_key(bytes, &seed);
            struct dp_key key = dp_key_load(bytes, 16);
            CHECK(dp_routes_lookup(routes, &key) == scan(prefixes, n, bytes));
        }
        dp_routes_free(routes);
    }
}

static void test_senders(void)
{
    static const uint8_t known[4] = {192, 168, 0, 202}, stranger[4] = {192, 168, 0, 203};
    struct dp_key known_key = dp_key_load(known, 4), stranger_key = dp_key_load(stranger, 4);
    struct dp_peer peer = {.id = 5, .generation = 1, .port = 8285};
    struct dp_routes *routes;

    memcpy(peer.address, &known_key, 16);
    CHECK(dp_routes_new(&peer, 1, NULL, 0, &routes) == 0);
    CHECK(dp_routes_is_sender(routes, &known_key));
    CHECK(!dp_routes_is_sender(routes, &stranger_key));
    CHECK(dp_routes_peer(routes, 5) && !dp_routes_peer(routes, 4));
    CHECK(!dp_routes_peer(routes, -1) && !dp_routes_peer(routes, 6));
    dp_routes_free(routes);
}

static void test_bad_lists_are_refused(void)
{
    struct dp_peer peer = {.id = 1, .generation = 1};
    struct dp_prefix prefix = {.length = 24, .peer = 1};
    struct dp_routes *routes;

    prefix.length = 129;
    CHECK(dp_routes_new(&peer, 1, &prefix, 1, &routes) == -EINVAL);
    prefix = (struct dp_prefix){.length = 24, .peer = 2};
    CHECK(dp_routes_new(&peer, 1, &prefix, 1, &routes) == -EINVAL);
    peer.id = -1;
    CHECK(dp_routes_new(&peer, 1, NULL, 0, &routes) == -EINVAL);
    peer.id = DP_MAX_PEER_ID + 1;
    CHECK(dp_routes_new(&peer, 1, NULL, 0, &routes) == -EINVAL);
    peer = (struct dp_peer){.id = 1, .generation = 0};
    CHECK(dp_routes_new(&peer, 1, NULL, 0, &routes) == -EINVAL);
    peer = (struct dp_peer){.id = 1, .generation = 1, .port = 65536};
    CHECK(dp_routes_new(&peer, 1, NULL, 0, &routes) == -EINVAL);
}

int main(void)
{
    RUN(test_lookup_is_a_scan);
    RUN(test_senders);
    RUN(test_bad_lists_are_refused);
    return 0;
}
