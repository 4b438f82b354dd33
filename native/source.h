/* source.h - sockets that a worker sends by, beside the one that it was given. */
#ifndef DP_SOURCE_H
#define DP_SOURCE_H

/**
 * dp_source_open() - open a socket on the same address as another, with a port of the kernel's choice
 * @udp_fd: the other socket
 *
 * Sockets belong to the network namespace of the thread that opens them, so this fails in a thread that has gone
 * elsewhere.
 *
 * Return: the socket or -errno.
 */
int dp_source_open(int udp_fd);

/* Let the kernel and routers fragment what a socket sends, as far as the kernel knows the path. */
void dp_source_clear_df(int fd);

#endif
