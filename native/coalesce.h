/*
 * coalesce.h - putting packets of a flow together into super-packets, the reverse of segment.h.
 *
 * A write to a TUN device runs the whole receive path of the host in the caller's thread, whatever the size of the
 * packet. So packets that came in one round and follow each other in their flow go in as one. The rules keep to what a
 * super-packet can say: cut again, it gives the packets that came in.
 *
 * A packet joins a group when its checksums are right, its headers differ from those of the group's last packet only in
 * what must (lengths, sequence number, checksums, PSH, and an IPv4 identification that nobody needs or that counts up),
 * and it is not longer than the first. A shorter packet or one with PSH is the last of its group. Only the newest group
 * of a flow may grow, and groups leave in the order in which they began, so nothing overtakes anything in its flow.
 */
#ifndef DP_COALESCE_H
#define DP_COALESCE_H

#include <sys/uio.h>

#include "flow.h"
#include "vnet.h"

#define MAX_GROUPS         128
#define MAX_GROUP_SEGMENTS 64 /* UDP_MAX_SEGMENTS of older kernels; 64 KiB of TCP is less */

static_assert((uint64_t)MAX_GROUP_SEGMENTS * MAX_PACKET_LEN <= UINT32_MAX, "the bytes of a group can be counted");

/**
 * struct dp_group - packets that will be one, or a single one
 * @packet: the first packet
 * @len: its bytes
 * @hash: of the flow
 * @peer: who sent the packets
 * @flow: the transport header; protocol 0 in packets that join nobody
 * @header_len: bytes of the headers of IP and TCP or UDP
 * @payload_len: payload of the first packet
 * @total_len: bytes of the super-packet
 * @n_packets: how many packets there are
 * @bytes: their bytes
 * @next_sequence: TCP sequence number that would come next
 * @closed: whether no packet may join any more
 * @checked: whether the first packet's checksums are known to be right
 * @push: whether the last packet had PSH
 * @payload: payload of each packet after the first
 * @payload_lens: bytes of each of these
 */
struct dp_group {
    uint8_t *packet;
    uint32_t len;
    uint32_t hash;
    int32_t peer;
    struct dp_flow flow;
    uint32_t header_len;
    uint32_t payload_len;
    uint32_t total_len;
    uint32_t n_packets;
    uint32_t bytes;
    uint32_t next_sequence;
    uint8_t closed;
    uint8_t checked;
    uint8_t push;
    uint8_t *payload[MAX_GROUP_SEGMENTS];
    uint32_t payload_lens[MAX_GROUP_SEGMENTS];
};

/**
 * struct dp_coalescer - the groups of one round, in the order in which they began
 * @n_groups: how many
 * @tcp: whether TCP is coalesced
 * @udp: whether UDP is coalesced
 * @groups: the groups
 */
struct dp_coalescer {
    size_t n_groups;
    uint8_t tcp;
    uint8_t udp;
    struct dp_group groups[MAX_GROUPS];
};

/* Whether a packet that joins no group finds no room; then write all groups and set n_groups to 0. */
static inline int dp_coalescer_full(const struct dp_coalescer *coalescer)
{
    return coalescer->n_groups == MAX_GROUPS;
}

/**
 * dp_coalescer_add() - take a packet
 * @coalescer: not full
 * @packet: a packet whose header is good; stays in place until its group was written
 * @len: its bytes
 * @peer: who sent it
 */
void dp_coalescer_add(struct dp_coalescer *coalescer, uint8_t *packet, size_t len, int32_t peer);

/**
 * dp_group_finish() - make the headers of the super-packet
 * @group: a group of two packets or more
 * @vnet: filled in
 * @header: filled in: group->header_len bytes
 */
void dp_group_finish(const struct dp_group *group, struct virtio_net_hdr *vnet, uint8_t *header);

#endif
