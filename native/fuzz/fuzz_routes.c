/*
 * fuzz_routes.c - any list of peers and prefixes is refused, or looked up as a scan of the list would.
 *
 * Input: records of four bytes. The first says what follows: a peer, a prefix, or a lookup.
 */
#include <stdlib.h>

#include "check.h"
#include "routes.h"

#define MAX_RECORDS 64

static void make_key(uint8_t *key, const uint8_t *record)
{
    for (size_t i = 0; i < 16; i++)
        key[i] = record[i % 8 < 4 ? 2 : 3];
}

static int covers(const struct dp_prefix *prefix, const uint8_t *key)
{
    for (uint32_t bit = 0; bit < prefix->length; bit++)
        if ((prefix->key[bit / 8] ^ key[bit / 8]) & 0x80 >> bit % 8)
            return 0;
    return 1;
}

static int32_t scan(const struct dp_prefix *prefixes, size_t n, const uint8_t *key)
{
    const struct dp_prefix *best = NULL;

    for (size_t i = 0; i < n; i++)
        if (covers(&prefixes[i], key) && (!best || prefixes[i].length >= best->length))
            best = &prefixes[i];
    return best ? best->peer : NO_PEER;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_len);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_len)
{
    struct dp_peer peers[MAX_RECORDS] = {0};
    struct dp_prefix prefixes[MAX_RECORDS] = {0};
    uint8_t lookups[MAX_RECORDS][16];
    size_t n_peers = 0, n_prefixes = 0, n_lookups = 0;
    struct dp_routes *routes;

    for (; input_len >= 4 && n_peers + n_prefixes + n_lookups < MAX_RECORDS; input += 4, input_len -= 4) {
        switch (input[0] % 3) {
        case 0:
            peers[n_peers] = (struct dp_peer){.id = (int8_t)input[1], .generation = input[2], .port = input[3] * 300u};
            make_key(peers[n_peers++].address, input);
            break;
        case 1:
            prefixes[n_prefixes] = (struct dp_prefix){.length = input[1], .peer = input[3] % 4};
            make_key(prefixes[n_prefixes++].key, input);
            break;
        default: make_key(lookups[n_lookups++], input);
        }
    }
    if (dp_routes_new(peers, n_peers, prefixes, n_prefixes, &routes))
        return 0;
    for (size_t i = 0; i < n_lookups; i++) {
        struct dp_key key = dp_key_load(lookups[i], 16);
        CHECK(dp_routes_lookup(routes, &key) == scan(prefixes, n_prefixes, lookups[i]));
    }
    for (size_t i = 0; i < n_peers; i++) {
        struct dp_key key = dp_key_load(peers[i].address, 16);
        CHECK(dp_routes_is_sender(routes, &key));
    }
    dp_routes_free(routes);
    return 0;
}
