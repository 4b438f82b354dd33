/* icmp.h - ICMP errors: whether a packet may be answered with one, and how it is built. */
#ifndef DP_ICMP_H
#define DP_ICMP_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "packet.h"

/* Bytes that an error needs in front of the packet that it quotes: headers of IPv6 and ICMPv6. */
#define DP_ICMP_HEADROOM 48

/* Bytes of the longest error: the IPv6 minimum MTU. */
#define DP_ICMP_MAX_LEN 1280

static_assert(DP_ICMP_HEADROOM >= V6_HEADER_LEN + 8, "the headers of both families fit");

/* Bytes of a place where an error can be built together with the packet that it quotes. */
#define DP_ICMP_SCRATCH (DP_ICMP_HEADROOM + DP_ICMP_MAX_LEN)

/**
 * dp_icmp_answers() - whether a verdict is one that is answered with an ICMP error
 * @reason: the verdict
 */
int dp_icmp_answers(enum dp_verdict reason);

/**
 * dp_icmp_may_answer() - whether an ICMP error about a packet may be sent to its source
 * @packet: a packet whose header is good
 * @len: its bytes
 */
int dp_icmp_may_answer(const uint8_t *packet, size_t len);

/**
 * dp_icmp_put_error() - build the error about a packet, right in front of it
 * @packet: the packet, which is quoted unchanged; DP_ICMP_HEADROOM bytes before it are writable
 * @len: its bytes
 * @reason: NO_ROUTE, TTL_EXCEEDED or TOO_BIG
 * @sender: the node's address in the packet's family
 * @mtu: the number to tell when @reason is TOO_BIG
 * @error: where the start of the error is put
 *
 * Return: bytes of the error.
 */
size_t dp_icmp_put_error(uint8_t *packet, size_t len, enum dp_verdict reason, const uint8_t *sender, uint32_t mtu,
                         uint8_t **error);

#endif
