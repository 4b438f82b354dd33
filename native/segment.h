/*
 * segment.h - cutting a super-packet into the packets that it stands for.
 *
 * A TUN device with segmentation offload hands out up to 64 KiB of one flow as one packet: headers once, then the
 * payload of many. Each segment gets headers of its own; its payload stays where it is.
 */
#ifndef DP_SEGMENT_H
#define DP_SEGMENT_H

#include "packet.h"
#include "vnet.h"

/**
 * struct dp_super - a super-packet being cut
 * @packet: its first byte
 * @len: its bytes
 * @l4_at: where the TCP or UDP header starts
 * @header_len: bytes of the headers of IP and TCP or UDP
 * @payload_len: bytes of payload in each segment but the last
 * @n_segments: how many segments there are
 * @next: the number of the segment that comes next
 * @ip_sum: sum of the IPv4 header without the fields that differ between segments
 * @l4_sum: sum of the pseudo-header and the TCP or UDP header without those fields
 * @tcp: whether it is TCP, else it is UDP
 * @header: the headers as they were when cutting began
 */
struct dp_super {
    const uint8_t *packet;
    size_t len;
    size_t l4_at;
    size_t header_len;
    size_t payload_len;
    size_t n_segments;
    size_t next;
    uint64_t ip_sum;
    uint64_t l4_sum;
    int tcp;
    uint8_t header[MAX_SEGMENT_HEADER];
};

/**
 * dp_super_parse() - find out how a packet with a GSO type is to be cut
 * @super: filled in
 * @vnet: the header that came with it; what it says about lengths of headers is not believed
 * @packet: the packet, any bytes
 * @len: how many
 *
 * Return: 0, or -EINVAL for a packet that cannot be cut, or whose vnet header asks for something else.
 */
int dp_super_parse(struct dp_super *super, const struct virtio_net_hdr *vnet, const uint8_t *packet, size_t len);

/**
 * dp_super_begin() - get ready for the first segment
 * @super: a parsed super-packet
 *
 * From now on the packet's payload must not change. Its headers may: a refusal of the first segments undoes the TTL
 * step in them, while the others are still to be cut.
 */
void dp_super_begin(struct dp_super *super);

/**
 * dp_super_next() - make the next segment
 * @super: a super-packet with a segment left
 * @header: where the segment's headers go: super->header_len bytes
 * @payload: where the start of its payload, inside the super-packet, is put
 *
 * Return: bytes of the payload.
 */
size_t dp_super_next(struct dp_super *super, uint8_t *header, const uint8_t **payload);

/**
 * dp_checksum_fits() - whether a vnet header has the checksum of a packet where it may be written
 * @packet: the packet, any bytes
 * @len: how many
 * @vnet: says where the checksum starts and where it goes
 *
 * Behind the IP header, that is, and inside the packet. It may be far behind: with a tunnel of a pod's the checksum
 * that is left to the network card is that of the packet in the tunnel.
 */
int dp_checksum_fits(const uint8_t *packet, size_t len, const struct virtio_net_hdr *vnet);

/**
 * dp_checksum_complete() - finish a TCP or UDP checksum that the sender left to the network card
 * @packet: the packet; the field holds the sum of the pseudo-header
 * @len: its bytes
 * @vnet: one that fits the packet, see dp_checksum_fits()
 */
void dp_checksum_complete(uint8_t *packet, size_t len, const struct virtio_net_hdr *vnet);

#endif
