/*
 * checksum.h - the Internet checksum and its parts.
 *
 * A "sum" here is the one's complement sum of the 16-bit words of some bytes in network order, folded to 16 bits and
 * held as a host number; a checksum is its complement. Sums of adjacent parts may be added, if all but the last have an
 * even number of bytes.
 */
#ifndef DP_CHECKSUM_H
#define DP_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Fold a sum of sums to 16 bits: what overflows is added at the bottom. */
static inline uint16_t dp_sum_fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* The checksum after one 16-bit word that it covers has changed (RFC 1624, equation 3). */
static inline uint16_t dp_checksum_update(uint16_t checksum, uint16_t old_word, uint16_t new_word)
{
    return (uint16_t)~dp_sum_fold((uint64_t)(uint16_t)~checksum + (uint16_t)~old_word + new_word);
}

/**
 * dp_sum() - the sum of some bytes, an odd last one padded with zero
 * @data: the bytes, at any address
 * @len: how many
 *
 * Uses the widest vectors that this processor has.
 */
uint16_t dp_sum(const uint8_t *data, size_t len);

/**
 * dp_sum_pseudo_header() - the sum of the pseudo-header that TCP, UDP and ICMPv6 checksums cover
 * @addresses: source and destination address, one behind the other as in the IP header
 * @address_len: bytes of one address
 * @protocol: the protocol above IP
 * @len: bytes above the IP header
 *
 * RFC 9293 3.1 and RFC 8200 8.1: the fields are as wide as they are, the sum is the same for both families.
 */
uint16_t dp_sum_pseudo_header(const uint8_t *addresses, size_t address_len, uint8_t protocol, size_t len);

/**
 * struct dp_sum_variant - one implementation of dp_sum()
 * @name: what it is called
 * @sum: the function
 * @usable: whether this processor can run it
 */
struct dp_sum_variant {
    const char *name;
    uint16_t (*sum)(const uint8_t *data, size_t len);
    int (*usable)(void);
};

/* All variants that were compiled in, the portable one last; tests compare each to that one. Ends with a NULL name. */
extern const struct dp_sum_variant dp_sum_variants[];

#endif
