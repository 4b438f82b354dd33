/* narrow.c - segments on a path that turned out narrower when they were sent. */
#include "narrow.h"

static struct iovec *pieces(const struct dp_loop *loop, const struct dp_segment *segment)
{
    return (struct iovec *)(uintptr_t)&loop->sender.iovs[segment->first_iov];
}

struct dp_packet dp_narrow_part(const struct dp_loop *loop, const struct dp_segment *segment, int32_t peer)
{
    struct dp_packet part = *segment->packet;

    part.data = pieces(loop, segment)->iov_base; /* the headers, whether the payload follows or lies elsewhere */
    part.len = part.wire_len = segment->len;
    part.n_packets = segment->counted != 0;
    part.peer = peer;
    return part;
}

int dp_narrow_send(struct dp_loop *loop, const struct dp_segment *segment, const struct dp_packet *part)
{
    const struct dp_route_peer *peer = &loop->routes->peers[part->peer];
    struct iovec *whole = pieces(loop, segment);
    size_t header_len = segment->n_iovs == 1 ? dp_packet_header_len(part->data) : whole[0].iov_len;
    uint8_t *payload = segment->n_iovs == 1 ? part->data + header_len : whole[1].iov_base;
    struct dp_fragments fragments;
    uint8_t header[MAX_SEGMENT_HEADER];
    int error = 0;

    if (!part->fragment_len)
        return dp_sender_send_now(&loop->sender, peer, part, whole, segment->n_iovs);
    dp_fragments_begin(&fragments, part->data, header_len, payload, segment->len - header_len, part->fragment_len);
    while (dp_fragments_left(&fragments) && !error) {
        const uint8_t *data;
        size_t data_len = dp_fragments_next(&fragments, header, &header_len, &data);
        struct iovec iovs[] = {{header, header_len}, {(uint8_t *)(uintptr_t)data, data_len}};
        error = dp_sender_send_now(&loop->sender, peer, part, iovs, 2);
    }
    return error;
}
