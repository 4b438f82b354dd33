/*
 * loop.h - a worker at work: one TUN queue, one UDP socket, and the memory that packets pass through.
 *
 * A turn takes a bounded amount of work each way, so neither direction starves the other and a small packet never waits
 * behind megabytes. All that a turn took in leaves before the turn ends.
 *
 *     outbound   TUN -> arena -> decide -> sender -> UDP socket
 *     inbound    UDP socket -> receiver -> decide -> coalescer -> TUN
 *
 * All memory is allocated before the first turn.
 */
#ifndef DP_LOOP_H
#define DP_LOOP_H

#include "coalesce.h"
#include "receive.h"
#include "send.h"

#define MAX_READS     128
#define READ_ALIGN    64
#define READ_HEADROOM 64 /* for a vnet header, and later for the headers of an ICMP error */

/* What one read takes of the arena at most: packets begin READ_HEADROOM behind a multiple of READ_ALIGN. */
#define READ_ROOM (READ_HEADROOM + ROUND_UP(MAX_PACKET_LEN, READ_ALIGN))
#define ARENA_LEN ((size_t)5 * READ_ROOM) /* what a turn reads stays cached until it is sent */

static_assert(READ_HEADROOM >= VNET_LEN && READ_HEADROOM >= DP_ICMP_HEADROOM, "what goes in front of a packet fits");
static_assert(READ_HEADROOM % READ_ALIGN == 0, "rounding a packet up never takes more than READ_ROOM");

/* Whether another read has room behind the @used bytes of the arena. */
static inline int dp_arena_has_room(size_t used)
{
    return size_left(ARENA_LEN, used) >= READ_ROOM;
}

/* Bytes of the arena that are used when a packet of @len bytes was read behind @used: a multiple of READ_ALIGN again.
 */
static inline size_t dp_arena_used(size_t used, size_t len)
{
    return used + READ_HEADROOM + ROUND_UP(len, READ_ALIGN);
}

/**
 * struct dp_loop - one run of a worker
 * @worker: the worker
 * @features: the engine's
 * @tun_fd: the TUN queue
 * @udp_fd: the UDP socket
 * @stop_fd: readable when the run is to end
 * @vnet_len: bytes in front of each packet of the TUN queue: VNET_LEN or 0
 * @most_reads: packets that a turn takes from the TUN
 * @routes: the snapshot of this turn
 * @now_ns: the time of this turn
 * @turn_bytes: bytes taken in this turn, both ways
 * @turn_reads: packets and runs that these came in
 * @busy_until_ns: until when the worker counts as busy
 * @is_realtime: whether the thread goes before other programs
 * @error: 0, or the -errno that ends the run
 * @arena: what was read from the TUN in this turn
 * @packets: the packets in it
 * @sender: the way into the underlay
 * @receiver: what was received in this turn
 * @coalescer: what of that goes to the TUN
 * @scratch: for ICMP errors about packets that were received
 */
struct dp_loop {
    struct dp_worker *worker;
    struct dp_features *features;
    int tun_fd;
    int udp_fd;
    int stop_fd;
    size_t vnet_len;
    uint32_t most_reads;
    const struct dp_routes *routes;
    uint64_t now_ns;
    size_t turn_bytes;
    size_t turn_reads;
    uint64_t busy_until_ns;
    int is_realtime;
    int error;
    uint8_t *arena;
    struct dp_packet packets[MAX_READS];
    struct dp_sender sender;
    struct dp_receiver receiver;
    struct dp_coalescer coalescer;
    uint8_t scratch[DP_ICMP_SCRATCH];
};

/**
 * dp_loop_outbound() - one turn from the TUN to the underlay
 * @loop: @loop->error is set when the device is gone
 */
void dp_loop_outbound(struct dp_loop *loop);

/**
 * dp_loop_inbound() - one turn from the underlay to the TUN
 * @loop: @loop->error is set when the device is gone
 */
void dp_loop_inbound(struct dp_loop *loop);

/**
 * dp_loop_write() - write pieces of a packet to the TUN as one
 * @loop: @loop->error is set when the device is gone
 * @iovs: the first has the vnet header, and is left out when the TUN queue has none
 * @n_iovs: how many
 *
 * Return: 0, or the errno.
 */
int dp_loop_write(struct dp_loop *loop, struct iovec *iovs, size_t n_iovs);

/**
 * dp_loop_write_plain() - write a packet to the TUN that is no super-packet
 * @loop: the loop
 * @packet: the packet
 * @len: its bytes
 *
 * Return: 0, or the errno.
 */
int dp_loop_write_plain(struct dp_loop *loop, uint8_t *packet, size_t len);

/**
 * dp_loop_count() - count packets that are done with, and if they went to or came from a peer, for that peer too
 * @loop: the loop
 * @direction: their way
 * @verdict: their final verdict
 * @peer: the peer's id; of no meaning unless they were forwarded
 * @packets: how many
 * @bytes: their bytes as read
 */
static inline void dp_loop_count(struct dp_loop *loop, enum dp_direction direction, enum dp_verdict verdict,
                                 int32_t peer, uint64_t packets, uint64_t bytes)
{
    dp_worker_count(loop->worker, direction, verdict, packets, bytes);
    if (verdict == DP_VERDICT_FORWARDED)
        dp_worker_count_peer(loop->worker, loop->routes, direction, peer, packets, bytes, loop->now_ns);
}

#endif
