/* packet.c - header checks, and the two changes that a node makes to a packet. */
#include "packet.h"

enum dp_verdict dp_packet_check(const uint8_t *packet, size_t len)
{
    size_t stated_len;

    if (len == 0)
        return DP_VERDICT_TRUNCATED;
    switch (packet[0] >> 4) {
    case 4:
        if (len < V4_HEADER_LEN)
            return DP_VERDICT_TRUNCATED;
        if (dp_packet_header_len(packet) < V4_HEADER_LEN)
            return DP_VERDICT_BAD_HEADER;
        if (len < dp_packet_header_len(packet))
            return DP_VERDICT_TRUNCATED;
        stated_len = get_be16(packet + 2);
        break;
    case 6:
        if (len < V6_HEADER_LEN)
            return DP_VERDICT_TRUNCATED;
        stated_len = V6_HEADER_LEN + (size_t)get_be16(packet + 4);
        break;
    default: return DP_VERDICT_BAD_VERSION;
    }
    return len == stated_len ? DP_VERDICT_FORWARDED : DP_VERDICT_BAD_LENGTH;
}

struct dp_key dp_key_prefix_mask(uint32_t length)
{
    uint8_t bytes[16] = {0};

    for (uint32_t bit = 0; bit < length && bit < 8 * sizeof bytes; bit++)
        bytes[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
    return dp_key_load(bytes, sizeof bytes);
}

void dp_packet_set_word(uint8_t *packet, size_t at, uint16_t value)
{
    uint16_t old_word = get_be16(packet + at);

    put_be16(packet + at, value);
    if (is_v4(packet)) {
        uint8_t *checksum = packet + V4_CHECKSUM_AT;
        put_be16(checksum, dp_checksum_update(get_be16(checksum), old_word, value));
    }
}

void dp_packet_set_byte(uint8_t *packet, size_t at, uint8_t value)
{
    /* By arithmetic: to write a byte and to read its word again makes the processor wait for the write. */
    size_t word_at = at & ~(size_t)1;
    unsigned int shift = at == word_at ? 8 : 0, word = get_be16(packet + word_at);

    dp_packet_set_word(packet, word_at, (uint16_t)((word & ~(0xffu << shift)) | (unsigned int)value << shift));
}

void dp_packet_change_ttl(uint8_t *packet, int step)
{
    size_t at = dp_packet_family(packet)->ttl_at;
    dp_packet_set_byte(packet, at, (uint8_t)(packet[at] + step));
}

void dp_packet_set_ecn(uint8_t *packet, uint8_t bits)
{
    /* They lie in the second byte of both families, but not in the same place of it. */
    unsigned int shift = is_v4(packet) ? 0 : 4;
    uint8_t value = (uint8_t)((packet[1] & ~(0x03u << shift)) | (unsigned int)bits << shift);

    if (value != packet[1])
        dp_packet_set_byte(packet, 1, value);
}
