/* batch.c - the decisions over the arrays of a PacketBatch, for callers that bring their own loop. */
#include "decide.h"

#include <assert.h>

static struct dp_packet take(const struct dp_batch *batch, size_t i)
{
    assert(batch->offset[i] >= DP_ICMP_HEADROOM);
    return (struct dp_packet){
        .data = batch->arena + batch->offset[i],
        .len = batch->length[i],
        .wire_len = batch->length[i],
        .n_packets = 1,
        .peer = batch->next_hop[i],
        .fragment_len = batch->fragment_len[i],
        .no_df = batch->no_df[i],
        .tos = batch->tos[i],
    };
}

static void put(const struct dp_batch *batch, size_t i, const struct dp_packet *packet)
{
    batch->offset[i] = (uint32_t)(packet->data - batch->arena);
    batch->length[i] = packet->len;
    batch->verdict[i] = packet->verdict;
    batch->egress[i] = packet->egress;
    batch->next_hop[i] = packet->peer;
    batch->fragment_len[i] = packet->fragment_len;
    batch->no_df[i] = packet->no_df;
    batch->tos[i] = packet->tos;
}

void dp_engine_encapsulate(struct dp_engine *engine, const struct dp_batch *batch, uint64_t now_ns)
{
    const struct dp_routes *routes = dp_worker_begin_turn(engine->batch_worker);

    for (size_t i = 0; i < batch->count; i++) {
        struct dp_packet packet = take(batch, i);
        dp_encapsulate(engine->batch_worker, routes, &packet, now_ns);
        put(batch, i, &packet);
    }
    dp_worker_set_idle(engine->batch_worker);
}

void dp_engine_decapsulate(struct dp_engine *engine, const struct dp_batch *batch, uint64_t now_ns)
{
    const struct dp_routes *routes = dp_worker_begin_turn(engine->batch_worker);

    for (size_t i = 0; i < batch->count; i++) {
        struct dp_packet packet = take(batch, i);
        struct dp_key sender = dp_key_load(batch->source + i * sizeof sender, sizeof sender);
        dp_decapsulate(engine->batch_worker, routes, &packet, &sender, now_ns);
        put(batch, i, &packet);
    }
    dp_worker_set_idle(engine->batch_worker);
}

int dp_engine_fit_anew(struct dp_engine *engine, const struct dp_batch *batch, size_t i, uint64_t now_ns)
{
    const struct dp_routes *routes = dp_worker_begin_turn(engine->batch_worker);
    struct dp_packet packet = take(batch, i);
    int fits = dp_fit(engine->batch_worker, routes, &packet);

    packet.verdict = DP_VERDICT_FORWARDED;
    packet.egress = DP_EGRESS_UNDERLAY;
    if (!fits)
        dp_refuse_too_big(engine->batch_worker, routes, &packet, now_ns);
    put(batch, i, &packet);
    dp_worker_set_idle(engine->batch_worker);
    return fits;
}

void dp_engine_count(struct dp_engine *engine, int direction, const struct dp_batch *batch, uint64_t now_ns)
{
    const struct dp_routes *routes = dp_worker_begin_turn(engine->batch_worker);

    for (size_t i = 0; i < batch->count; i++) {
        uint32_t bytes = batch->received[i];
        dp_worker_count(engine->batch_worker, (enum dp_direction)direction, batch->verdict[i], 1, bytes);
        if (batch->verdict[i] == DP_VERDICT_FORWARDED && dp_routes_peer(routes, batch->next_hop[i]))
            dp_worker_count_peer(engine->batch_worker, routes, (enum dp_direction)direction, batch->next_hop[i], 1,
                                 bytes, now_ns);
    }
    dp_worker_set_idle(engine->batch_worker);
}
