/* outbound.c - from the TUN to the underlay. */
#include <errno.h>
#include <unistd.h>

#include "narrow.h"

/*
 * Learn what the path to a peer carries. A segment that is larger goes again in another way, or its source is told.
 */
static enum dp_verdict send_narrower(struct dp_loop *loop, const struct dp_segment *segment, int32_t peer)
{
    int mtu = dp_sender_path_mtu(&loop->sender, &loop->routes->peers[peer]);
    struct dp_packet *packet = segment->packet, part = dp_narrow_part(loop, segment, peer);

    if (mtu <= 0 || (uint32_t)mtu >= segment->len)
        return DP_VERDICT_SEND_FAILED;
    dp_worker_learn_mtu(loop->worker, loop->routes, peer, (uint32_t)mtu, loop->now_ns);
    if (dp_fit(loop->worker, loop->routes, &part))
        return dp_narrow_send(loop, segment, &part) ? DP_VERDICT_SEND_FAILED : DP_VERDICT_FORWARDED;
    if (packet->verdict != DP_VERDICT_FORWARDED)
        return DP_VERDICT_TOO_BIG; /* a segment of a packet that was answered already */
    dp_refuse_too_big(loop->worker, loop->routes, packet, loop->now_ns);
    if (packet->egress == DP_EGRESS_TUN)
        dp_loop_write_plain(loop, packet->data, packet->len);
    return DP_VERDICT_TOO_BIG;
}

/* A dp_sent_fn. */
static void sent(void *context, const struct dp_segment *segment, int32_t peer, uint32_t n_packets, uint32_t bytes,
                 int error)
{
    struct dp_loop *loop = context;
    enum dp_verdict verdict = DP_VERDICT_FORWARDED;

    if (error == EMSGSIZE)
        verdict = send_narrower(loop, segment, peer);
    else if (error)
        verdict = DP_VERDICT_SEND_FAILED;
    dp_loop_count(loop, DP_DIRECTION_ENCAP, verdict, peer, n_packets, bytes);
}

static void flush(struct dp_loop *loop)
{
    dp_sender_flush(&loop->sender, loop->routes, loop->features, sent, loop);
}

/*
 * Queue a packet, or a segment of one, in fragments; its first @header_len bytes are at @header, the others at
 * @payload. @decided is the packet as it was decided: a flush may refuse it in the meantime.
 */
static void queue_fragments(struct dp_loop *loop, struct dp_packet *packet, const struct dp_packet *decided,
                            const uint8_t *header, size_t header_len, const uint8_t *payload, size_t payload_len)
{
    struct dp_sender *sender = &loop->sender;
    size_t counted = header_len + payload_len;
    struct dp_fragments fragments;

    dp_fragments_begin(&fragments, header, header_len, payload, payload_len, decided->fragment_len);
    dp_sender_begin(sender, decided, fragments.ip_len + fragments.step, dp_fragments_left(&fragments),
                    dp_feature_on(loop->features, DP_FEATURE_GSO));
    for (; dp_fragments_left(&fragments); counted = 0) {
        if (dp_sender_full(sender))
            flush(loop);
        payload_len = dp_fragments_next(&fragments, dp_sender_header(sender), &header_len, &payload);
        dp_sender_add(sender, packet, header_len, payload, payload_len, counted);
    }
}

static void queue_super(struct dp_loop *loop, struct dp_packet *packet, struct dp_super *super, int combine)
{
    struct dp_sender *sender = &loop->sender;
    const struct dp_packet decided = *packet;
    uint8_t header[MAX_SEGMENT_HEADER];
    const uint8_t *payload;

    dp_super_begin(super);
    while (decided.fragment_len && super->next < super->n_segments) {
        size_t payload_len = dp_super_next(super, header, &payload);
        queue_fragments(loop, packet, &decided, header, super->header_len, payload, payload_len);
    }
    dp_sender_begin(sender, &decided, decided.wire_len, super->n_segments, combine);
    while (super->next < super->n_segments) {
        if (dp_sender_full(sender))
            flush(loop);
        size_t payload_len = dp_super_next(super, dp_sender_header(sender), &payload);
        dp_sender_add(sender, packet, super->header_len, payload, payload_len, super->header_len + payload_len);
    }
}

/*
 * What a vnet header asks for: how the packet is to be cut goes into @super. Returns 0, or -EINVAL for what cannot be
 * done to this packet.
 */
static int read_vnet(struct dp_super *super, const struct virtio_net_hdr *vnet, struct dp_packet *packet)
{
    super->n_segments = 1;
    super->header_len = 0;
    if (vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE)
        return vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && !dp_checksum_fits(packet->data, packet->len, vnet) ? -EINVAL
                                                                                                               : 0;
    if (dp_super_parse(super, vnet, packet->data, packet->len))
        return -EINVAL;
    packet->wire_len = (uint32_t)min_size(packet->len, super->header_len + super->payload_len);
    return 0;
}

/* Decide about one packet and queue it, or answer it. */
static void take(struct dp_loop *loop, struct dp_packet *packet, const struct virtio_net_hdr *vnet)
{
    int combine = dp_feature_on(loop->features, DP_FEATURE_GSO);
    uint64_t bytes = packet->len;
    struct dp_super super;
    int malformed = read_vnet(&super, vnet, packet);

    packet->n_packets = (uint32_t)super.n_segments;
    if (malformed && dp_packet_check(packet->data, packet->len) == DP_VERDICT_FORWARDED)
        dp_refuse(loop->worker, packet, DP_VERDICT_BAD_HEADER, 0, loop->now_ns);
    else
        dp_encapsulate(loop->worker, loop->routes, packet, loop->now_ns);
    if (packet->verdict != DP_VERDICT_FORWARDED) {
        if (packet->egress == DP_EGRESS_TUN)
            dp_loop_write_plain(loop, packet->data, packet->len);
        dp_loop_count(loop, DP_DIRECTION_ENCAP, packet->verdict, NO_PEER, super.n_segments,
                      bytes + (super.n_segments - 1) * super.header_len);
        return;
    }
    if (super.header_len) {
        queue_super(loop, packet, &super, combine);
        return;
    }
    if (vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
        dp_checksum_complete(packet->data, packet->len, vnet);
    if (packet->fragment_len) {
        size_t header_len = dp_packet_header_len(packet->data);
        const struct dp_packet decided = *packet;
        queue_fragments(loop, packet, &decided, packet->data, header_len, packet->data + header_len,
                        packet->len - header_len);
        return;
    }
    if (dp_sender_full(&loop->sender))
        flush(loop);
    dp_sender_begin(&loop->sender, packet, packet->len, 1, combine);
    dp_sender_add(&loop->sender, packet, 0, packet->data, packet->len, packet->len);
}

void dp_loop_outbound(struct dp_loop *loop)
{
    size_t used = 0; /* of the arena; a multiple of READ_ALIGN */

    for (uint32_t i = 0; i < loop->most_reads && dp_arena_has_room(used); i++) {
        struct dp_packet *packet = &loop->packets[i];
        struct virtio_net_hdr vnet = {0};
        uint8_t *data = loop->arena + used + READ_HEADROOM;
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
        used = dp_arena_used(used, packet->len);
        take(loop, packet, &vnet);
    }
    flush(loop);
}
