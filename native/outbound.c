/* outbound.c - from the TUN to the underlay. */
#include <errno.h>
#include <unistd.h>

#include "loop.h"

static void count(struct dp_loop *loop, enum dp_verdict verdict, int32_t peer, uint64_t packets, uint64_t bytes)
{
    dp_worker_count(loop->worker, DP_DIRECTION_ENCAP, verdict, packets, bytes);
    if (verdict == DP_VERDICT_FORWARDED)
        dp_worker_count_peer(loop->worker, loop->routes, DP_DIRECTION_ENCAP, peer, packets, bytes, loop->now_ns);
}

/* Learn what the path to a peer carries, and tell the source of a packet that is larger. */
static enum dp_verdict refuse_too_big(struct dp_loop *loop, struct dp_packet *packet, int32_t peer, uint32_t len)
{
    int mtu = dp_sender_path_mtu(&loop->sender, &loop->routes->peers[peer]);

    if (mtu <= 0 || (uint32_t)mtu >= len)
        return DP_VERDICT_SEND_FAILED;
    if (packet->verdict != DP_VERDICT_FORWARDED)
        return DP_VERDICT_TOO_BIG; /* a segment of a packet that was answered already */
    dp_worker_learn_mtu(loop->worker, loop->routes, peer, (uint32_t)mtu);
    dp_refuse_too_big(loop->worker, loop->routes, packet, loop->now_ns);
    if (packet->egress == DP_EGRESS_TUN)
        dp_loop_write_plain(loop, packet->data, packet->len);
    return DP_VERDICT_TOO_BIG;
}

/* A dp_sent_fn. */
static void sent(void *context, struct dp_packet *packet, int32_t peer, uint32_t n_segments, uint32_t bytes, int error)
{
    struct dp_loop *loop = context;
    enum dp_verdict verdict = DP_VERDICT_FORWARDED;

    if (error == EMSGSIZE)
        verdict = refuse_too_big(loop, packet, peer, bytes);
    else if (error)
        verdict = DP_VERDICT_SEND_FAILED;
    count(loop, verdict, peer, n_segments, bytes);
}

static void flush(struct dp_loop *loop)
{
    dp_sender_flush(&loop->sender, loop->routes, loop->features, sent, loop);
}

static void queue_super(struct dp_loop *loop, struct dp_packet *packet, struct dp_super *super, int combine)
{
    struct dp_sender *sender = &loop->sender;
    const uint8_t *payload;

    dp_super_begin(super);
    dp_sender_begin(sender, packet, packet->wire_len, super->n_segments, combine);
    while (super->next < super->n_segments) {
        if (dp_sender_full(sender))
            flush(loop);
        size_t payload_len = dp_super_next(super, dp_sender_header(sender), &payload);
        dp_sender_add(sender, packet, super->header_len, payload, payload_len);
    }
}

/* Decide about one packet and queue it, or answer it. */
static void take(struct dp_loop *loop, struct dp_packet *packet, const struct virtio_net_hdr *vnet)
{
    int combine = dp_feature_on(loop->features, DP_FEATURE_GSO);
    struct dp_super super = {.n_segments = 1, .header_len = 0};
    uint64_t bytes = packet->len;

    if (vnet->gso_type != VIRTIO_NET_HDR_GSO_NONE && !dp_super_parse(&super, vnet, packet->data, packet->len))
        packet->wire_len = (uint32_t)min_size(packet->len, super.header_len + super.payload_len);
    dp_encapsulate(loop->worker, loop->routes, packet, loop->now_ns);
    if (packet->verdict != DP_VERDICT_FORWARDED) {
        if (packet->egress == DP_EGRESS_TUN)
            dp_loop_write_plain(loop, packet->data, packet->len);
        count(loop, packet->verdict, NO_PEER, super.n_segments, bytes + (super.n_segments - 1) * super.header_len);
        return;
    }
    if (super.header_len) {
        queue_super(loop, packet, &super, combine);
        return;
    }
    if (vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
        dp_checksum_complete(packet->data, packet->len, vnet);
    if (dp_sender_full(&loop->sender))
        flush(loop);
    dp_sender_begin(&loop->sender, packet, packet->len, 1, combine);
    dp_sender_add(&loop->sender, packet, 0, packet->data, packet->len);
}

void dp_loop_outbound(struct dp_loop *loop)
{
    uint8_t *data = loop->arena + READ_HEADROOM, *end = loop->arena + ARENA_LEN;

    for (uint32_t i = 0; i < loop->most_reads && (size_t)(end - data) >= READ_LEN; i++) {
        struct dp_packet *packet = &loop->packets[i];
        struct virtio_net_hdr vnet = {0};
        ssize_t len = read(loop->tun_fd, data - loop->vnet_len, MAX_PACKET_LEN + loop->vnet_len);
        if (len < (ssize_t)loop->vnet_len) {
            if (len < 0 && errno != EAGAIN && errno != EINTR)
                loop->error = -errno;
            break;
        }
        memcpy(&vnet, data - loop->vnet_len, loop->vnet_len);
        *packet = (struct dp_packet){.data = data, .len = (uint32_t)((size_t)len - loop->vnet_len)};
        packet->wire_len = packet->len;
        loop->turn_bytes += packet->len;
        loop->turn_reads++;
        data += ((packet->len + 63) & ~(size_t)63) + READ_HEADROOM;
        take(loop, packet, &vnet);
    }
    flush(loop);
}
