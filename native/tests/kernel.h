/*
 * kernel.h - a TUN device and UDP sockets in memory, which take what the kernel takes and refuse what it refuses.
 *
 * A program that is linked with kernel.c (see the Makefile) has its system calls on the descriptors below answered by
 * it. A rule that the kernel would answer with an error which the loop never provokes is a failed check here.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include "loop.h"

enum { KERNEL_TUN = 100000, KERNEL_UDP, KERNEL_PROBE, KERNEL_SOURCE };

#define MAX_FRAME_LEN (VNET_LEN + MAX_PACKET_LEN)

/**
 * struct kernel_run - what one message of recvmmsg brings
 * @data: datagrams of one size, the last may be shorter
 * @len: bytes of all
 * @datagram_len: bytes of each; 0 for no UDP_GRO message
 * @from: the sender
 * @tos: TOS byte of the outer header
 */
struct kernel_run {
    const uint8_t *data;
    size_t len;
    size_t datagram_len;
    struct dp_key from;
    uint8_t tos;
};

/**
 * struct kernel - what a test decides about the kernel, and hears of it
 * @vnet_len: bytes of vnet header in front of each frame of the device
 * @path_mtu: bytes of the largest UDP payload; 0 when the way to nobody is known
 * @ends_with: the errno of a read from the device or the socket when nothing is left; 0 for EAGAIN
 * @says_einval: whether segments that are larger are refused with EINVAL, as before Linux 6.14
 * @read: the next frame of the device, or 0 bytes when there is none
 * @receive: the next run of the socket; returns 0 when there is none
 * @refuse_write: the errno for a write to the device, or 0
 * @refuse_send: the errno for a message of so many segments, or 0
 * @written: a frame that the device took
 * @sent: a datagram that left
 */
struct kernel {
    size_t vnet_len;
    size_t path_mtu;
    int ends_with;
    int says_einval;
    size_t (*read)(uint8_t *frame, size_t room);
    int (*receive)(struct kernel_run *run);
    int (*refuse_write)(const struct virtio_net_hdr *vnet);
    int (*refuse_send)(size_t n_segments);
    void (*written)(const struct virtio_net_hdr *vnet, const uint8_t *packet, size_t len);
    void (*sent)(const struct sockaddr *to, int tos, const uint8_t *datagram, size_t len);
};

extern struct kernel kernel;

/* A loop between them for @engine, its buffers allocated; all features are on. */
struct dp_loop *kernel_loop_new(struct dp_engine *engine);

/* The same with the buffers of a loop that is done, or NULL. */
struct dp_loop *kernel_loop_renew(struct dp_loop *done, struct dp_engine *engine);

void kernel_loop_free(struct dp_loop *loop);

#endif
