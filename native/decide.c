/* decide.c - the packet rules, one packet at a time. */
#include "decide.h"

#include "fragment.h"

#define ECN_MASK  0x03
#define DROP_THIS 0xff

/* ECN bits of a packet that leaves a tunnel, by those of its inner and its outer header (RFC 6040 4.2, figure 4). */
static const uint8_t ecn_after_tunnel[4][4] = {
    {0, 0, 0, DROP_THIS},
    {1, 1, 1, 3},
    {2, 1, 2, 3},
    {3, 3, 3, 3},
};

/* Put the ICMP error about a packet in its place. */
static void answer(struct dp_packet *packet, enum dp_verdict reason, const uint8_t *sender, uint32_t mtu)
{
    if (packet->scratch) {
        packet->len = (uint32_t)min_size(packet->len, DP_ICMP_MAX_LEN);
        packet->data = memcpy(packet->scratch + DP_ICMP_HEADROOM, packet->data, packet->len);
    }
    packet->len = (uint32_t)dp_icmp_put_error(packet->data, packet->len, reason, sender, mtu, &packet->data);
    packet->egress = DP_EGRESS_TUN;
}

void dp_refuse(struct dp_worker *worker, struct dp_packet *packet, enum dp_verdict reason, uint32_t mtu,
               uint64_t now_ns)
{
    const struct dp_config *config = &worker->engine->config;
    enum dp_event event;

    packet->verdict = (uint8_t)reason;
    packet->peer = NO_PEER;
    packet->egress = DP_EGRESS_NONE;
    if (!dp_icmp_answers(reason))
        return;
    int v4 = is_v4(packet->data);
    struct dp_key source = dp_packet_source(packet->data);
    if (!(v4 ? config->subnet4_len : config->subnet6_len) || !dp_icmp_may_answer(packet->data, packet->len)) {
        event = DP_EVENT_ICMP_UNFIT;
    } else if (!dp_limit_take(&worker->engine->limit, reason, &source, now_ns)) {
        event = DP_EVENT_ICMP_LIMITED;
    } else {
        event = DP_EVENT_ICMP_SENT;
        answer(packet, reason, v4 ? config->subnet4 + 12 : config->subnet6, mtu);
    }
    dp_counter_add(&worker->counters.events[event], 1);
}

void dp_refuse_too_big(struct dp_worker *worker, const struct dp_routes *routes, struct dp_packet *packet,
                       uint64_t now_ns)
{
    uint32_t mtu = dp_routes_path(routes, &worker->engine->config, packet->peer).mtu;
    dp_packet_change_ttl(packet->data, +1);
    dp_refuse(worker, packet, DP_VERDICT_TOO_BIG, mtu, now_ns);
}

int dp_fit(struct dp_worker *worker, const struct dp_routes *routes, struct dp_packet *packet)
{
    struct dp_path path = dp_routes_path(routes, &worker->engine->config, packet->peer);
    uint64_t *events = worker->counters.events;
    uint32_t size = packet->wire_len;

    if (size > path.mtu) {
        if (!dp_may_fragment(packet->data, size, path.mtu))
            return 0;
        if (!packet->fragment_len)
            dp_counter_add(&events[DP_EVENT_FRAGMENTED], packet->n_packets);
        size = packet->fragment_len = path.mtu;
    }
    if (size > path.carried) {
        if (!packet->no_df)
            dp_counter_add(&events[DP_EVENT_SENT_WITHOUT_DF], packet->n_packets);
        packet->no_df = 1;
    }
    return 1;
}

static enum dp_verdict encapsulation_verdict(struct dp_worker *worker, const struct dp_routes *routes,
                                             struct dp_packet *packet)
{
    enum dp_verdict verdict = dp_packet_check(packet->data, packet->len);

    if (verdict != DP_VERDICT_FORWARDED)
        return verdict;
    struct dp_key destination = dp_packet_destination(packet->data);
    if (is_v4(packet->data) || !dp_key_is_v4(&destination)) /* nobody owns an IPv4-mapped IPv6 address */
        packet->peer = dp_routes_lookup(routes, &destination);
    if (packet->peer == NO_PEER)
        return DP_VERDICT_NO_ROUTE;
    if (dp_packet_ttl(packet->data) <= 1)
        return DP_VERDICT_TTL_EXCEEDED;
    return dp_fit(worker, routes, packet) ? DP_VERDICT_FORWARDED : DP_VERDICT_TOO_BIG;
}

void dp_encapsulate(struct dp_worker *worker, const struct dp_routes *routes, struct dp_packet *packet, uint64_t now_ns)
{
    const struct dp_config *config = &worker->engine->config;

    packet->peer = NO_PEER;
    packet->fragment_len = packet->no_df = 0;
    packet->verdict = (uint8_t)encapsulation_verdict(worker, routes, packet);
    if (packet->verdict != DP_VERDICT_FORWARDED) {
        dp_refuse(worker, packet, packet->verdict, dp_routes_path(routes, config, packet->peer).mtu, now_ns);
        return;
    }
    dp_packet_change_ttl(packet->data, -1);
    packet->tos = config->carry_tos ? dp_packet_tos(packet->data) : 0;
    packet->egress = DP_EGRESS_UNDERLAY;
}

/* The peer that may send a packet with this inner source, or NO_PEER. */
static int32_t owner(const struct dp_config *config, const struct dp_routes *routes, const uint8_t *packet,
                     const struct dp_key *sender)
{
    if (!dp_packet_has_hosts_source(packet))
        return NO_PEER;
    struct dp_key source = dp_packet_source(packet);
    int32_t peer = dp_routes_lookup(routes, &source);

    if (peer != NO_PEER && config->check_sender && !dp_key_equal(&routes->peers[peer].key, sender))
        return NO_PEER;
    return peer;
}

/* Whether a packet is for one of this node's own subnets. */
static int is_ours(const struct dp_engine *engine, const uint8_t *packet)
{
    const struct dp_own_subnet *own = &engine->own[is_v4(packet)];
    struct dp_key destination = dp_packet_destination(packet), prefix = dp_key_masked(&destination, &own->mask);

    return dp_key_equal(&prefix, &own->prefix) && !dp_key_equal(&destination, &own->broadcast);
}

static enum dp_verdict decapsulation_verdict(const struct dp_engine *engine, const struct dp_routes *routes,
                                             struct dp_packet *packet, const struct dp_key *sender, uint8_t *ecn)
{
    const struct dp_config *config = &engine->config;
    enum dp_verdict verdict;

    if (config->check_sender && !dp_routes_is_sender(routes, sender))
        return DP_VERDICT_UNKNOWN_SENDER;
    verdict = dp_packet_check(packet->data, packet->len);
    if (verdict != DP_VERDICT_FORWARDED)
        return verdict;
    packet->peer = owner(config, routes, packet->data, sender);
    if (packet->peer == NO_PEER)
        return DP_VERDICT_FOREIGN_SOURCE;
    if (!is_ours(engine, packet->data))
        return DP_VERDICT_FOREIGN_DESTINATION;
    *ecn = dp_packet_tos(packet->data) & ECN_MASK;
    if (config->carry_tos)
        *ecn = ecn_after_tunnel[*ecn][packet->tos & ECN_MASK];
    if (*ecn == DROP_THIS)
        return DP_VERDICT_ECN_LOST;
    if (dp_packet_ttl(packet->data) <= 1)
        return DP_VERDICT_TTL_EXCEEDED;
    return DP_VERDICT_FORWARDED;
}

void dp_decapsulate(struct dp_worker *worker, const struct dp_routes *routes, struct dp_packet *packet,
                    const struct dp_key *sender, uint64_t now_ns)
{
    uint8_t ecn = 0;

    packet->peer = NO_PEER;
    packet->verdict = (uint8_t)decapsulation_verdict(worker->engine, routes, packet, sender, &ecn);
    if (packet->verdict != DP_VERDICT_FORWARDED) {
        dp_refuse(worker, packet, packet->verdict, 0, now_ns);
        return;
    }
    dp_packet_set_ecn(packet->data, ecn);
    dp_packet_change_ttl(packet->data, -1);
    packet->egress = DP_EGRESS_TUN;
}
