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

/*
 * Have a socket set DF on what it sends, and refuse what is larger than the path; or, with @df 0, let routers fragment
 * it, and the kernel for the path that it knows of.
 */
void dp_source_set_df(int fd, int v6, int df);

#endif
