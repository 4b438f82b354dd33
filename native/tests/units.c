/* units.c - the oracle of whole turns: what goes in is cut again, byte by byte, without any code of the loop's. */
#include "units.h"

#include "check.h"

#define MAX_UNITS 16384
#define N_FLOWS   (2 * MAX_UNITS) /* there are fewer, so some place is always free */
#define POOL_LEN  (4 << 20)

struct unit {
    size_t at;
    size_t len;
    uint64_t flow;
    int taken;
};

static uint8_t pool[POOL_LEN];
static struct unit units[MAX_UNITS];
static struct {
    uint64_t flow;
    size_t last;
} flows[N_FLOWS];
static size_t n_units, n_taken, pool_used, first_left, fragments_len;

void units_clear(void)
{
    if (n_units > 0)
        memset(flows, 0, sizeof flows);
    n_units = n_taken = pool_used = first_left = fragments_len = 0;
}

/* A number that the packets of a flow have in common, or 0 when the order does not matter. FNV-1a. */
static uint64_t flow_number(const uint8_t *packet, size_t len)
{
    struct dp_flow flow = dp_flow_of(packet, len);
    const struct dp_family *family = dp_packet_family(packet);
    uint64_t number = 0xcbf29ce484222325 ^ flow.protocol;

    for (size_t i = 0; i < 2u * family->address_len; i++)
        number = (number ^ packet[family->addresses_at + i]) * 0x100000001b3;
    for (size_t i = 0; i < 4 && flow.protocol; i++)
        number = (number ^ packet[flow.l4_at + i]) * 0x100000001b3;
    return flow.protocol ? number | 1 : 0;
}

void units_expect(const uint8_t *packet, size_t len)
{
    CHECK(n_units < MAX_UNITS && len <= POOL_LEN - pool_used);
    memcpy(pool + pool_used, packet, len);
    units[n_units++] = (struct unit){.at = pool_used, .len = len, .flow = flow_number(packet, len)};
    pool_used += len;
}

static int same(const struct unit *unit, const uint8_t *packet, size_t len, int cut)
{
    const uint8_t *expected = pool + unit->at;

    if (unit->len != len)
        return 0;
    if (!cut || !is_v4(packet) || !(get_be16(packet + 6) & V4_DONT_FRAGMENT))
        return !memcmp(expected, packet, len);
    return !memcmp(expected, packet, 4) && !memcmp(expected + 6, packet + 6, 4) &&
           !memcmp(expected + 12, packet + 12, len - 12) && slow_sum(0, packet, V4_HEADER_LEN) == 0xffff;
}

/* Where the last packet of a flow that has come is noted, as its number plus one. */
static size_t *last_of(uint64_t flow)
{
    size_t i = flow % N_FLOWS;

    while (flows[i].last && flows[i].flow != flow)
        i = (i + 1) % N_FLOWS;
    flows[i].flow = flow;
    return &flows[i].last;
}

int units_take(const uint8_t *packet, size_t len, int cut, int ordered)
{
    while (first_left < n_units && units[first_left].taken)
        first_left++;
    for (size_t i = first_left; i < n_units; i++) {
        if (units[i].taken || !same(&units[i], packet, len, cut))
            continue;
        size_t *last = units[i].flow ? last_of(units[i].flow) : NULL;
        if (ordered && last && *last > i) /* lost, if this is another one with the same bytes */
            continue;
        if (last && *last <= i)
            *last = i + 1;
        units[i].taken = 1;
        n_taken++;
        return 1;
    }
    return 0;
}

/* Where in the data of a unit the fragment lies, or -1 when it is none of it. */
static long fragment_at(const struct unit *unit, const uint8_t *fragment, size_t len)
{
    const uint8_t *whole = pool + unit->at;
    size_t header_len = 4u * (whole[0] & 15), whole_flags = get_be16(whole + 6), flags = get_be16(fragment + 6);
    size_t data_len = len - header_len, at = 8 * ((flags & 0x1fff) - (whole_flags & 0x1fff));

    if (whole[0] != fragment[0] || whole_flags & V4_DONT_FRAGMENT || flags & V4_DONT_FRAGMENT || len < header_len)
        return -1;
    if ((flags & 0x1fff) < (whole_flags & 0x1fff) || at > unit->len - header_len ||
        data_len > unit->len - header_len - at)
        return -1;
    int last = at + data_len == unit->len - header_len;
    if (!(flags & V4_MORE_FRAGMENTS) != (last && !(whole_flags & V4_MORE_FRAGMENTS)) || (!last && data_len % 8))
        return -1;
    if (whole[1] != fragment[1] || memcmp(whole + 4, fragment + 4, 2) || memcmp(whole + 8, fragment + 8, 2) ||
        memcmp(whole + 12, fragment + 12, 8) || memcmp(whole + header_len + at, fragment + header_len, data_len))
        return -1;
    return slow_sum(0, whole, header_len) == slow_sum(0, fragment, header_len) ? (long)at : -1;
}

int units_take_fragment(const uint8_t *fragment, size_t len)
{
    for (size_t i = 0; i < n_units && is_v4(fragment); i++) {
        long at = units[i].taken || !is_v4(pool + units[i].at) ? -1 : fragment_at(&units[i], fragment, len);
        if (at < 0)
            continue;
        fragments_len += len - 4u * (fragment[0] & 15);
        return at == 0 ? 2 : 1;
    }
    return 0;
}

size_t units_left(void)
{
    size_t left_len = 0, n_left = n_units - n_taken;

    for (size_t i = 0; i < n_units && fragments_len; i++) {
        if (units[i].taken || !is_v4(pool + units[i].at))
            continue;
        left_len += units[i].len - 4u * (pool[units[i].at] & 15);
        n_left--;
    }
    return left_len == fragments_len ? n_left : n_units - n_taken;
}

static uint8_t gso_protocol(uint8_t type, int v4)
{
    if (type == VIRTIO_NET_HDR_GSO_UDP_L4)
        return PROTOCOL_UDP;
    return type == (v4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6) ? PROTOCOL_TCP : 0;
}

int slow_parse(struct slow_cut *cut, const struct virtio_net_hdr *vnet, const uint8_t *packet, size_t len)
{
    int checksum = vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, v4 = is_v4(packet);
    size_t ip_len = v4 ? 4u * (packet[0] & 15) : 40, l4_len = UDP_HEADER_LEN;
    uint8_t next = packet[v4 ? 9 : 6];

    *cut = (struct slow_cut){.n = 1, .l4_at = checksum ? vnet->csum_start : ip_len};
    if (checksum && (cut->l4_at < ip_len || cut->l4_at + vnet->csum_offset + 2 > len))
        return 0;
    if (vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE)
        return 1;
    cut->protocol = gso_protocol((uint8_t)(vnet->gso_type & ~VIRTIO_NET_HDR_GSO_ECN), v4);
    if (!cut->protocol || vnet->gso_size == 0)
        return 0;
    if (cut->l4_at == ip_len ? next != cut->protocol : v4 || next == PROTOCOL_TCP || next == PROTOCOL_UDP)
        return 0;
    if (checksum && vnet->csum_offset != (cut->protocol == PROTOCOL_TCP ? 16 : 6))
        return 0;
    if (cut->protocol == PROTOCOL_TCP)
        l4_len = cut->l4_at + 20 <= len ? (size_t)(packet[cut->l4_at + 12] >> 4) * 4 : 0;
    cut->header_len = cut->l4_at + l4_len;
    if (cut->header_len >= len || cut->header_len > MAX_SEGMENT_HEADER ||
        (cut->protocol == PROTOCOL_TCP && l4_len < 20))
        return 0;
    cut->n = 0;
    for (size_t at = cut->header_len; at < len; at += vnet->gso_size)
        cut->n++;
    return 1;
}

static void put_checksums(uint8_t *packet, size_t len, const struct slow_cut *cut)
{
    uint8_t *l4 = packet + cut->l4_at, *checksum = l4 + (cut->protocol == PROTOCOL_TCP ? 16 : 6);

    if (is_v4(packet)) {
        put_be16(packet + 10, 0);
        put_be16(packet + 10, (uint16_t)~slow_sum(0, packet, cut->l4_at));
    }
    put_be16(checksum, 0);
    uint16_t value = (uint16_t)~slow_l4_sum(packet, len, cut->l4_at, cut->protocol);
    put_be16(checksum, value || cut->protocol == PROTOCOL_TCP ? value : 0xffff);
}

size_t slow_segment(const struct slow_cut *cut, const struct virtio_net_hdr *vnet, const uint8_t *packet, size_t len,
                    size_t i, uint8_t *segment)
{
    size_t at = cut->header_len + i * vnet->gso_size;
    size_t payload_len = at + vnet->gso_size < len ? vnet->gso_size : len - at;
    size_t segment_len = cut->header_len + payload_len, l4_at = cut->l4_at;

    memcpy(segment, packet, cut->header_len);
    memcpy(segment + cut->header_len, packet + at, payload_len);
    if (is_v4(packet)) {
        put_be16(segment + 2, (uint16_t)segment_len);
        put_be16(segment + 4, (uint16_t)(get_be16(packet + 4) + i));
    } else {
        put_be16(segment + 4, (uint16_t)(segment_len - 40));
    }
    if (cut->protocol == PROTOCOL_TCP) {
        put_be32(segment + l4_at + 4, get_be32(packet + l4_at + 4) + (uint32_t)(i * vnet->gso_size));
        if (i > 0)
            segment[l4_at + 13] &= 0x7f; /* CWR */
        if (i + 1 < cut->n)
            segment[l4_at + 13] &= 0xf6; /* PSH and FIN */
    } else {
        put_be16(segment + l4_at + 4, (uint16_t)(segment_len - l4_at));
    }
    put_checksums(segment, segment_len, cut);
    return segment_len;
}

void slow_complete(uint8_t *packet, size_t len, const struct virtio_net_hdr *vnet)
{
    uint16_t value = (uint16_t)~slow_sum(0, packet + vnet->csum_start, len - vnet->csum_start);
    put_be16(packet + vnet->csum_start + vnet->csum_offset, value || vnet->csum_offset != 6 ? value : 0xffff);
}
