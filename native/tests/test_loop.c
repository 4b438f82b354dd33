/*
 * test_loop.c - both ways through a loop, with the kernel refusing what it may refuse: nothing is lost, and all is
 * counted.
 *
 *     host ==socketpair== loop.tun_fd   loop   loop.udp_fd ==127.0.0.1== peer
 *
 * The socket pair keeps packets apart as a TUN device does. writev and sendmmsg are replaced by ones that fail on
 * demand.
 */
#include "loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"
#include "packets.h"

static struct dp_engine *engine;
static struct dp_loop *loop;
static int host, peer, without_df;
static size_t path; /* bytes of an inner packet that the path carries; 0 for any */
static int refuse_super_writes, refuse_all_writes, refuse_segmentation, refuse_sends, send_one_at_a_time;

ssize_t writev(int fd, const struct iovec *iovs, int n_iovs)
{
    const struct virtio_net_hdr *vnet = iovs[0].iov_base;

    if (refuse_all_writes || (refuse_super_writes && vnet->gso_type != VIRTIO_NET_HDR_GSO_NONE)) {
        errno = refuse_all_writes ? refuse_all_writes : refuse_super_writes;
        return -1;
    }
    return syscall(SYS_writev, fd, iovs, n_iovs);
}

/* Bytes of the datagrams that the kernel is to cut a message into, or 0. */
static size_t segment_len(struct msghdr *header)
{
    uint16_t len = 0;

    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control; control = CMSG_NXTHDR(header, control))
        if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_SEGMENT)
            memcpy(&len, CMSG_DATA(control), sizeof len);
    return len;
}

/* Whether a message has datagrams that are larger than the path, and have DF. */
static int is_too_big(int fd, struct msghdr *header)
{
    size_t len = segment_len(header);

    for (size_t i = 0; i < header->msg_iovlen && !segment_len(header); i++)
        len += header->msg_iov[i].iov_len;
    return path && len > path && !(fd == loop->udp_fd && without_df);
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t value_len)
{
    int mode = IP_PMTUDISC_DO;

    if (level == IPPROTO_IP && option == IP_MTU_DISCOVER && loop && fd == loop->udp_fd) {
        memcpy(&mode, value, sizeof mode);
        without_df = mode == IP_PMTUDISC_DONT;
    }
    return (int)syscall(SYS_setsockopt, fd, level, option, value, value_len);
}

int getsockopt(int fd, int level, int option, void *value, socklen_t *value_len)
{
    if (path && level == IPPROTO_IP && option == IP_MTU) {
        int outer_mtu = (int)path + 28;
        memcpy(value, &outer_mtu, sizeof outer_mtu);
        return 0;
    }
    return (int)syscall(SYS_getsockopt, fd, level, option, value, value_len);
}

int sendmmsg(int fd, struct mmsghdr *vector, unsigned int n, int flags)
{
    if (refuse_sends || (refuse_segmentation && segment_len(&vector->msg_hdr))) {
        errno = refuse_sends ? refuse_sends : refuse_segmentation;
        return -1;
    }
    for (unsigned int i = 0; i < n; i++) {
        if (!is_too_big(fd, &vector[i].msg_hdr))
            continue;
        errno = EMSGSIZE;
        if (i == 0)
            return -1;
        n = i;
    }
    return (int)syscall(SYS_sendmmsg, fd, vector, send_one_at_a_time ? 1 : n, flags);
}

static int bound_socket(struct sockaddr_in *address)
{
    socklen_t len = sizeof *address;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), buffer = 4 << 20;

    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)address, len) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &len) == 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    return fd;
}

static void begin(void)
{
    static const struct dp_config config = {.mtu = 1472,
                                            .check_sender = 1,
                                            .subnet4 = {[10] = 0xff, 0xff, 10, 5},
                                            .subnet4_len = 112,
                                            .icmp_rate = 1,
                                            .icmp_burst = 1};
    struct dp_peer peers = {.address = {[10] = 0xff, 0xff, 127, 0, 0, 1}, .id = 1, .generation = 1};
    struct dp_prefix prefix = {.key = {[10] = 0xff, 0xff, 10, 5}, .length = 112, .peer = 1};
    struct sockaddr_in address;
    int pair[2], buffer = 4 << 20;

    path = 0;
    refuse_super_writes = refuse_all_writes = refuse_segmentation = refuse_sends = send_one_at_a_time = 0;
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    host = pair[0];
    peer = bound_socket(&address);
    peers.port = ntohs(address.sin_port);
    engine = dp_engine_new(&config);
    CHECK(engine && dp_engine_set_routes(engine, &peers, 1, &prefix, 1) == 0);
    loop = calloc(1, sizeof *loop);
    CHECK(loop);
    loop->worker = engine->batch_worker;
    loop->features = &engine->features;
    loop->routes = engine->routes;
    loop->tun_fd = pair[1];
    loop->udp_fd = bound_socket(&address);
    loop->vnet_len = VNET_LEN;
    loop->most_reads = MAX_READS;
    loop->arena = malloc(ARENA_LEN);
    CHECK(loop->arena && !dp_receiver_init(&loop->receiver, 0) && !dp_sender_open(&loop->sender, loop->udp_fd));
    for (unsigned int feature = 0; feature < DP_FEATURE_COUNT; feature++)
        dp_feature_settle(loop->features, feature, 0);
    CHECK(connect(peer, (struct sockaddr *)&address, sizeof address) == 0);
}

static void end(void)
{
    close(host);
    close(peer);
    close(loop->tun_fd);
    close(loop->udp_fd);
    dp_sender_close(&loop->sender);
    dp_receiver_free(&loop->receiver);
    free(loop->arena);
    free(loop);
    dp_engine_free(engine);
}

static uint64_t counted(enum dp_direction direction, enum dp_verdict verdict)
{
    return engine->batch_worker->counters.packets[direction][verdict];
}

static enum dp_feature_state state(enum dp_feature feature)
{
    return engine->features.state[feature];
}

#define N_SEGMENTS 30

static const struct recipe bulk = {.tcp = 1, .flags = TCP_ACK, .port = 7, .payload_len = N_SEGMENTS * 1000};

/* Let the host send a super-packet of N_SEGMENTS packets. */
static void host_sends_super_packet(void)
{
    static uint8_t bytes[VNET_LEN + MAX_PACKET_LEN];
    struct virtio_net_hdr vnet = vnet_for(&bulk, 1000);
    size_t len = make_packet(bytes + VNET_LEN, &bulk);

    memcpy(bytes, &vnet, sizeof vnet);
    CHECK(write(host, bytes, VNET_LEN + len) == (ssize_t)(VNET_LEN + len));
}

/* The packet that segment @i is when it leaves. */
static size_t expected_segment(uint8_t *packet, uint32_t i)
{
    struct recipe recipe = bulk;

    recipe.payload_len = 1000;
    recipe.sequence += i * 1000;
    recipe.id = (uint16_t)(recipe.id + i);
    size_t len = make_packet(packet, &recipe);
    dp_packet_change_ttl(packet, -1);
    return len;
}

static void check_peer_got_all(void)
{
    uint8_t got[2000], expected[2000];

    for (uint32_t i = 0; i < N_SEGMENTS; i++) {
        size_t len = expected_segment(expected, i);
        CHECK(recv(peer, got, sizeof got, 0) == (ssize_t)len && !memcmp(got, expected, len));
    }
    CHECK(recv(peer, got, sizeof got, 0) < 0);
    CHECK(counted(DP_DIRECTION_ENCAP, DP_VERDICT_FORWARDED) == N_SEGMENTS);
}

static void test_a_super_packet_leaves_as_datagrams(void)
{
    begin();
    host_sends_super_packet();
    dp_loop_outbound(loop);
    check_peer_got_all();
    CHECK(state(DP_FEATURE_GSO) == DP_FEATURE_STATE_ON);
    end();
}

static void test_a_refused_segmentation_goes_again_plainly(void)
{
    static const int errors[] = {EIO, EINVAL};

    for (size_t i = 0; i < 2; i++) {
        begin();
        refuse_segmentation = errors[i];
        host_sends_super_packet();
        dp_loop_outbound(loop);
        check_peer_got_all();
        CHECK(state(DP_FEATURE_GSO) == DP_FEATURE_STATE_FAILED);
        CHECK(engine->features.error[DP_FEATURE_GSO] == errors[i] && engine->features.changes == 1);
        end();
    }
}

static void test_a_send_that_takes_only_a_part_is_continued(void)
{
    begin();
    dp_feature_fail(loop->features, DP_FEATURE_GSO, EIO);
    send_one_at_a_time = 1;
    host_sends_super_packet();
    dp_loop_outbound(loop);
    check_peer_got_all();
    end();
}

static void test_what_the_underlay_refuses_is_counted(void)
{
    static const int errors[] = {ENETUNREACH, EAGAIN, EMSGSIZE}; /* lo carries more, so this is no narrow path */

    for (size_t i = 0; i < 3; i++) {
        begin();
        refuse_sends = errors[i];
        host_sends_super_packet();
        dp_loop_outbound(loop);
        uint64_t n = counted(DP_DIRECTION_ENCAP, DP_VERDICT_SEND_FAILED);
        CHECK(n == N_SEGMENTS && counted(DP_DIRECTION_ENCAP, DP_VERDICT_FORWARDED) == 0);
        CHECK(state(DP_FEATURE_GSO) == DP_FEATURE_STATE_ON);
        end();
    }
}

static uint64_t events(enum dp_event event)
{
    return engine->batch_worker->counters.events[event];
}

/* The peer gets the segments in fragments of at most @mtu bytes, and nothing else. */
static void check_peer_got_fragments(uint32_t mtu)
{
    uint8_t got[2000], expected[2000];
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < N_SEGMENTS; i++) {
        size_t len = expected_segment(expected, i), at = V4_HEADER_LEN;
        while (at < len) {
            ssize_t fragment_len = recv(peer, got, sizeof got, 0);
            CHECK(fragment_len > V4_HEADER_LEN && fragment_len <= (ssize_t)mtu);
            CHECK(dp_packet_check(got, (size_t)fragment_len) == DP_VERDICT_FORWARDED);
            size_t data_len = (size_t)fragment_len - V4_HEADER_LEN;
            CHECK(get_be16(got + 4) == get_be16(expected + 4) && data_len <= len - at);
            CHECK(get_be16(got + 6) == ((at - V4_HEADER_LEN) / 8 | (at + data_len < len ? V4_MORE_FRAGMENTS : 0)));
            CHECK(dp_sum(got, V4_HEADER_LEN) == 0xffff && !memcmp(got + V4_HEADER_LEN, expected + at, data_len));
            at += data_len;
        }
        bytes += len;
    }
    CHECK(recv(peer, got, sizeof got, 0) < 0);
    CHECK(counted(DP_DIRECTION_ENCAP, DP_VERDICT_FORWARDED) == N_SEGMENTS);
    CHECK(engine->batch_worker->counters.bytes[DP_DIRECTION_ENCAP][DP_VERDICT_FORWARDED] == bytes);
    CHECK(events(DP_EVENT_FRAGMENTED) == N_SEGMENTS);
}

static void test_segments_without_df_leave_in_fragments(void)
{
    /* What is known of the path, and what it turns out to carry; 0 for all. */
    static const uint32_t paths[][2] = {{0, 600}, {900, 600}, {600, 0}, {68, 0}};
    size_t n = sizeof paths / sizeof *paths;

#ifdef FOREIGN_KERNEL
    n = 2; /* the others are segmented */
#endif
    for (size_t i = 0; i < n; i++) {
        begin();
        dp_engine_set_path_mtu(engine, 1, paths[i][0], 1);
        path = paths[i][1];
        host_sends_super_packet();
        dp_loop_outbound(loop);
        check_peer_got_fragments(path ? (uint32_t)path : paths[i][0]);
        CHECK(events(DP_EVENT_MTU_LEARNED) == (uint64_t)(paths[i][0] > 0) + (path > 0) &&
              events(DP_EVENT_ICMP_SENT) == 0);
        CHECK(state(DP_FEATURE_GSO) == DP_FEATURE_STATE_ON);
        end();
    }
}

static void test_a_packet_that_is_refused_while_it_is_cut(void)
{
    begin();
    dp_engine_set_path_mtu(engine, 1, 68, 1);
    path = 27; /* no room for a fragment; and there are more than the queue holds */
    host_sends_super_packet();
    dp_loop_outbound(loop);
    CHECK(counted(DP_DIRECTION_ENCAP, DP_VERDICT_TOO_BIG) == N_SEGMENTS);
    CHECK(counted(DP_DIRECTION_ENCAP, DP_VERDICT_FORWARDED) == 0 && events(DP_EVENT_ICMP_SENT) == 1);
    end();
}

static void test_a_path_that_carries_less_than_it_has_to(void)
{
    begin();
    engine->config.least_mtu = 1280;
    path = 600;
    host_sends_super_packet();
    dp_loop_outbound(loop);
    check_peer_got_all();
    CHECK(events(DP_EVENT_SENT_WITHOUT_DF) == N_SEGMENTS && events(DP_EVENT_FRAGMENTED) == 0);
    host_sends_super_packet(); /* now that it is known */
    dp_loop_outbound(loop);
    CHECK(events(DP_EVENT_SENT_WITHOUT_DF) == 2 * N_SEGMENTS);
    CHECK(counted(DP_DIRECTION_ENCAP, DP_VERDICT_FORWARDED) == 2 * N_SEGMENTS && !without_df);
    end();
}

static void peer_sends_segments(void)
{
    uint8_t packet[2000];
    struct recipe recipe = bulk;

    recipe.payload_len = 1000;
    for (uint32_t i = 0; i < N_SEGMENTS; i++) {
        size_t len = make_packet(packet, &recipe);
        CHECK(send(peer, packet, len, 0) == (ssize_t)len);
        recipe.sequence += 1000;
        recipe.id++;
    }
}

/* All of the datagrams that wait in the socket. */
static void take_all(void)
{
    for (uint32_t turn = 0; turn < N_SEGMENTS; turn++)
        dp_loop_inbound(loop);
}

static void test_datagrams_arrive_as_super_packets(void)
{
    static uint8_t got[VNET_LEN + MAX_PACKET_LEN];
    struct virtio_net_hdr vnet;
    size_t payload = 0;

    begin();
    loop->receiver.n_wanted = MAX_RUNS;
    peer_sends_segments();
    dp_loop_inbound(loop);
    for (ssize_t len; (len = read(host, got, sizeof got)) > 0; payload += (size_t)len - VNET_LEN - 40) {
        memcpy(&vnet, got, sizeof vnet);
        CHECK(vnet.gso_type == VIRTIO_NET_HDR_GSO_TCPV4 && vnet.gso_size == 1000 && vnet.hdr_len == 40);
        CHECK(dp_packet_check(got + VNET_LEN, (size_t)len - VNET_LEN) == DP_VERDICT_FORWARDED);
    }
    CHECK(payload == bulk.payload_len);
    CHECK(counted(DP_DIRECTION_DECAP, DP_VERDICT_FORWARDED) == N_SEGMENTS);
    end();
}

static void test_a_refused_super_packet_is_taken_apart(void)
{
    uint8_t got[2000], expected[2000];

    begin();
    refuse_super_writes = EINVAL;
    peer_sends_segments();
    take_all();
    for (uint32_t i = 0; i < N_SEGMENTS; i++) {
        size_t len = expected_segment(expected, i);
        CHECK(read(host, got, sizeof got) == (ssize_t)(VNET_LEN + len));
        CHECK(!memcmp(got + VNET_LEN, expected, len));
    }
    CHECK(state(DP_FEATURE_GRO) == DP_FEATURE_STATE_FAILED && engine->features.changes == 1);
    CHECK(counted(DP_DIRECTION_DECAP, DP_VERDICT_FORWARDED) == N_SEGMENTS);
    end();
}

static void test_what_the_device_refuses_is_counted(void)
{
    begin();
    refuse_all_writes = EIO; /* the device is down */
    peer_sends_segments();
    take_all();
    CHECK(counted(DP_DIRECTION_DECAP, DP_VERDICT_WRITE_FAILED) == N_SEGMENTS && loop->error == 0);
    refuse_all_writes = EBADFD; /* the device is gone */
    peer_sends_segments();
    take_all();
    CHECK(loop->error == -EBADFD);
    end();
}

static void test_an_empty_datagram_is_counted(void)
{
    begin();
    CHECK(send(peer, "", 0, 0) == 0);
    dp_loop_inbound(loop);
    CHECK(counted(DP_DIRECTION_DECAP, DP_VERDICT_TRUNCATED) == 1);
    end();
}

int main(void)
{
#ifndef FOREIGN_KERNEL /* qemu-user hands the length in UDP_SEGMENT on in the byte order that it finds it in */
    RUN(test_a_super_packet_leaves_as_datagrams);
#else
    (void)test_a_super_packet_leaves_as_datagrams;
#endif
    RUN(test_a_refused_segmentation_goes_again_plainly);
    RUN(test_a_send_that_takes_only_a_part_is_continued);
    RUN(test_what_the_underlay_refuses_is_counted);
    RUN(test_segments_without_df_leave_in_fragments);
    RUN(test_a_packet_that_is_refused_while_it_is_cut);
    RUN(test_a_path_that_carries_less_than_it_has_to);
    RUN(test_datagrams_arrive_as_super_packets);
    RUN(test_a_refused_super_packet_is_taken_apart);
    RUN(test_what_the_device_refuses_is_counted);
    RUN(test_an_empty_datagram_is_counted);
    return 0;
}
