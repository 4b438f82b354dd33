/*
 * units.h - the packets that may come out of a turn, made the slow way from what went in, and struck off as they come.
 */
#ifndef UNITS_H
#define UNITS_H

#include "packets.h"

/* Forget all units. */
void units_clear(void);

/* Expect a packet. */
void units_expect(const uint8_t *packet, size_t len);

/*
 * Strike off a packet; returns whether it was expected. With @cut it comes from a super-packet, in which an IPv4
 * identification that DF makes meaningless is lost. With @ordered it is a failure when a later one of its flow has
 * come.
 */
int units_take(const uint8_t *packet, size_t len, int cut, int ordered);

/*
 * Take a fragment of a packet. Which one cannot be told if several have an identification in common, so what has come
 * of all of them is summed up. Returns 2 for one with the packet's first bytes, 1 for another, and 0 for a fragment of
 * no packet that was expected.
 */
int units_take_fragment(const uint8_t *fragment, size_t len);

/* How many are expected that did not come. */
size_t units_left(void);

/**
 * struct slow_cut - how a super-packet is to be cut
 * @l4_at: where TCP or UDP starts
 * @header_len: bytes of all headers
 * @n: packets that it stands for
 * @protocol: TCP or UDP
 */
struct slow_cut {
    size_t l4_at;
    size_t header_len;
    size_t n;
    uint8_t protocol;
};

/* Read a vnet header; returns 0 when it asks for what cannot be done to this packet. Without a GSO type @cut->n is 1.
 */
int slow_parse(struct slow_cut *cut, const struct virtio_net_hdr *vnet, const uint8_t *packet, size_t len);

/* Make packet @i of a super-packet; returns its bytes. */
size_t slow_segment(const struct slow_cut *cut, const struct virtio_net_hdr *vnet, const uint8_t *packet, size_t len,
                    size_t i, uint8_t *segment);

/* Finish the checksum of a packet without a GSO type. */
void slow_complete(uint8_t *packet, size_t len, const struct virtio_net_hdr *vnet);

#endif
