/* icmp.c - ICMP errors by the rules of RFC 1122, RFC 1812 and RFC 4443; see dataplane/packets/icmp.py for the reasons.
 */
#include "icmp.h"

#define PROTOCOL_ICMP            1
#define PROTOCOL_ICMPV6          58
#define ICMP_HEADER_LEN          8
#define ERROR_TTL                64
#define V4_ERROR_TOS             0xc0
#define MAX_V4_ERROR_LEN         576
#define V6_FIRST_INFORMATION     128
#define V6_REDIRECT              137
#define V6_HOP_BY_HOP            0
#define V6_ROUTING               43
#define V6_FRAGMENT              44
#define V6_AUTHENTICATION        51
#define V6_DESTINATION           60
#define V6_MAX_EXTENSION_HEADERS 8
#define V6_EXTENSION_MIN_LEN     8

static_assert(MAX_V4_ERROR_LEN <= DP_ICMP_MAX_LEN, "DP_ICMP_SCRATCH has room for either family");

static int v4_may_answer(const uint8_t *packet, size_t len)
{
    size_t at = dp_packet_header_len(packet);

    if (packet[16] >= 224) /* destination: multicast, class E, broadcast */
        return 0;
    if (get_be16(packet + 6) & V4_FRAGMENT_OFFSET)
        return 0;
    if (packet[9] != PROTOCOL_ICMP)
        return 1;
    if (at >= len)
        return 0;
    switch (packet[at]) {
    case 3:  /* unreachable */
    case 4:  /* source quench */
    case 5:  /* redirect */
    case 11: /* time exceeded */
    case 12: /* parameter problem */ return 0;
    default: return 1;
    }
}

static int is_extension_header(uint8_t protocol)
{
    switch (protocol) {
    case V6_HOP_BY_HOP:
    case V6_ROUTING:
    case V6_FRAGMENT:
    case V6_AUTHENTICATION:
    case V6_DESTINATION: return 1;
    default: return 0;
    }
}

/*
 * Find the protocol above IPv6, behind the extension headers (RFC 8200 4). Returns where it starts, and 0 when that
 * cannot be said: too many headers, one cut short, or a fragment that is not the first.
 */
static size_t v6_upper_layer(const uint8_t *packet, size_t len, uint8_t *protocol)
{
    size_t at = V6_HEADER_LEN, header_len;

    *protocol = packet[6];
    for (int i = 0; i < V6_MAX_EXTENSION_HEADERS && is_extension_header(*protocol); i++) {
        if (size_left(len, at) < V6_EXTENSION_MIN_LEN)
            return 0;
        if (*protocol == V6_FRAGMENT) {
            header_len = V6_EXTENSION_MIN_LEN;
            if (get_be16(packet + at + 2) >> 3)
                return 0;
        } else if (*protocol == V6_AUTHENTICATION) {
            header_len = 4 * ((size_t)packet[at + 1] + 2); /* in words of 4 bytes, less 2 (RFC 4302 2.2) */
        } else {
            header_len = 8 * ((size_t)packet[at + 1] + 1);
        }
        if (size_left(len, at) < header_len)
            return 0;
        *protocol = packet[at];
        at += header_len;
    }
    return is_extension_header(*protocol) ? 0 : at;
}

static int v6_may_answer(const uint8_t *packet, size_t len)
{
    uint8_t protocol;
    size_t at;

    if (packet[24] == 0xff) /* destination: multicast */
        return 0;
    at = v6_upper_layer(packet, len, &protocol);
    if (at == 0)
        return 0;
    if (protocol != PROTOCOL_ICMPV6)
        return 1;
    return at < len && packet[at] >= V6_FIRST_INFORMATION && packet[at] != V6_REDIRECT;
}

int dp_icmp_may_answer(const uint8_t *packet, size_t len)
{
    if (!dp_packet_has_hosts_source(packet))
        return 0;
    return is_v4(packet) ? v4_may_answer(packet, len) : v6_may_answer(packet, len);
}

/* Type and code of the error for a verdict: the type in the upper byte, or 0 for a verdict that is not answered. */
static uint16_t type_and_code(enum dp_verdict reason, int v4)
{
    switch (reason) {
    case DP_VERDICT_NO_ROUTE: return v4 ? 0x0300 : 0x0100;     /* network unreachable, no route to destination */
    case DP_VERDICT_TTL_EXCEEDED: return v4 ? 0x0b00 : 0x0300; /* in transit */
    case DP_VERDICT_TOO_BIG: return v4 ? 0x0304 : 0x0200;      /* fragmentation needed, packet too big */
    default: return 0;
    }
}

int dp_icmp_answers(enum dp_verdict reason)
{
    return type_and_code(reason, 1) != 0;
}

static void put_v4_header(uint8_t *header, size_t error_len, const uint8_t *sender, const uint8_t *receiver)
{
    memset(header, 0, V4_HEADER_LEN);
    header[0] = 0x45;
    header[1] = V4_ERROR_TOS;
    put_be16(header + 2, (uint16_t)error_len);
    header[8] = ERROR_TTL;
    header[9] = PROTOCOL_ICMP;
    memcpy(header + 12, sender, 4);
    memcpy(header + 16, receiver, 4);
    put_be16(header + V4_CHECKSUM_AT, dp_checksum(header, V4_HEADER_LEN));
}

static void put_v6_header(uint8_t *header, size_t error_len, const uint8_t *sender, const uint8_t *receiver)
{
    memset(header, 0, 4);
    header[0] = 0x60;
    put_be16(header + 4, (uint16_t)(error_len - V6_HEADER_LEN));
    header[6] = PROTOCOL_ICMPV6;
    header[7] = ERROR_TTL;
    memcpy(header + 8, sender, 16);
    memcpy(header + 24, receiver, 16);
}

size_t dp_icmp_put_error(uint8_t *packet, size_t len, enum dp_verdict reason, const uint8_t *sender, uint32_t mtu,
                         uint8_t **error)
{
    const struct dp_family *family = dp_packet_family(packet);
    int v4 = is_v4(packet);
    uint8_t *message = packet - ICMP_HEADER_LEN, *header = message - family->header_len;
    const uint8_t *receiver = packet + family->addresses_at;
    size_t error_len =
        min_size((size_t)family->header_len + ICMP_HEADER_LEN + len, v4 ? MAX_V4_ERROR_LEN : DP_ICMP_MAX_LEN);
    size_t message_len = error_len - family->header_len;
    uint64_t sum = 0;

    put_be16(message, type_and_code(reason, v4));
    put_be16(message + 2, 0);
    put_be32(message + 4, reason == DP_VERDICT_TOO_BIG ? mtu : 0);
    if (v4) {
        put_v4_header(header, error_len, sender, receiver);
    } else {
        put_v6_header(header, error_len, sender, receiver);
        sum = dp_sum_pseudo_header(header + family->addresses_at, family->address_len, PROTOCOL_ICMPV6, message_len);
    }
    put_be16(message + 2, (uint16_t)~dp_sum_fold(sum + dp_sum(message, message_len)));
    *error = header;
    return error_len;
}
