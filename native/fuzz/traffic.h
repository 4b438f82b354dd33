/* traffic.h - what an input of fuzz_loop.c has come into a loop. */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include "kernel.h"

#define MAX_INPUTS 10 /* that wait on each side */

/* The first byte of a record, modulo N_RECORDS. */
enum record { TUN_PACKET, TUN_BYTES, TUN_AGAIN, UDP_PACKETS, UDP_BYTES, END_OF_ROUND, N_RECORDS };

/**
 * struct queue - what waits in the device, or in the socket
 * @n: how many
 * @next: which of them is read next
 * @inputs: frames of the device with their vnet headers, or runs of datagrams
 */
struct queue {
    size_t n;
    size_t next;
    struct {
        size_t len;
        size_t datagram_len;
        struct dp_key from;
        uint8_t tos;
        uint8_t bytes[MAX_FRAME_LEN + 64];
    } inputs[MAX_INPUTS];
};

extern struct queue from_tun, from_udp;

/* Underlay addresses of both peers, and of a stranger. */
extern struct dp_key addresses[3];

/* Begin to read an input. */
void traffic_begin(const uint8_t *bytes, size_t len);

/* Whether there is more of it. */
int traffic_left(void);

/* Its next byte, or 0. */
uint8_t next8(void);

/* Fill the queues up to the end of a round. */
void traffic_next_round(void);

#endif
