/*
 * packet.h - IP headers: what is read from them and what is changed in them; see dataplane/packets/packet.py for the
 * layout.
 *
 * Functions that take only a packet's first byte want one that dp_packet_check() has found FORWARDED.
 */
#ifndef DP_PACKET_H
#define DP_PACKET_H

#include <stddef.h>
#include <stdint.h>

#include "api.h"
#include "bytes.h"
#include "checksum.h"

#define V4_HEADER_LEN      20
#define V4_MAX_HEADER_LEN  60
#define V4_CHECKSUM_AT     10
#define V6_HEADER_LEN      40
#define MAX_PACKET_LEN     65535
#define PROTOCOL_TCP       6
#define PROTOCOL_UDP       17
#define V4_FRAGMENT_OFFSET 0x1fff
#define V4_MORE_FRAGMENTS  0x2000
#define V4_DONT_FRAGMENT   0x4000

/* An address of either family, in network byte order; two words, so that it is compared and hashed fast. */
struct dp_key {
    uint64_t word[2];
};

/**
 * struct dp_family - where the fields of one IP version's header lie
 * @header_len: bytes of the header without options or extension headers
 * @ttl_at: offset of TTL or hop limit
 * @addresses_at: offset of the source address, which the destination address follows
 * @address_len: bytes of an address
 */
struct dp_family {
    uint8_t header_len;
    uint8_t ttl_at;
    uint8_t addresses_at;
    uint8_t address_len;
};

static inline int is_v4(const uint8_t *packet)
{
    return packet[0] >> 4 == 4;
}

/* The family of a packet. */
static inline const struct dp_family *dp_packet_family(const uint8_t *packet)
{
    static const struct dp_family v4 = {V4_HEADER_LEN, 8, 12, 4};
    static const struct dp_family v6 = {V6_HEADER_LEN, 7, 8, 16};
    return is_v4(packet) ? &v4 : &v6;
}

/**
 * dp_packet_check() - whether a packet is IPv4 or IPv6, its header is all there, and its length is the one that it
 * states
 * @packet: any bytes
 * @len: how many
 *
 * Return: FORWARDED, or why not.
 */
enum dp_verdict dp_packet_check(const uint8_t *packet, size_t len);

/* Bytes of the IP header: with options for IPv4, without extension headers for IPv6. */
static inline size_t dp_packet_header_len(const uint8_t *packet)
{
    return is_v4(packet) ? (size_t)(packet[0] & 0x0f) * 4 : V6_HEADER_LEN;
}

/* An address of @len bytes, 4 or 16, as a key. */
static inline struct dp_key dp_key_load(const uint8_t *address, size_t len)
{
    struct dp_key key = {{0, 0}};
    if (len == 4) {
        uint8_t mapped[8] = {0, 0, 0xff, 0xff, address[0], address[1], address[2], address[3]};
        memcpy(&key.word[1], mapped, sizeof mapped);
    } else {
        memcpy(&key, address, sizeof key);
    }
    return key;
}

/* Whether a key is an IPv4 address. */
static inline int dp_key_is_v4(const struct dp_key *key)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    return !memcmp(key, mapped, sizeof mapped);
}

static inline int dp_key_equal(const struct dp_key *a, const struct dp_key *b)
{
    return a->word[0] == b->word[0] && a->word[1] == b->word[1];
}

/* The key with only its first @length bits set. */
struct dp_key dp_key_prefix_mask(uint32_t length);

static inline struct dp_key dp_key_masked(const struct dp_key *key, const struct dp_key *mask)
{
    return (struct dp_key){{key->word[0] & mask->word[0], key->word[1] & mask->word[1]}};
}

static inline struct dp_key dp_packet_source(const uint8_t *packet)
{
    const struct dp_family *family = dp_packet_family(packet);
    return dp_key_load(packet + family->addresses_at, family->address_len);
}

static inline struct dp_key dp_packet_destination(const uint8_t *packet)
{
    const struct dp_family *family = dp_packet_family(packet);
    return dp_key_load(packet + family->addresses_at + family->address_len, family->address_len);
}

/* Whether the source address can be that of one host on a network; see has_hosts_source() in
 * dataplane/packets/packet.py. */
static inline int dp_packet_has_hosts_source(const uint8_t *packet)
{
    if (is_v4(packet))
        return packet[12] != 0 && packet[12] != 127 && packet[12] < 224;
    static const uint8_t zeros[15];
    struct dp_key source = dp_packet_source(packet);
    return packet[8] != 0xff && !(!memcmp(packet + 8, zeros, 15) && packet[23] <= 1) && !dp_key_is_v4(&source);
}

/* TTL or hop limit. */
static inline uint8_t dp_packet_ttl(const uint8_t *packet)
{
    return packet[dp_packet_family(packet)->ttl_at];
}

/* TOS or traffic class byte. */
static inline uint8_t dp_packet_tos(const uint8_t *packet)
{
    return is_v4(packet) ? packet[1] : (uint8_t)(get_be16(packet) >> 4);
}

/* Write one byte, or the 16-bit number at an even place, of the header, and let the IPv4 header checksum follow. */
void dp_packet_set_byte(uint8_t *packet, size_t at, uint8_t value);
void dp_packet_set_word(uint8_t *packet, size_t at, uint16_t value);

/* Add @step to TTL or hop limit; the sum must fit a byte. */
void dp_packet_change_ttl(uint8_t *packet, int step);

/* Write the two ECN bits. */
void dp_packet_set_ecn(uint8_t *packet, uint8_t bits);

#endif
