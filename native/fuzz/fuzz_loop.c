/*
 * fuzz_loop.c - whole turns of a loop between a TUN device and sockets in memory: whatever comes in, with whatever vnet
 * header, in whatever runs, and whatever the kernel refuses, what goes out is what came in, cut or put together by the
 * kernel's rules (kernel.c), with right checksums, TTL one less; or an ICMP error that quotes what came in. All is
 * counted once. A slow oracle (units.c) says what that is.
 *
 * Input: six bytes about node and kernel, then what comes in, record by record (traffic.c).
 */
#include <errno.h>

#include "check.h"
#include "kernel.h"
#include "packets.h"
#include "traffic.h"
#include "units.h"

#define MAX_ROUNDS 8

enum setting { NO_VNET = 1, NO_GSO = 2, NO_GRO = 4, NO_USO = 8, CARRY_TOS = 16, ANY_SENDER = 32, V6 = 64, OLD = 128 };

static struct dp_engine *engine, *oracle;
static struct dp_loop *loop;
static uint8_t refusals[2], error_kinds;
static size_t n_calls[2], n_refused, n_sent, n_fragments, n_written, n_lost, units_out, units_in;
static int outbound;

/* ---- the kernel's side */

static size_t read_tun(uint8_t *frame, size_t room)
{
    if (from_tun.next == from_tun.n)
        return 0;
    size_t i = from_tun.next++, len = min_size(room, from_tun.inputs[i].len);
    memcpy(frame, from_tun.inputs[i].bytes, len);
    return len;
}

static int receive_udp(struct kernel_run *run)
{
    if (from_udp.next == from_udp.n)
        return 0;
    size_t i = from_udp.next++;
    *run = (struct kernel_run){from_udp.inputs[i].bytes, from_udp.inputs[i].len, from_udp.inputs[i].datagram_len,
                               from_udp.inputs[i].from, from_udp.inputs[i].tos};
    return 1;
}

/* The next answer of a pattern of refusals. */
static int refuse(int which, const int *errors)
{
    if (!(refusals[which] >> n_calls[which]++ % 8 & 1))
        return 0;
    n_refused++;
    return errors[(error_kinds >> 4 * which) % 8];
}

static int refuse_send(size_t n_segments)
{
    static const int errors[8] = {EIO, EINVAL, EAGAIN, ENOBUFS, EMSGSIZE, EPERM, ENETUNREACH, EIO};
    (void)n_segments;
    return refuse(0, errors);
}

static int refuse_write(const struct virtio_net_hdr *vnet)
{
    static const int errors[8] = {EINVAL, EIO, EAGAIN, ENOBUFS, EINVAL, EINVAL, EBADFD, EFAULT};
    (void)vnet;
    return refuse(1, errors);
}

/* Whether bytes are the beginning of a packet from the device, its checksum finished or not. */
static int quotes_tun(const uint8_t *quote, size_t quote_len)
{
    static uint8_t packet[MAX_FRAME_LEN];
    struct virtio_net_hdr vnet = {0};
    struct slow_cut cut;

    for (size_t i = 0; i < from_tun.n; i++) {
        size_t len = from_tun.inputs[i].len - kernel.vnet_len;
        memcpy(&vnet, from_tun.inputs[i].bytes, kernel.vnet_len);
        memcpy(packet, from_tun.inputs[i].bytes + kernel.vnet_len, len);
        if (quote_len > len)
            continue;
        if (!memcmp(packet, quote, quote_len))
            return 1;
        if (vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && slow_parse(&cut, &vnet, packet, len))
            slow_complete(packet, len, &vnet);
        if (!memcmp(packet, quote, quote_len))
            return 1;
    }
    return 0;
}

static int quotes_udp(const uint8_t *quote, size_t quote_len)
{
    for (size_t i = 0; i < from_udp.n; i++) {
        size_t len = from_udp.inputs[i].len, piece = from_udp.inputs[i].datagram_len;
        for (size_t at = 0; at + quote_len <= len; at += piece) {
            if (!memcmp(from_udp.inputs[i].bytes + at, quote, quote_len))
                return 1;
            if (piece == 0)
                break;
        }
    }
    return 0;
}

static void check_icmp_error(const uint8_t *packet, size_t len)
{
    const struct dp_config *config = &engine->config;
    size_t header_len = dp_packet_family(packet)->header_len;

    CHECK(dp_packet_check(packet, len) == DP_VERDICT_FORWARDED && len <= DP_ICMP_MAX_LEN && len > header_len + 8);
    CHECK(packet[is_v4(packet) ? 9 : 6] == (is_v4(packet) ? 1 : 58));
    CHECK(!memcmp(packet + (is_v4(packet) ? 12 : 8), is_v4(packet) ? config->subnet4 + 12 : config->subnet6,
                  dp_packet_family(packet)->address_len));
    if (is_v4(packet))
        CHECK(slow_sum(0, packet, 20) == 0xffff && slow_sum(0, packet + 20, len - 20) == 0xffff);
    else
        CHECK(packet_checksums_right(packet, len));
    const uint8_t *quote = packet + header_len + 8;
    CHECK((outbound ? quotes_tun : quotes_udp)(quote, len - header_len - 8));
}

static void written(const struct virtio_net_hdr *vnet, const uint8_t *packet, size_t len)
{
    static uint8_t segment[MAX_PACKET_LEN];
    struct slow_cut cut;

    if (vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        if (!outbound && units_take(packet, len, 0, 1))
            n_written++;
        else
            check_icmp_error(packet, len);
        return;
    }
    CHECK(!outbound && slow_parse(&cut, vnet, packet, len) && cut.n > 1);
    CHECK(!is_v4(packet) || slow_sum(0, packet, V4_HEADER_LEN) == 0xffff);
    for (size_t i = 0; i < cut.n; i++)
        CHECK(units_take(segment, slow_segment(&cut, vnet, packet, len, i, segment), 1, 1));
    n_written += cut.n;
}

static void sent(const struct sockaddr *to, int tos, const uint8_t *datagram, size_t len)
{
    struct dp_key destination;

    int is_first = outbound && units_take(datagram, len, 0, n_refused == 0 && kernel.path_mtu >= engine->config.mtu);
    if (!is_first) {
        int part = units_take_fragment(datagram, len);
        CHECK(outbound && part);
        is_first = part == 2;
        n_fragments++;
    }
    CHECK(tos == (engine->config.carry_tos ? dp_packet_tos(datagram) : 0));
    destination = dp_packet_destination(datagram);
    struct dp_key peer = oracle->routes->peers[dp_routes_lookup(oracle->routes, &destination)].key;
    if (dp_key_is_v4(&peer))
        CHECK(!memcmp(&((const struct sockaddr_in *)(const void *)to)->sin_addr, (uint8_t *)&peer + 12, 4));
    else
        CHECK(!memcmp(&((const struct sockaddr_in6 *)(const void *)to)->sin6_addr, &peer, 16));
    n_sent += (size_t)is_first;
}

/* ---- rounds */

/* Expect of a packet from the device what would leave if nothing were refused. */
static void expect_outbound(const uint8_t *frame, size_t frame_len)
{
    static uint8_t packet[MAX_PACKET_LEN], segment[MAX_PACKET_LEN];
    size_t len = min_size(frame_len - kernel.vnet_len, MAX_PACKET_LEN);
    struct dp_packet decided = {.data = packet, .len = (uint32_t)len, .wire_len = (uint32_t)len};
    struct virtio_net_hdr vnet = {0};
    struct slow_cut cut = {.n = 1};

    memcpy(&vnet, frame, kernel.vnet_len);
    memcpy(packet, frame + kernel.vnet_len, len);
    if (dp_packet_check(packet, len) == DP_VERDICT_FORWARDED && slow_parse(&cut, &vnet, packet, len)) {
        if (vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE)
            decided.wire_len = (uint32_t)min_size(len, cut.header_len + vnet.gso_size);
        dp_encapsulate(oracle->batch_worker, oracle->routes, &decided, loop->now_ns);
    }
    units_out += cut.n;
    if (decided.egress != DP_EGRESS_UNDERLAY)
        return;
    if (vnet.gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        if (vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
            slow_complete(packet, len, &vnet);
        units_expect(packet, len);
        return;
    }
    for (size_t i = 0; i < cut.n; i++)
        units_expect(segment, slow_segment(&cut, &vnet, packet, len, i, segment));
}

/* Expect of datagrams what goes to the device. */
static void expect_inbound(size_t i)
{
    static uint8_t packet[MAX_FRAME_LEN + 64];
    size_t len = from_udp.inputs[i].len, at = 0;
    size_t piece = from_udp.inputs[i].datagram_len ? from_udp.inputs[i].datagram_len : len;

    do {
        size_t left = min_size(piece, len - at);
        struct dp_packet decided = {.data = packet, .len = (uint32_t)left, .tos = from_udp.inputs[i].tos};
        memcpy(packet, from_udp.inputs[i].bytes + at, left);
        dp_decapsulate(oracle->batch_worker, oracle->routes, &decided, &from_udp.inputs[i].from, loop->now_ns);
        if (decided.verdict == DP_VERDICT_FORWARDED)
            units_expect(packet, left);
        units_in++;
        at += left;
    } while (at < len);
}

static uint64_t counted(enum dp_direction direction)
{
    uint64_t all = 0;

    for (int i = 0; i < DP_VERDICT_COUNT; i++)
        all += engine->batch_worker->counters.packets[direction][i];
    return all;
}

/* Let the loop take all that waits in the device, and see that all of it is accounted for. */
static void take_outbound(void)
{
    const uint64_t *packets = engine->batch_worker->counters.packets[DP_DIRECTION_ENCAP];

    outbound = 1;
    units_clear();
    for (size_t i = 0; i < from_tun.n; i++)
        expect_outbound(from_tun.inputs[i].bytes, from_tun.inputs[i].len);
    for (size_t i = 0; i < MAX_INPUTS && from_tun.next < from_tun.n; i++, loop->now_ns += 1000000)
        dp_loop_outbound(loop);
    CHECK(from_tun.next == from_tun.n && counted(DP_DIRECTION_ENCAP) == units_out);
    if (!n_fragments || !n_refused) /* one is counted by its first fragment, and another may have been refused */
        CHECK(packets[DP_VERDICT_FORWARDED] == n_sent);
    CHECK(n_refused || kernel.path_mtu < engine->config.mtu || units_left() == 0);
    from_tun.n = from_tun.next = 0;
}

/* The same for the socket. */
static void take_inbound(void)
{
    const uint64_t *packets = engine->batch_worker->counters.packets[DP_DIRECTION_DECAP];

    outbound = 0;
    units_clear();
    for (size_t i = 0; i < from_udp.n; i++)
        expect_inbound(i);
    for (size_t i = 0; i < MAX_INPUTS && from_udp.next < from_udp.n; i++, loop->now_ns += 1000000)
        dp_loop_inbound(loop);
    n_lost += units_left();
    CHECK(from_udp.next == from_udp.n && counted(DP_DIRECTION_DECAP) == units_in);
    CHECK(packets[DP_VERDICT_FORWARDED] == n_written && packets[DP_VERDICT_WRITE_FAILED] == n_lost);
    CHECK(n_refused || n_lost == 0);
    from_udp.n = from_udp.next = 0;
}

static struct dp_engine *new_engine(uint8_t settings, uint32_t mtu, uint32_t least_mtu, uint32_t icmp_rate)
{
    static const struct dp_prefix prefixes[] = {
        {.key = {[10] = 0xff, 0xff, 10, 5}, .length = 112, .peer = 1},
        {.key = {[10] = 0xff, 0xff, 10, 4}, .length = 112, .peer = 2},
        {.key = {[10] = 0xff, 0xff, 10, 5, 3}, .length = 120, .peer = 2},
        {.key = {0xfd}, .length = 8, .peer = 1},
        {.key = {0xfd, 1}, .length = 16, .peer = 2},
    };
    struct dp_peer peers[2] = {{.id = 1, .generation = 1, .port = 8285}, {.id = 2, .generation = 2, .port = 8286}};
    struct dp_config config = {
        .subnet4 = {[10] = 0xff, 0xff, 10, 5},
        .subnet6 = {0xfd},
        .subnet4_len = 112,
        .subnet6_len = 8,
        .carry_tos = (settings & CARRY_TOS) != 0,
        .check_sender = !(settings & ANY_SENDER),
        .mtu = mtu,
        .least_mtu = least_mtu,
        .icmp_rate = icmp_rate,
        .icmp_burst = 20,
    };
    struct dp_engine *made = dp_engine_new(&config);

    memcpy(peers[0].address, &addresses[0], 16);
    memcpy(peers[1].address, &addresses[1], 16);
    CHECK(made && dp_engine_set_routes(made, peers, 2, prefixes, sizeof prefixes / sizeof *prefixes) == 0);
    return made;
}

static void begin(void)
{
    static const uint16_t path_mtus[8] = {65507, 1472, 9000, 1400, 600, 300, 60, 0}, mtus[4] = {1472, 9000, 65507, 500};
    uint8_t settings = next8(), mtu = next8();
    uint8_t address[3][16] = {{[10] = 0xff, 0xff, 192, 168, 0, 1}, {[10] = 0xff, 0xff, 192, 168, 0, 2}, {[15] = 9}};

    if (settings & V6)
        for (uint8_t i = 0; i < 2; i++)
            memcpy(address[i], (uint8_t[16]){0x20, 1, 0x0d, 0xb8, [15] = i}, 16);
    for (size_t i = 0; i < 3; i++)
        addresses[i] = dp_key_load(address[i], 16);
    refusals[0] = next8();
    refusals[1] = next8();
    error_kinds = next8();
    memset(n_calls, 0, sizeof n_calls);
    n_refused = n_sent = n_fragments = n_written = n_lost = units_out = units_in = 0;
    kernel = (struct kernel){.vnet_len = settings & NO_VNET ? 0 : VNET_LEN,
                             .path_mtu = path_mtus[mtu % 8],
                             .ends_with = error_kinds & 0x80 ? EBADFD : 0,
                             .says_einval = settings & OLD,
                             .read = read_tun,
                             .receive = receive_udp,
                             .refuse_write = refuse_write,
                             .refuse_send = refuse_send,
                             .written = written,
                             .sent = sent};
    engine = new_engine(settings, mtus[mtu / 8 % 4], mtu & 0x20 ? 1280 : 0, 1000);
    oracle = new_engine(settings, mtus[mtu / 8 % 4], mtu & 0x20 ? 1280 : 0, 0);
    loop = kernel_loop_renew(loop, engine);
    loop->sender.v6 = (settings & V6) != 0;
    loop->most_reads = next8() % 8 ? MAX_READS : 3;
    for (int i = 0; i < 3; i++) {
        static const enum dp_feature features[3] = {DP_FEATURE_GSO, DP_FEATURE_GRO, DP_FEATURE_USO};
        if (settings & NO_GSO << i)
            dp_feature_fail(loop->features, features[i], ENOPROTOOPT);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    traffic_begin(bytes, len);
    begin();
    for (int round = 0; round < MAX_ROUNDS && traffic_left(); round++) {
        traffic_next_round();
        take_outbound();
        take_inbound();
    }
    dp_engine_free(engine);
    dp_engine_free(oracle);
    return 0;
}
