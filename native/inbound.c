/* inbound.c - from the underlay to the TUN. */
#include <errno.h>

#include "loop.h"

static void write_single(struct dp_loop *loop, const struct dp_group *group, uint8_t *packet, size_t len)
{
    int error = dp_loop_write_plain(loop, packet, len);
    dp_loop_count(loop, DP_DIRECTION_DECAP, error ? DP_VERDICT_WRITE_FAILED : DP_VERDICT_FORWARDED, group->peer, 1,
                  len);
}

/* Write the packets of a group one by one; they are all still as they came, each header in front of its payload. */
static void write_apart(struct dp_loop *loop, const struct dp_group *group)
{
    write_single(loop, group, group->packet, group->len);
    for (uint32_t i = 1; i < group->n_packets; i++)
        write_single(loop, group, group->payload[i] - group->header_len, group->payload_lens[i] + group->header_len);
}

static void write_group(struct dp_loop *loop, const struct dp_group *group)
{
    uint8_t header[MAX_SEGMENT_HEADER];
    struct virtio_net_hdr vnet;
    struct iovec iovs[2 + MAX_GROUP_SEGMENTS] = {
        {&vnet, sizeof vnet},
        {header, group->header_len},
        {group->packet + group->header_len, group->payload_len},
    };

    dp_group_finish(group, &vnet, header);
    for (uint32_t i = 1; i < group->n_packets; i++)
        iovs[i + 2] = (struct iovec){group->payload[i], group->payload_lens[i]};
    int error = dp_loop_write(loop, iovs, group->n_packets + 2);
    if (!error) {
        dp_loop_count(loop, DP_DIRECTION_DECAP, DP_VERDICT_FORWARDED, group->peer, group->n_packets, group->bytes);
        return;
    }
    if (error == EINVAL)
        dp_feature_fail(loop->features, group->flow.protocol == PROTOCOL_UDP ? DP_FEATURE_USO : DP_FEATURE_GRO, error);
    write_apart(loop, group);
}

static void flush(struct dp_loop *loop)
{
    for (size_t i = 0; i < loop->coalescer.n_groups; i++) {
        const struct dp_group *group = &loop->coalescer.groups[i];
        if (group->n_packets == 1)
            write_single(loop, group, group->packet, group->len);
        else
            write_group(loop, group);
    }
    loop->coalescer.n_groups = 0;
}

static void take(struct dp_loop *loop, const struct dp_run *run, uint8_t *data, size_t len)
{
    struct dp_packet packet = {
        .data = data,
        .len = (uint32_t)len,
        .wire_len = (uint32_t)len,
        .n_packets = 1,
        .tos = run->tos,
        .scratch = loop->scratch,
    };

    dp_decapsulate(loop->worker, loop->routes, &packet, &run->sender, loop->now_ns);
    if (packet.verdict != DP_VERDICT_FORWARDED) {
        if (packet.egress == DP_EGRESS_TUN)
            dp_loop_write_plain(loop, packet.data, packet.len);
        dp_loop_count(loop, DP_DIRECTION_DECAP, packet.verdict, NO_PEER, 1, len);
        return;
    }
    if (dp_coalescer_full(&loop->coalescer))
        flush(loop);
    dp_coalescer_add(&loop->coalescer, data, len, packet.peer);
}

void dp_loop_inbound(struct dp_loop *loop)
{
    int gro = loop->vnet_len && dp_feature_on(loop->features, DP_FEATURE_GRO);
    int n_runs = dp_receiver_read(&loop->receiver, loop->udp_fd);

    loop->coalescer.tcp = (uint8_t)gro;
    loop->coalescer.udp = (uint8_t)(gro && dp_feature_on(loop->features, DP_FEATURE_USO));
    for (int i = 0; i < n_runs; i++) { /* a negative number is an error of an earlier datagram, which is gone */
        struct dp_run run = dp_receiver_run(&loop->receiver, (size_t)i);
        size_t at = 0;
        loop->turn_bytes += run.len;
        loop->turn_reads++;
        do { /* an empty datagram is one, too */
            size_t len = min_size(run.datagram_len, size_left(run.len, at));
            take(loop, &run, run.data + at, len);
            at += len;
        } while (at < run.len);
    }
    flush(loop);
}
