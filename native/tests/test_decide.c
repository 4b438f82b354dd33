/* test_decide.c - decisions on what no engine test can reach from Python: scratch memory, super-packets. */
#include "check.h"
#include "decide.h"
#include "packets.h"

static const struct dp_config config = {
    .subnet4 = {[10] = 0xff, 0xff, 10, 5, 1},
    .subnet4_len = 120,
    .carry_tos = 1,
    .check_sender = 1,
    .mtu = 1472,
    .icmp_rate = 1000,
    .icmp_burst = 2,
};

static struct dp_engine *engine_with_peer(void)
{
    static const uint8_t address[4] = {192, 168, 0, 202}, subnet[4] = {10, 5, 2, 0};
    struct dp_key address_key = dp_key_load(address, 4), subnet_key = dp_key_load(subnet, 4);
    struct dp_peer peer = {.id = 1, .generation = 1, .port = 8285};
    struct dp_prefix prefix = {.length = 120, .peer = 1};
    struct dp_engine *engine = dp_engine_new(&config);

    CHECK(engine);
    memcpy(peer.address, &address_key, 16);
    memcpy(prefix.key, &subnet_key, 16);
    CHECK(dp_engine_set_routes(engine, &peer, 1, &prefix, 1) == 0);
    return engine;
}

static void test_an_error_is_built_in_scratch_memory(void)
{
    struct dp_engine *engine = engine_with_peer();
    struct recipe recipe = {.payload_len = 1000, .fragment = V4_DONT_FRAGMENT};
    uint8_t received[1100], scratch[DP_ICMP_SCRATCH];
    struct dp_packet packet = {.data = received, .scratch = scratch};
    static const uint8_t peer[4] = {192, 168, 0, 202};
    struct dp_key sender = dp_key_load(peer, 4);

    packet.len = packet.wire_len = (uint32_t)make_packet(received, &recipe);
    put_be32(received + 12, 0x0a050202); /* from the peer's subnet to the node's own */
    put_be32(received + 16, 0x0a050102);
    received[8] = 1;
    dp_decapsulate(engine->batch_worker, engine->routes, &packet, &sender, 1);
    CHECK(packet.verdict == DP_VERDICT_TTL_EXCEEDED && packet.egress == DP_EGRESS_TUN);
    CHECK(packet.data >= scratch && packet.data + packet.len <= scratch + sizeof scratch);
    CHECK(packet.len == 576 && !memcmp(packet.data + 28, received, 576 - 28));
    dp_engine_free(engine);
}

static void test_a_super_packet_is_measured_by_its_segments(void)
{
    struct dp_engine *engine = engine_with_peer();
    struct recipe recipe = {.tcp = 1, .flags = TCP_ACK, .fragment = V4_DONT_FRAGMENT, .payload_len = 20000};
    static uint8_t bytes[DP_ICMP_HEADROOM + 21000];
    struct dp_packet packet = {.data = bytes + DP_ICMP_HEADROOM};

    packet.len = (uint32_t)make_packet(packet.data, &recipe);
    packet.wire_len = 1472;
    dp_encapsulate(engine->batch_worker, engine->routes, &packet, 1);
    CHECK(packet.verdict == DP_VERDICT_FORWARDED && packet.peer == 1);
    dp_engine_set_path_mtu(engine, 1, 1400, 1);
    dp_encapsulate(engine->batch_worker, engine->routes, &packet, 1);
    CHECK(packet.verdict == DP_VERDICT_TOO_BIG && get_be32(packet.data + 24) == 1400);
    dp_engine_free(engine);
}

int main(void)
{
    RUN(test_an_error_is_built_in_scratch_memory);
    RUN(test_a_super_packet_is_measured_by_its_segments);
    return 0;
}
