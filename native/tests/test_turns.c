/* test_turns.c - whole turns against a kernel in memory: sizes at the edge, refusals in the middle, odd vnet headers.
 */
#include <errno.h>

#include "check.h"
#include "kernel.h"
#include "packets.h"

#define MAX_SENT 1024

static const struct dp_config config = {
    .mtu = 1472,
    .subnet4 = {[10] = 0xff, 0xff, 10, 5, 1},
    .subnet4_len = 120,
    .icmp_rate = 1000,
    .icmp_burst = 1000,
};

static struct dp_engine *engine;
static struct dp_loop *loop;
static uint8_t frame[MAX_FRAME_LEN], answer[MAX_PACKET_LEN];
static size_t frame_len, n_reads, n_sent, n_written;

static size_t read_frame(uint8_t *to, size_t room)
{
    if (n_reads == 0)
        return 0;
    n_reads--;
    memcpy(to, frame, min_size(frame_len, room));
    return min_size(frame_len, room);
}

static void check_sent(const struct sockaddr *to, int tos, const uint8_t *datagram, size_t len)
{
    CHECK(to->sa_family == AF_INET && tos == 0);
    CHECK(dp_packet_check(datagram, len) == DP_VERDICT_FORWARDED && dp_packet_ttl(datagram) == 63);
    CHECK(packet_checksums_right(datagram, len));
    n_sent++;
}

static void keep_written(const struct virtio_net_hdr *vnet, const uint8_t *packet, size_t len)
{
    (void)vnet;
    memcpy(answer, packet, len);
    n_written++;
}

static void begin(void)
{
    static const struct dp_peer peer = {
        .address = {[10] = 0xff, 0xff, 192, 168, 0, 2}, .id = 1, .generation = 1, .port = 8285};
    static const struct dp_prefix prefixes[] = {{.peer = 1}, {.key = {[10] = 0xff, 0xff}, .length = 96, .peer = 1}};

    kernel = (struct kernel){
        .vnet_len = VNET_LEN, .path_mtu = 1472, .read = read_frame, .written = keep_written, .sent = check_sent};
    engine = dp_engine_new(&config);
    CHECK(engine && dp_engine_set_routes(engine, &peer, 1, prefixes, 2) == 0);
    loop = kernel_loop_new(engine);
    n_sent = n_written = n_reads = 0;
}

static void end(void)
{
    kernel_loop_free(loop);
    dp_engine_free(engine);
}

static uint64_t counted(enum dp_verdict verdict)
{
    return engine->batch_worker->counters.packets[DP_DIRECTION_ENCAP][verdict];
}

/* Have the device hand out @n times a packet of a recipe. */
static void give(const struct virtio_net_hdr *vnet, const struct recipe *recipe, size_t n)
{
    memcpy(frame, vnet, sizeof *vnet);
    frame_len = VNET_LEN + make_packet(frame + VNET_LEN, recipe);
    n_reads = n;
}

static void test_the_longest_packets_stay_in_the_arena(void)
{
    for (size_t len = 65400; len <= MAX_PACKET_LEN; len += 27)
        for (int tcp = 0; tcp <= 1; tcp++) {
            struct recipe recipe = {.tcp = tcp, .flags = TCP_ACK, .payload_len = len - (tcp ? 40 : 28)};
            struct virtio_net_hdr vnet = vnet_for(&recipe, 1400);
            begin();
            give(&vnet, &recipe, 8);
            while (n_reads > 0)
                dp_loop_outbound(loop);
            CHECK(n_sent == 8 * ((recipe.payload_len + 1399) / 1400) && counted(DP_VERDICT_FORWARDED) == n_sent);
            end();
        }
}

/* The queue is flushed in the middle of a super-packet; what was learned then does not spoil what is cut afterwards. */
static void test_a_refusal_in_the_middle_of_a_super_packet(void)
{
    struct recipe recipe = {
        .tcp = 1, .flags = TCP_ACK, .fragment = V4_DONT_FRAGMENT, .payload_len = MAX_SEGMENTS * 99 + 7};
    struct virtio_net_hdr vnet = vnet_for(&recipe, 99);

    begin();
    kernel.path_mtu = 138; /* 40 + 99 bytes do not fit, the last segment does */
    give(&vnet, &recipe, 1);
    dp_loop_outbound(loop);
    CHECK(counted(DP_VERDICT_TOO_BIG) == MAX_SEGMENTS && counted(DP_VERDICT_FORWARDED) == 1 && n_sent == 1);
    CHECK(n_written == 1 && answer[20] == 3 && answer[21] == 4);
    CHECK(!memcmp(answer + 28, frame + VNET_LEN, 500)); /* quoted as it was read */
    end();
}

/* What the vnet header says never has the loop write into the IP header, or cut where nothing is to be cut. */
static void test_vnet_headers_that_do_not_fit_are_refused(void)
{
    struct recipe recipe = {.tcp = 1, .flags = TCP_ACK, .payload_len = 3000};
    struct virtio_net_hdr good = vnet_for(&recipe, 1000), bad[12];
    size_t n = 0;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        bad[i] = good;
    bad[n++].gso_size = 0;
    bad[n++].csum_start = 8;
    bad[n++].csum_start = 24;
    bad[n++].csum_start = 3050;
    bad[n++].csum_offset = UDP_CHECKSUM_AT;
    bad[n++].gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
    bad[n++].gso_type = VIRTIO_NET_HDR_GSO_TCPV6;
    bad[n++].gso_type = VIRTIO_NET_HDR_GSO_UDP;
    bad[n++].gso_type = 77;
    recipe.payload_len = 1000;
    bad[n].gso_type = VIRTIO_NET_HDR_GSO_NONE;
    bad[n++].csum_start = 0; /* the checksum would go where the packet's length is, or its addresses are */
    bad[n].gso_type = VIRTIO_NET_HDR_GSO_NONE;
    bad[n++].csum_start = 1039;
    bad[n].gso_type = VIRTIO_NET_HDR_GSO_NONE;
    bad[n++].csum_offset = 1020;
    CHECK(n == sizeof bad / sizeof *bad);
    for (size_t i = 0; i < n; i++) {
        begin();
        recipe.payload_len = bad[i].gso_type == VIRTIO_NET_HDR_GSO_NONE ? 1000 : 3000;
        give(&bad[i], &recipe, 1);
        dp_loop_outbound(loop);
        CHECK(counted(DP_VERDICT_BAD_HEADER) == 1 && n_sent == 0 && n_written == 0);
        end();
    }
}

int main(void)
{
    RUN(test_the_longest_packets_stay_in_the_arena);
    RUN(test_a_refusal_in_the_middle_of_a_super_packet);
    RUN(test_vnet_headers_that_do_not_fit_are_refused);
    return 0;
}
