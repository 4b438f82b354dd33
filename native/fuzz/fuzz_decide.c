/*
 * fuzz_decide.c - any bytes get a verdict, and what is done to them is what the verdict says.
 *
 * Input: a byte of switches, the outer TOS byte, a byte that picks the sender, then the packet.
 */
#include <stdlib.h>

#include "check.h"
#include "decide.h"
#include "packets.h"

enum {
    DECAPSULATE = 1,
    PEER_SENDS = 2,
    SCRATCH = 4,
    CARRY_TOS = 8,
    ANY_SENDER = 16,
    TRUE_LENGTH = 32,
    NARROW = 64,
    LEAST = 128,
};

#define MTU        1472
#define NARROW_MTU 100
#define LEAST_MTU  400

static struct dp_engine *new_engine(uint8_t switches)
{
    static const struct dp_prefix prefixes[] = {
        {.key = {[10] = 0xff, 0xff, 10, 5, 2}, .length = 120, .peer = 1},
        {.key = {0xfd, 0x05, 0, 2}, .length = 64, .peer = 1},
    };
    struct dp_peer peer = {.address = {[10] = 0xff, 0xff, 192, 168, 0, 202}, .id = 1, .generation = 1, .port = 8285};
    struct dp_config config = {
        .subnet4 = {[10] = 0xff, 0xff, 10, 5, 1},
        .subnet6 = {0xfd, 0x05, 0, 1},
        .subnet4_len = 120,
        .subnet6_len = 64,
        .carry_tos = (switches & CARRY_TOS) != 0,
        .check_sender = !(switches & ANY_SENDER),
        .mtu = MTU,
        .least_mtu = switches & LEAST ? LEAST_MTU : 0,
        .icmp_rate = 1,
        .icmp_burst = 1,
    };
    struct dp_engine *engine = dp_engine_new(&config);

    CHECK(engine && dp_engine_set_routes(engine, &peer, 1, prefixes, 2) == 0);
    if (switches & NARROW)
        dp_engine_set_path_mtu(engine, 1, NARROW_MTU, 1);
    return engine;
}

/* Make the length field true, so that the deeper rules are reached too. */
static void state_length(uint8_t *packet, size_t len)
{
    if (len >= V4_HEADER_LEN && packet[0] >> 4 == 4)
        put_be16(packet + 2, (uint16_t)len);
    if (len >= V6_HEADER_LEN && packet[0] >> 4 == 6)
        put_be16(packet + 4, (uint16_t)(len - V6_HEADER_LEN));
}

static void check_forwarded(const uint8_t *before, const uint8_t *after, size_t len)
{
    size_t same_from = dp_packet_family(before)->addresses_at;

    CHECK(dp_packet_ttl(after) == dp_packet_ttl(before) - 1 && dp_packet_ttl(after) >= 1);
    CHECK((dp_packet_tos(after) ^ dp_packet_tos(before)) <= 3);
    CHECK(!memcmp(before + same_from, after + same_from, len - same_from));
    if (is_v4(before) && dp_sum(before, dp_packet_header_len(before)) == 0xffff)
        CHECK(dp_sum(after, dp_packet_header_len(after)) == 0xffff);
}

/* What comes in is from a host of the peer's subnet, for a host of the node's own. */
static void check_decapsulated(const uint8_t *packet)
{
    if (is_v4(packet))
        CHECK(!memcmp(packet + 12, "\x0a\x05\x02", 3) && !memcmp(packet + 16, "\x0a\x05\x01", 3) && packet[19] != 255);
    else
        CHECK(!memcmp(packet + 8, "\xfd\x05\0\2\0\0\0\0", 8) && !memcmp(packet + 24, "\xfd\x05\0\1\0\0\0\0", 8));
}

/* What goes out fits its path, or goes in fragments that do, or without DF. */
static void check_fit(const struct dp_packet *packet, uint8_t switches)
{
    uint32_t carried = switches & NARROW ? NARROW_MTU : MTU;
    uint32_t mtu = switches & NARROW && switches & LEAST ? LEAST_MTU : carried;

    CHECK(packet->fragment_len == (packet->len > mtu ? mtu : 0));
    if (packet->fragment_len)
        CHECK(is_v4(packet->data) && !(get_be16(packet->data + 6) & V4_DONT_FRAGMENT));
    CHECK(packet->no_df == (min_size(packet->len, mtu) > carried));
}

static void check_error(const struct dp_packet *packet, const uint8_t *before)
{
    size_t header_len = dp_packet_family(packet->data)->header_len;
    size_t quoted = packet->len - header_len - 8;

    CHECK(dp_packet_check(packet->data, packet->len) == DP_VERDICT_FORWARDED);
    CHECK(packet->len <= (is_v4(packet->data) ? 576 : 1280));
    CHECK(!memcmp(packet->data + header_len + 8, before, quoted));
    CHECK(!dp_icmp_may_answer(packet->data, packet->len)); /* an error never causes an error */
    if (is_v4(packet->data))
        CHECK(dp_sum(packet->data, header_len) == 0xffff && dp_sum(packet->data + header_len, quoted + 8) == 0xffff);
    else
        CHECK(dp_sum_fold((uint64_t)dp_sum_pseudo_header(packet->data + 8, 16, 58, quoted + 8) +
                          dp_sum(packet->data + header_len, quoted + 8)) == 0xffff);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_len);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_len)
{
    static const uint8_t peer[4] = {192, 168, 0, 202}, stranger[4] = {192, 168, 0, 9};
    uint8_t scratch[DP_ICMP_SCRATCH];

    if (input_len < 2)
        return 0;
    uint8_t switches = input[0];
    size_t len = input_len - 2, headroom = switches & SCRATCH ? 0 : DP_ICMP_HEADROOM;
    uint8_t *memory = malloc(headroom + len + 1), *before = malloc(len + 1), *start = memory + headroom;
    struct dp_key sender = dp_key_load(switches & PEER_SENDS ? peer : stranger, 4);
    struct dp_engine *engine = new_engine(switches);

    CHECK(memory && before);
    memcpy(start, input + 2, len);
    if (switches & TRUE_LENGTH)
        state_length(start, len);
    memcpy(before, start, len);
    struct dp_packet packet = {
        .data = start,
        .len = (uint32_t)len,
        .wire_len = (uint32_t)len,
        .tos = input[1],
        .scratch = switches & SCRATCH ? scratch : NULL,
    };
    if (switches & DECAPSULATE)
        dp_decapsulate(engine->batch_worker, engine->routes, &packet, &sender, 1);
    else
        dp_encapsulate(engine->batch_worker, engine->routes, &packet, 1);
    CHECK(packet.verdict < DP_VERDICT_COUNT);
    if (packet.verdict == DP_VERDICT_FORWARDED) {
        CHECK(packet.data == start && packet.len == len && packet.peer == 1);
        check_forwarded(before, start, len);
        if (switches & DECAPSULATE)
            check_decapsulated(start);
        else
            check_fit(&packet, switches);
    } else {
        CHECK(packet.peer == NO_PEER && !memcmp(before, start, len));
        if (packet.egress == DP_EGRESS_TUN)
            check_error(&packet, before);
    }
    dp_engine_free(engine);
    free(before);
    free(memory);
    return 0;
}
