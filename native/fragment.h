/*
 * fragment.h - cutting an IPv4 packet into fragments; see dataplane/packets/fragment.py for the rules.
 *
 * The packet may lie in two pieces, as a segment of a super-packet does: headers of its own, and a payload that stays
 * where it is. So does a fragment.
 */
#ifndef DP_FRAGMENT_H
#define DP_FRAGMENT_H

#include "packet.h"
#include "segment.h"

/**
 * struct dp_fragments - a packet being cut
 * @first: the packet's headers: that of IP, and what else lies in front of the payload
 * @later: the IP header of all fragments but the first
 * @ip_len: bytes of the IP header
 * @head_len: bytes of data in @first, behind the IP header
 * @payload: the other data
 * @data_len: bytes of data, head and payload
 * @step: bytes of data in each fragment but the last
 * @at: bytes of data that are in fragments already
 */
struct dp_fragments {
    uint8_t first[MAX_SEGMENT_HEADER];
    uint8_t later[V4_MAX_HEADER_LEN];
    size_t ip_len;
    size_t head_len;
    const uint8_t *payload;
    size_t data_len;
    size_t step;
    size_t at;
};

/**
 * dp_may_fragment() - whether a packet may and can be cut
 * @packet: its header, which is good
 * @len: bytes of the packet, or of the largest one that a super-packet stands for
 * @mtu: bytes of the largest fragment
 */
int dp_may_fragment(const uint8_t *packet, size_t len, size_t mtu);

/**
 * dp_fragments_begin() - get ready to cut a packet that dp_may_fragment()
 * @fragments: filled in
 * @header: the packet's first bytes
 * @header_len: how many: at least the IP header, at most MAX_SEGMENT_HEADER
 * @payload: the other bytes, which stay in place until the last fragment has left
 * @payload_len: how many
 * @mtu: bytes of the largest fragment
 */
void dp_fragments_begin(struct dp_fragments *fragments, const uint8_t *header, size_t header_len,
                        const uint8_t *payload, size_t payload_len, size_t mtu);

/* How many fragments are left to be made. */
static inline size_t dp_fragments_left(const struct dp_fragments *fragments)
{
    return (fragments->data_len - fragments->at + fragments->step - 1) / fragments->step;
}

/**
 * dp_fragments_next() - make the next fragment
 * @fragments: a packet with a fragment left
 * @header: MAX_SEGMENT_HEADER bytes for the fragment's first bytes
 * @header_len: where their number is put
 * @payload: where the start of its other bytes is put
 *
 * Return: how many these are; may be 0.
 */
size_t dp_fragments_next(struct dp_fragments *fragments, uint8_t *header, size_t *header_len, const uint8_t **payload);

#endif
