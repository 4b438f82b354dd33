/* packets.h - TCP and UDP packets with right checksums, for tests and fuzz targets. */
#ifndef PACKETS_H
#define PACKETS_H

#include "flow.h"
#include "vnet.h"

#define MAX_OPTIONS 40

/**
 * struct recipe - what a packet is like; the payload follows from @sequence
 * @v6: IPv6, else IPv4
 * @tcp: TCP, else UDP
 * @port: source port; the destination port is 5201
 * @sequence: TCP sequence number, and what the payload counts up from
 * @acknowledgement: TCP acknowledgement number
 * @window: TCP window
 * @flags: TCP flags
 * @tos: TOS or traffic class
 * @id: IPv4 identification
 * @fragment: IPv4 flags and fragment offset
 * @options_len: bytes of TCP options, a multiple of 4
 * @payload_len: bytes of payload
 */
struct recipe {
    int v6;
    int tcp;
    uint16_t port;
    uint32_t sequence;
    uint32_t acknowledgement;
    uint16_t window;
    uint8_t flags;
    uint8_t tos;
    uint16_t id;
    uint16_t fragment;
    size_t options_len;
    size_t payload_len;
};

/* Write the packet; returns its bytes. */
size_t make_packet(uint8_t *packet, const struct recipe *recipe);

/* The vnet header that a device gives such a packet, to be cut into pieces of @gso_size bytes of payload; 0 for none.
 */
struct virtio_net_hdr vnet_for(const struct recipe *recipe, uint16_t gso_size);

/* Add bytes to a sum of 16-bit words as RFC 1071 defines it, carry by carry. */
uint16_t slow_sum(uint16_t sum, const uint8_t *data, size_t len);

/* The same over all that the checksum of a transport header at @l4_at covers. */
uint16_t slow_l4_sum(const uint8_t *packet, size_t len, size_t l4_at, uint8_t protocol);

/* Compute the checksums of IPv4 and of TCP or UDP bit by bit and compare; written anew, to be an oracle for the others.
 */
int packet_checksums_right(const uint8_t *packet, size_t len);

#endif
