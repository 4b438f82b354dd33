/*
 * routes.h - which peer owns which pod subnet: an immutable snapshot, looked up by longest prefix.
 *
 * There is one open-addressing hash table for each prefix length in use, and a lookup asks them from the longest down.
 * The leases of a network have one length, two with IPv6, so that is one or two probes, for one lease and for 100,000.
 *
 * All is immutable but the path MTUs, which workers learn and control carries over to the next snapshot.
 */
#ifndef DP_ROUTES_H
#define DP_ROUTES_H

#include <stddef.h>
#include <stdint.h>

#include "packet.h"

#define NO_PEER (-1)

#define DP_MAX_PEER_ID 0xfffff

struct dp_table_slot {
    struct dp_key key;
    int32_t value;
};

/**
 * struct dp_table - a hash table of masked keys; at least every other slot is free
 * @slots: 2^n of them; value NO_PEER for a free one
 * @slot_mask: their number less one
 * @length: bits of a key that count
 * @mask: the key with just these bits set
 */
struct dp_table {
    struct dp_table_slot *slots;
    size_t slot_mask;
    uint32_t length;
    struct dp_key mask;
};

/**
 * struct dp_route_peer - what a worker needs to know of a peer
 * @key: its underlay address
 * @generation: 0 when no peer has this id
 * @port: its UDP port
 * @path_mtu: learned: bytes of the largest inner packet; 0 for as configured. Read and written by any thread
 * @learned_ns: when @path_mtu was learned
 */
struct dp_route_peer {
    struct dp_key key;
    uint32_t generation;
    uint16_t port;
    _Atomic uint32_t path_mtu;
    _Atomic uint64_t learned_ns;
};

/**
 * struct dp_routes - the routes at one moment
 * @tables: one for each prefix length, longest first
 * @n_tables: how many
 * @senders: the underlay addresses of all peers
 * @peers: by id
 * @n_peers: highest id plus one
 * @retired_at: the epoch in which the snapshot was replaced
 * @next_retired: the snapshot that was replaced after this one
 */
struct dp_routes {
    struct dp_table *tables;
    size_t n_tables;
    struct dp_table senders;
    struct dp_route_peer *peers;
    size_t n_peers;
    uint64_t retired_at;
    struct dp_routes *next_retired;
};

/**
 * dp_routes_new() - build a snapshot
 * @peers: all peers
 * @n_peers: how many
 * @prefixes: all prefixes; of two that are equal the later one counts
 * @n_prefixes: how many
 * @result: where the snapshot goes; to be given to dp_routes_free()
 *
 * Return: 0, -EINVAL when an id or a length is out of range or a prefix is owned by nobody, or -ENOMEM.
 */
int dp_routes_new(const struct dp_peer *peers, size_t n_peers, const struct dp_prefix *prefixes, size_t n_prefixes,
                  struct dp_routes **result);

/**
 * dp_routes_free() - free a snapshot
 * @routes: the snapshot, or NULL
 */
void dp_routes_free(struct dp_routes *routes);

/**
 * dp_routes_lookup() - the id of the peer whose subnet covers an address best
 * @routes: the snapshot
 * @key: the address
 *
 * Return: the id, or NO_PEER.
 */
int32_t dp_routes_lookup(const struct dp_routes *routes, const struct dp_key *key);

/**
 * dp_routes_is_sender() - whether some peer has this underlay address
 * @routes: the snapshot
 * @key: the address
 */
int dp_routes_is_sender(const struct dp_routes *routes, const struct dp_key *key);

/* The peer with an id, or NULL. */
static inline struct dp_route_peer *dp_routes_peer(const struct dp_routes *routes, int32_t id)
{
    if (id < 0 || (size_t)id >= routes->n_peers || routes->peers[id].generation == 0)
        return NULL;
    return &routes->peers[id];
}

#endif
