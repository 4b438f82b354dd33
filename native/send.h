/*
 * send.h - the way into the underlay: packets are queued as segments of messages and leave in few system calls.
 *
 * A message is what one sendmsg takes: consecutive segments of one size (the last may be shorter) to one peer, with one
 * TOS byte, by one socket. The kernel cuts it into datagrams (UDP_SEGMENT), so payload is not copied here: a message is
 * a scatter list. Without UDP_SEGMENT a message is one segment. All messages leave by sendmmsg.
 *
 * Flows are spread over several sockets, whose source ports tell routers and receive queues on the way that these
 * datagrams are of different flows. Receivers look at addresses only.
 */
#ifndef DP_SEND_H
#define DP_SEND_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "decide.h"
#include "segment.h"

#define N_SOURCE_PORTS 8
#define NO_DF_SOURCE   N_SOURCE_PORTS /* stands for the worker's socket, switched to datagrams without DF */
#define MAX_SEGMENTS   512            /* in the queue */
#define MAX_PER_SEND                                                                                                   \
    63 /* segments of a message: UDP_MAX_SEGMENTS is 64, and kernels of 2021 and before count one too many             \
        */
#define MAX_SEND_BYTES 65487 /* payload of a message: fits an IPv4 and an IPv6 datagram */

/* A header and a payload each. */
#define MAX_IOVS (2 * MAX_SEGMENTS)

static_assert(MAX_IOVS <= UINT16_MAX, "the place of a segment's pieces can be noted");
static_assert(MAX_SEGMENTS <= UIO_MAXIOV && 2 * MAX_PER_SEND <= UIO_MAXIOV, "the kernel takes as many in a call");
static_assert(MAX_SEND_BYTES <= MAX_PACKET_LEN - V4_HEADER_LEN - UDP_HEADER_LEN, "a message is a datagram at most");

/**
 * struct dp_segment - a datagram in the queue
 * @packet: the packet that it is, or is a part of
 * @len: its bytes
 * @first_iov: where it is in the queue's scatter list
 * @n_iovs: in how many pieces
 * @counted: bytes to count a packet with; 0 for a fragment that is not the first, with which no packet is counted
 */
struct dp_segment {
    struct dp_packet *packet;
    uint32_t len;
    uint32_t counted;
    uint16_t first_iov;
    uint16_t n_iovs;
};

/**
 * struct dp_message - segments that leave together
 * @peer: the receiver
 * @first: the first segment
 * @n_segments: how many
 * @limit: how many there may be
 * @segment_len: bytes of each segment but the last
 * @bytes: bytes of all
 * @n_packets: packets to be counted with it
 * @counted: their bytes
 * @source: the number of the socket
 * @tos: TOS byte of the outer header
 * @closed: whether no segment may be added any more
 */
struct dp_message {
    int32_t peer;
    uint32_t first;
    uint32_t n_segments;
    uint32_t limit;
    uint32_t segment_len;
    uint32_t bytes;
    uint32_t n_packets;
    uint32_t counted;
    uint8_t source;
    uint8_t tos;
    uint8_t closed;
};

/* What the kernel wants for one message. */
struct dp_envelope {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } to;
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(uint16_t))];
};

/**
 * struct dp_sender - the queue
 * @sockets: one for each source port
 * @n_sockets: how many
 * @udp_fd: the worker's socket, which stays the caller's
 * @probe_fd: a socket for asking about paths, or -1
 * @v6: whether they are IPv6 sockets
 * @next: what the next message would be like
 * @start_next: whether the next segment must not go into the last message
 * @n_segments: segments in the queue
 * @n_messages: messages in the queue
 * @n_iovs: used entries of @iovs
 * @segments: the segments
 * @messages: the messages
 * @iovs: the scatter list of all messages, in order
 * @headers: headers made for segments
 */
struct dp_sender {
    int sockets[N_SOURCE_PORTS];
    uint32_t n_sockets;
    int udp_fd;
    int probe_fd;
    int v6;
    struct dp_message next;
    int start_next;
    uint32_t n_segments;
    uint32_t n_messages;
    uint32_t n_iovs;
    struct dp_segment segments[MAX_SEGMENTS];
    struct dp_message messages[MAX_SEGMENTS];
    struct iovec iovs[MAX_IOVS];
    uint8_t headers[MAX_SEGMENTS][MAX_SEGMENT_HEADER];
    struct mmsghdr vector[MAX_SEGMENTS];
    struct dp_envelope envelopes[MAX_SEGMENTS];
};

/**
 * dp_sent_fn - called when it is known what became of segments
 * @context: the caller's
 * @segment: the first of them; the only one when it was refused for its size
 * @peer: the receiver
 * @n_packets: packets to be counted
 * @bytes: their bytes
 * @error: 0, or the errno that the socket refused them with
 */
typedef void dp_sent_fn(void *context, const struct dp_segment *segment, int32_t peer, uint32_t n_packets,
                        uint32_t bytes, int error);

/**
 * dp_sender_open() - get ready to send by the worker's socket
 * @sender: all zero
 * @udp_fd: the worker's socket
 *
 * Return: 0 or -errno.
 */
int dp_sender_open(struct dp_sender *sender, int udp_fd);

/**
 * dp_sender_spread() - send by sockets of our own from now on, bound to the same address and to ports of the kernel's
 * choice
 * @sender: an open sender with an empty queue
 *
 * Sockets belong to the network namespace of the thread that opens them, so this fails in a thread that has gone
 * elsewhere.
 *
 * Return: 0 or -errno; then all goes by the worker's socket.
 */
int dp_sender_spread(struct dp_sender *sender);

/**
 * dp_sender_close() - close the sockets that were opened
 * @sender: the sender
 */
void dp_sender_close(struct dp_sender *sender);

/* Whether the queue has no room for one more segment. */
static inline int dp_sender_full(const struct dp_sender *sender)
{
    return sender->n_segments == MAX_SEGMENTS;
}

/**
 * dp_sender_begin() - get ready for the segments of one packet
 * @sender: the sender
 * @packet: the packet, which stays in place until the queue was flushed
 * @segment_len: bytes of each segment but the last
 * @n_segments: how many there will be
 * @combine: whether segments may share a message
 *
 * Segments that do not fit one message are split evenly.
 */
void dp_sender_begin(struct dp_sender *sender, const struct dp_packet *packet, size_t segment_len, size_t n_segments,
                     int combine);

/**
 * dp_sender_header() - where the headers of the next segment go
 * @sender: the sender, not full
 */
static inline uint8_t *dp_sender_header(struct dp_sender *sender)
{
    return sender->headers[sender->n_segments];
}

/**
 * dp_sender_add() - add a segment to the queue
 * @sender: not full
 * @packet: the packet that it is a part of
 * @header_len: bytes put at dp_sender_header(), which come first; may be 0
 * @payload: the other bytes
 * @payload_len: how many
 * @counted: bytes to count a packet with, or 0
 */
void dp_sender_add(struct dp_sender *sender, struct dp_packet *packet, size_t header_len, const uint8_t *payload,
                   size_t payload_len, size_t counted);

/**
 * dp_sender_flush() - send all that is in the queue
 * @sender: the sender
 * @routes: the snapshot in use
 * @features: DP_FEATURE_GSO is switched off when it fails; then the message goes again, segment by segment
 * @sent: called until every segment is accounted for
 * @context: for @sent
 */
void dp_sender_flush(struct dp_sender *sender, const struct dp_routes *routes, struct dp_features *features,
                     dp_sent_fn *sent, void *context);

/**
 * dp_sender_send_now() - send one datagram past the queue
 * @sender: the sender
 * @peer: the receiver
 * @packet: says the TOS byte of the outer header, and whether it has DF
 * @iovs: its pieces
 * @n_iovs: how many
 *
 * Return: 0, or the errno.
 */
int dp_sender_send_now(struct dp_sender *sender, const struct dp_route_peer *peer, const struct dp_packet *packet,
                       struct iovec *iovs, size_t n_iovs);

/**
 * dp_sender_path_mtu() - ask the kernel what the path to a peer carries
 * @sender: the sender
 * @peer: the peer
 *
 * Return: bytes of the largest inner packet, or -errno.
 */
int dp_sender_path_mtu(const struct dp_sender *sender, const struct dp_route_peer *peer);

#endif
