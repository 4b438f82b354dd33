/* routes.c - building and asking route snapshots. */
#include "routes.h"

#include <errno.h>
#include <stdlib.h>

#define KEY_BITS       128
#define V4_PREFIX_BITS 96 /* all keys of IPv4 addresses begin with */

static inline size_t hash(const struct dp_key *key)
{
    /* Multiplication carries low bits up, the shift brings them back down to where the slot mask looks. */
    uint64_t mixed = (key->word[0] ^ (key->word[1] * 0x9e3779b97f4a7c15)) * 0xff51afd7ed558ccd;
    mixed ^= mixed >> 32;
    mixed *= 0xc4ceb9fe1a85ec53;
    return (size_t)(mixed ^ mixed >> 29);
}

/* The slot of a key that is masked already, or the free slot where it would go. */
static inline struct dp_table_slot *find_slot(const struct dp_table *table, const struct dp_key *key)
{
    size_t i = hash(key) & table->slot_mask;
    while (table->slots[i].value != NO_PEER && !dp_key_equal(&table->slots[i].key, key))
        i = (i + 1) & table->slot_mask;
    return &table->slots[i];
}

static int table_init(struct dp_table *table, uint32_t length, size_t n_keys)
{
    size_t n_slots = 2;

    while (n_slots < 2 * n_keys)
        n_slots *= 2;
    table->slots = malloc(n_slots * sizeof *table->slots);
    if (!table->slots)
        return -ENOMEM;
    for (size_t i = 0; i < n_slots; i++)
        table->slots[i] = (struct dp_table_slot){.value = NO_PEER};
    table->slot_mask = n_slots - 1;
    table->length = length;
    table->mask = dp_key_prefix_mask(length);
    return 0;
}

static void table_set(struct dp_table *table, const uint8_t *address, int32_t value)
{
    struct dp_key key = dp_key_load(address, sizeof key);
    key = dp_key_masked(&key, &table->mask);
    struct dp_table_slot *slot = find_slot(table, &key);
    slot->key = key;
    slot->value = value;
}

static int fill_peers(struct dp_routes *routes, const struct dp_peer *peers, size_t n_peers)
{
    for (size_t i = 0; i < n_peers; i++) {
        if (peers[i].id < 0 || peers[i].id > DP_MAX_PEER_ID || peers[i].generation == 0 || peers[i].port > UINT16_MAX)
            return -EINVAL;
        if ((size_t)peers[i].id >= routes->n_peers)
            routes->n_peers = (size_t)peers[i].id + 1;
    }
    routes->peers = calloc(routes->n_peers + 1, sizeof *routes->peers);
    if (!routes->peers || table_init(&routes->senders, KEY_BITS, n_peers))
        return -ENOMEM;
    for (size_t i = 0; i < n_peers; i++) {
        struct dp_route_peer *peer = &routes->peers[peers[i].id];
        peer->key = dp_key_load(peers[i].address, sizeof peer->key);
        peer->generation = peers[i].generation;
        peer->port = (uint16_t)peers[i].port;
        table_set(&routes->senders, peers[i].address, peers[i].id);
    }
    return 0;
}

static int fill_tables(struct dp_routes *routes, const struct dp_prefix *prefixes, size_t n_prefixes)
{
    size_t n_keys[KEY_BITS + 1] = {0};
    struct dp_table *by_length[KEY_BITS + 1] = {0};

    for (size_t i = 0; i < n_prefixes; i++) {
        if (prefixes[i].length > KEY_BITS || !dp_routes_peer(routes, prefixes[i].peer))
            return -EINVAL;
        n_keys[prefixes[i].length]++;
    }
    routes->tables = calloc(KEY_BITS + 1, sizeof *routes->tables);
    if (!routes->tables)
        return -ENOMEM;
    for (uint32_t length = KEY_BITS + 1; length-- > 0;) {
        if (n_keys[length] == 0)
            continue;
        by_length[length] = &routes->tables[routes->n_tables];
        if (table_init(by_length[length], length, n_keys[length]))
            return -ENOMEM;
        routes->n_tables++;
    }
    for (size_t i = 0; i < n_prefixes; i++)
        table_set(by_length[prefixes[i].length], prefixes[i].key, prefixes[i].peer);
    return 0;
}

int dp_routes_new(const struct dp_peer *peers, size_t n_peers, const struct dp_prefix *prefixes, size_t n_prefixes,
                  struct dp_routes **result)
{
    struct dp_routes *routes = calloc(1, sizeof *routes);
    int error;

    if (!routes)
        return -ENOMEM;
    error = fill_peers(routes, peers, n_peers);
    if (!error)
        error = fill_tables(routes, prefixes, n_prefixes);
    if (error) {
        dp_routes_free(routes);
        return error;
    }
    *result = routes;
    return 0;
}

void dp_routes_free(struct dp_routes *routes)
{
    if (!routes)
        return;
    for (size_t i = 0; i < routes->n_tables; i++)
        free(routes->tables[i].slots);
    free(routes->tables);
    free(routes->senders.slots);
    free(routes->peers);
    free(routes);
}

int32_t dp_routes_lookup(const struct dp_routes *routes, const struct dp_key *key)
{
    for (size_t i = 0; i < routes->n_tables; i++) {
        if (routes->tables[i].length < V4_PREFIX_BITS && dp_key_is_v4(key))
            break; /* a short prefix of IPv6 addresses does not cover IPv4 */
        struct dp_key prefix = dp_key_masked(key, &routes->tables[i].mask);
        int32_t peer = find_slot(&routes->tables[i], &prefix)->value;
        if (peer != NO_PEER)
            return peer;
    }
    return NO_PEER;
}

int dp_routes_is_sender(const struct dp_routes *routes, const struct dp_key *key)
{
    return find_slot(&routes->senders, key)->value != NO_PEER;
}
