/*
 * sweep.c - the longest super-packets on a real TUN device, for sanitizers to look on.
 *
 *     packet socket --> TUN queue --> loop --> UDP socket ==127.0.0.1== peer
 *                       TUN queue <-- loop <-- UDP socket ==127.0.0.1== peer
 *
 *   sweep turns STEP    each size from 65,400 to 65,535 (every STEPth), 1 to 8 of them in a turn, TCP and UDP, IPv4 and
 *                       IPv6, both ways; every datagram is checked
 *   sweep workers STEP  the same sizes through two running workers, while routes and path MTUs change and counters are
 *                       read
 *
 * In a network namespace of its own. Ends with 77, and says why, where it may not have one or a TUN device.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "check.h"
#include "loop.h"
#include "packets.h"

#define SKIPPED    77
#define SHORTEST   65400
#define MOST       8
#define GSO_SIZE   1400
#define N_WORKERS  2
#define DEVICE     "sweep0"
#define RUN_BYTES  65487
#define WAIT_MS    20000
#define BUFFER_LEN (64 << 20)

static const struct dp_config config = {
    .subnet4 = {[10] = 0xff, 0xff, 10, 5},
    .subnet6 = {0xfd},
    .subnet4_len = 112,
    .subnet6_len = 8,
    .mtu = 1472,
    .check_sender = 1,
};
static struct dp_engine *engine;
static struct sockaddr_in peer_address, node_addresses[N_WORKERS];
static int tun_fds[N_WORKERS], udp_fds[N_WORKERS], packet_fd, peer_fd;
static int first_kind; /* bit 0: IPv6, bit 1: TCP; UDP is left out where the kernel has no super-packets of it */

static void skip(const char *what)
{
    printf("skipped: %s: %s\n", what, strerror(errno));
    exit(SKIPPED);
}

/* ---- the namespace */

static void change_link(const char *name, unsigned long request, int value)
{
    struct ifreq link = {0};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    strcpy(link.ifr_name, name);
    if (request == SIOCSIFFLAGS)
        link.ifr_flags = (short)value;
    else
        link.ifr_mtu = value;
    CHECK(fd >= 0 && ioctl(fd, request, &link) == 0);
    close(fd);
}

static int open_queue(void)
{
    struct ifreq queue = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    strcpy(queue.ifr_name, DEVICE);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &queue))
        skip("no TUN device");
    return fd;
}

static int bound_socket(struct sockaddr_in *address)
{
    socklen_t len = sizeof *address;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), bytes = BUFFER_LEN;

    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)address, len) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &len) == 0);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    return fd;
}

static int packet_socket(void)
{
    struct sockaddr_ll device = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(DEVICE)};
    int fd = socket(AF_PACKET, SOCK_RAW, 0), on = 1, bytes = BUFFER_LEN;

    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&device, sizeof device) == 0);
    CHECK(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) == 0);
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes))
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return fd;
}

static void set_routes(uint32_t generation)
{
    static const struct dp_prefix prefixes[] = {
        {.key = {[10] = 0xff, 0xff, 10, 5}, .length = 112, .peer = 1},
        {.key = {0xfd}, .length = 8, .peer = 1},
    };
    struct dp_peer peer = {.address = {[10] = 0xff, 0xff, 127, 0, 0, 1}, .id = 1, .generation = generation};

    peer.port = ntohs(peer_address.sin_port);
    CHECK(dp_engine_set_routes(engine, &peer, 1, prefixes, 2) == 0);
}

static void set_up(void)
{
    int quiet;

    if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET))
        skip("no network namespace");
    quiet = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY);
    if (quiet >= 0 && write(quiet, "1", 1) == 1) /* or else its solicitations come between */
        close(quiet);
    change_link("lo", SIOCSIFFLAGS, IFF_UP);
    for (int i = 0; i < N_WORKERS; i++) {
        tun_fds[i] = open_queue();
        udp_fds[i] = bound_socket(&node_addresses[i]);
    }
    if (ioctl(tun_fds[0], TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6))
        first_kind = 2;
    change_link(DEVICE, SIOCSIFMTU, (int)config.mtu);
    change_link(DEVICE, SIOCSIFFLAGS, IFF_UP);
    packet_fd = packet_socket();
    peer_fd = bound_socket(&peer_address);
    engine = dp_engine_new(&config);
    CHECK(engine);
    set_routes(1);
}

/* ---- packets */

static size_t headers_len(int v6, int tcp)
{
    return (size_t)((v6 ? V6_HEADER_LEN : V4_HEADER_LEN) + (tcp ? TCP_HEADER_LEN : UDP_HEADER_LEN));
}

/* Have the device hand out a super-packet of @len bytes, as the kernel makes it; returns its segments, 0 if it is full.
 */
static size_t give(int v6, int tcp, size_t len, uint16_t port)
{
    static uint8_t frame[VNET_LEN + MAX_PACKET_LEN];
    size_t headers = headers_len(v6, tcp);
    struct recipe recipe = {
        .v6 = v6, .tcp = tcp, .port = port, .flags = TCP_ACK, .sequence = (uint32_t)len, .payload_len = len - headers};
    struct virtio_net_hdr vnet = vnet_for(&recipe, GSO_SIZE);
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(DEVICE)};

    to.sll_protocol = htons(v6 ? 0x86dd : 0x0800);
    CHECK(make_packet(frame + VNET_LEN, &recipe) == len);
    vnet.hdr_len = (uint16_t)headers;
    memcpy(frame, &vnet, sizeof vnet);
    ssize_t sent = sendto(packet_fd, frame, VNET_LEN + len, 0, (struct sockaddr *)&to, sizeof to);
    CHECK(sent == (ssize_t)(VNET_LEN + len) || errno == ENOBUFS);
    return sent < 0 ? 0 : ROUND_UP(recipe.payload_len, (size_t)GSO_SIZE) / GSO_SIZE;
}

static void wait_for(int fd)
{
    struct pollfd end = {.fd = fd, .events = POLLIN};
    CHECK(poll(&end, 1, WAIT_MS) == 1);
}

/* Take a datagram at the peer and check the packet in it; returns its bytes, 0 when there is none. */
static size_t take(void)
{
    static uint8_t packet[MAX_PACKET_LEN];
    ssize_t len = recv(peer_fd, packet, sizeof packet, MSG_DONTWAIT);

    if (len < 0)
        return 0;
    CHECK(dp_packet_check(packet, (size_t)len) == DP_VERDICT_FORWARDED && dp_packet_ttl(packet) == 63);
    CHECK(packet_checksums_right(packet, (size_t)len));
    return (size_t)len;
}

/* Send the node a run of packets of one flow, as many as one message holds. Returns their number. */
static uint32_t send_run(int v6, int tcp, uint16_t port, const struct sockaddr_in *to)
{
    static uint8_t run[MAX_PACKET_LEN];
    uint16_t segment_len = (uint16_t)(headers_len(v6, tcp) + GSO_SIZE);
    struct recipe recipe = {.v6 = v6, .tcp = tcp, .port = port, .flags = TCP_ACK, .payload_len = GSO_SIZE};
    struct iovec iov = {.iov_base = run};
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof segment_len)];
    struct msghdr message = {.msg_name = (void *)(uintptr_t)to,
                             .msg_namelen = sizeof *to,
                             .msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *segment = CMSG_FIRSTHDR(&message);
    uint32_t n = 0;

    for (; iov.iov_len + segment_len <= RUN_BYTES; n++, recipe.sequence += GSO_SIZE, recipe.id++)
        iov.iov_len += make_packet(run + iov.iov_len, &recipe);
    segment->cmsg_level = IPPROTO_UDP;
    segment->cmsg_type = UDP_SEGMENT;
    segment->cmsg_len = CMSG_LEN(sizeof segment_len);
    memcpy(CMSG_DATA(segment), &segment_len, sizeof segment_len);
    CHECK(sendmsg(peer_fd, &message, 0) == (ssize_t)iov.iov_len);
    return n;
}

/* ---- turns, one by one */

static uint64_t counted(const struct dp_worker *worker, enum dp_direction direction, enum dp_verdict verdict)
{
    struct dp_counters counters;

    dp_worker_counters(worker, &counters);
    return counters.packets[direction][verdict];
}

static struct dp_loop *new_loop(void)
{
    struct dp_loop *loop = calloc(1, sizeof *loop);

    CHECK(loop);
    loop->worker = engine->batch_worker;
    loop->features = &engine->features;
    loop->routes = engine->routes;
    loop->tun_fd = tun_fds[0];
    loop->udp_fd = udp_fds[0];
    loop->most_reads = MAX_READS;
    loop->arena = malloc(ARENA_LEN);
    CHECK(loop->arena && !dp_receiver_init(&loop->receiver, 0) && !dp_sender_open(&loop->sender, loop->udp_fd));
    CHECK(dp_features_probe(loop->features, loop->tun_fd, loop->udp_fd) == VNET_LEN);
    loop->vnet_len = VNET_LEN;
    return loop;
}

static void turns_outbound(struct dp_loop *loop, int v6, int tcp, size_t len, size_t n)
{
    size_t expected = 0, bytes = 0;

    for (size_t i = 0; i < n; i++)
        expected += give(v6, tcp, len, 7);
    for (size_t got = 0, piece; got < expected; got++, bytes += piece) {
        while ((piece = take()) == 0) {
            dp_loop_outbound(loop);
            wait_for(peer_fd);
        }
    }
    CHECK(bytes == n * (len - headers_len(v6, tcp)) + expected * headers_len(v6, tcp) && !take());
}

static void turns_inbound(struct dp_loop *loop, int v6, int tcp, size_t n)
{
    uint64_t expected = counted(loop->worker, DP_DIRECTION_DECAP, DP_VERDICT_FORWARDED);

    for (size_t i = 0; i < n; i++)
        expected += send_run(v6, tcp, (uint16_t)(7 + i), &node_addresses[0]);
    while (counted(loop->worker, DP_DIRECTION_DECAP, DP_VERDICT_FORWARDED) < expected) {
        wait_for(loop->udp_fd);
        dp_loop_inbound(loop);
    }
    CHECK(counted(loop->worker, DP_DIRECTION_DECAP, DP_VERDICT_FORWARDED) == expected);
}

static void sweep_turns(size_t step)
{
    struct dp_loop *loop = new_loop();
    size_t n_supers = 0;

    close(tun_fds[1]); /* or the kernel spreads packets over both queues */
    for (int kind = first_kind; kind < 4; kind++)
        for (size_t n = 1; n <= MOST; n++) {
            for (size_t len = SHORTEST + n % step; len <= MAX_PACKET_LEN; len += step, n_supers += n)
                turns_outbound(loop, kind & 1, kind >> 1, len, n);
            turns_inbound(loop, kind & 1, kind >> 1, n);
        }
    for (unsigned int feature = DP_FEATURE_TSO; feature <= DP_FEATURE_USO; feature++)
        CHECK(dp_feature_on(loop->features, feature) || loop->features->state[feature] == DP_FEATURE_STATE_REFUSED);
    printf("ok turns: %zu super-packets\n", n_supers);
    dp_sender_close(&loop->sender);
    dp_receiver_free(&loop->receiver);
    free(loop->arena);
    free(loop);
}

/* ---- workers, with control at work beside them */

static int stop_fd;
static _Atomic int over;

static void *run_worker(void *context)
{
    size_t i = (size_t)(uintptr_t)context;
    struct dp_worker *worker = dp_engine_worker(engine, i + 1);
    int status;

    while ((status = dp_worker_run(worker, tun_fds[i], udp_fds[i], stop_fd)) == 1)
        ;
    CHECK(status == 0);
    return NULL;
}

static void *control(void *context)
{
    struct dp_peer_counters traffic;
    struct dp_counters counters;
    int error;

    (void)context;
    for (uint32_t i = 2; !over; i++) {
        set_routes(i / 16 + 1);
        dp_engine_set_path_mtu(engine, 1, i % 3 ? 0 : config.mtu, 1);
        for (size_t worker = 0; worker <= N_WORKERS; worker++) {
            dp_worker_counters(dp_engine_worker(engine, worker), &counters);
            dp_worker_peer_counters(dp_engine_worker(engine, worker), 1, &traffic);
        }
        for (int feature = 0; feature < DP_FEATURE_COUNT; feature++)
            dp_engine_feature(engine, feature, &error);
    }
    return NULL;
}

static void *take_datagrams(void *context)
{
    size_t *taken = context;

    while (!over)
        if (take())
            ++*taken;
        else
            sched_yield();
    return NULL;
}

static uint64_t all_forwarded(enum dp_direction direction)
{
    uint64_t all = 0;

    for (size_t i = 1; i <= N_WORKERS; i++)
        all += counted(dp_engine_worker(engine, i), direction, DP_VERDICT_FORWARDED);
    return all;
}

static void sweep_workers(size_t step)
{
    pthread_t threads[N_WORKERS + 2];
    size_t taken = 0, given = 0, arrived = 0;
    uint64_t one = 1;

    stop_fd = eventfd(0, EFD_NONBLOCK);
    for (size_t i = 0; i < N_WORKERS; i++)
        CHECK(dp_engine_add_worker(engine) != NULL);
    for (size_t i = 0; i < N_WORKERS; i++)
        CHECK(pthread_create(&threads[i], NULL, run_worker, (void *)(uintptr_t)i) == 0);
    CHECK(pthread_create(&threads[N_WORKERS], NULL, control, NULL) == 0);
    CHECK(pthread_create(&threads[N_WORKERS + 1], NULL, take_datagrams, &taken) == 0);
    for (size_t len = SHORTEST; len <= MAX_PACKET_LEN; len += step)
        for (int kind = first_kind; kind < 4; kind++)
            for (uint16_t i = 0; i < MOST; i++) {
                while (!give(kind & 1, kind >> 1, len, i))
                    sched_yield();
                given++;
                arrived += send_run(kind & 1, kind >> 1, i, &node_addresses[i % N_WORKERS]);
                while (all_forwarded(DP_DIRECTION_ENCAP) < given || all_forwarded(DP_DIRECTION_DECAP) + 1000 < arrived)
                    sched_yield(); /* what is full loses packets, as it should, but not all of them */
            }
    over = 1;
    CHECK(write(stop_fd, &one, sizeof one) == sizeof one);
    for (size_t i = 0; i < N_WORKERS + 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(taken > 0 && all_forwarded(DP_DIRECTION_DECAP) > 0);
    printf("ok workers: %zu super-packets, %zu datagrams checked\n", given, taken);
}

int main(int argc, char **argv)
{
    size_t step = argc == 3 ? (size_t)atoi(argv[2]) : 0;

    if (step == 0) {
        fprintf(stderr, "usage: sweep turns|workers STEP\n");
        return 2;
    }
    set_up();
    strcmp(argv[1], "turns") ? sweep_workers(step) : sweep_turns(step);
    dp_engine_free(engine);
    return 0;
}
