/*
 * receive.h - datagrams out of the UDP socket, many in a system call.
 *
 * With UDP_GRO the kernel hands out runs of datagrams as one: same sender, same size but for the last, same outer
 * header.
 */
#ifndef DP_RECEIVE_H
#define DP_RECEIVE_H

#include <assert.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "packet.h"

#define MAX_RUNS      64
#define MAX_LONG_RUNS 4     /* runs in a read, when they are long: 256 KiB stay in the cache until they are written */
#define RUN_LEN       65536 /* bytes of the longest run */

static_assert(RUN_LEN >= MAX_PACKET_LEN, "no datagram is cut off");

/* Bytes between buffers: not a power of two, or they would compete for the same lines of the cache. */
#define RUN_STRIDE (RUN_LEN + 1088)

/**
 * struct dp_run - datagrams that were received as one
 * @data: the first
 * @len: bytes of all
 * @datagram_len: bytes of each but the last
 * @sender: the underlay address that they came from
 * @tos: TOS byte of the outer header
 */
struct dp_run {
    uint8_t *data;
    size_t len;
    size_t datagram_len;
    struct dp_key sender;
    uint8_t tos;
};

/**
 * struct dp_receiver - buffers for one read
 * @buffers: MAX_RUNS of them
 * @n_wanted: runs that the next read asks for
 * @most: runs that a read asks for at most
 * @vector: what the kernel wants
 * @iovs: one for each buffer
 * @from: senders
 * @control: control messages: TOS byte, and length of the datagrams in a run
 */
struct dp_receiver {
    uint8_t *buffers;
    uint32_t n_wanted;
    uint32_t most;
    struct mmsghdr vector[MAX_RUNS];
    struct iovec iovs[MAX_RUNS];
    struct sockaddr_in6 from[MAX_RUNS];
    _Alignas(struct cmsghdr) uint8_t control[MAX_RUNS][CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(int))];
};

/**
 * dp_receiver_init() - allocate the buffers
 * @receiver: all zero
 * @most: runs in a read at most; 0 for as many as there are buffers
 *
 * Return: 0 or -ENOMEM.
 */
int dp_receiver_init(struct dp_receiver *receiver, uint32_t most);

/**
 * dp_receiver_free() - free the buffers
 * @receiver: the receiver
 */
void dp_receiver_free(struct dp_receiver *receiver);

/**
 * dp_receiver_read() - receive what is waiting
 * @receiver: the receiver; runs of the last read are overwritten
 * @fd: the socket
 *
 * Return: the number of runs, or -errno.
 */
int dp_receiver_read(struct dp_receiver *receiver, int fd);

/**
 * dp_receiver_run() - one of the runs that were read
 * @receiver: the receiver
 * @i: its number
 */
struct dp_run dp_receiver_run(struct dp_receiver *receiver, size_t i);

#endif
