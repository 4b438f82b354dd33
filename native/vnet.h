/*
 * vnet.h - the header in front of each packet of a TUN device with IFF_VNET_HDR (VIRTIO 1.2, 5.1.6), and TUN constants
 * that are newer than the oldest kernel headers we compile with.
 */
#ifndef DP_VNET_H
#define DP_VNET_H

#include <assert.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <netinet/udp.h>

/* In the byte order of the machine, which is what a TUN device uses unless told otherwise. */
#define VNET_LEN sizeof(struct virtio_net_hdr)

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define TCP_CHECKSUM_AT 16
#define UDP_CHECKSUM_AT 6
#define TCP_HEADER_LEN  20
#define UDP_HEADER_LEN  8

/* Bytes of the longest headers of IP and TCP or UDP that are cut or put together. */
#define MAX_SEGMENT_HEADER 128
static_assert(MAX_SEGMENT_HEADER >= 60 + 60, "IPv4 and TCP with all options fit, and IPv6 and TCP with them");

#define TCP_FLAGS_AT 13
#define TCP_FIN      0x01
#define TCP_PSH      0x08
#define TCP_ACK      0x10
#define TCP_ECE      0x40
#define TCP_CWR      0x80

#endif
