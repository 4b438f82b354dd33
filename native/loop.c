/* loop.c - the turns of a worker. */
#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>

enum { TUN, UDP, STOP, N_ENDS };

int dp_loop_write(struct dp_loop *loop, struct iovec *iovs, size_t n_iovs)
{
    size_t skip = loop->vnet_len ? 0 : 1;

    while (writev(loop->tun_fd, iovs + skip, (int)(n_iovs - skip)) < 0) {
        if (errno == EINTR)
            continue;
        if (errno == EBADFD)
            loop->error = -errno;
        return errno;
    }
    return 0;
}

int dp_loop_write_plain(struct dp_loop *loop, uint8_t *packet, size_t len)
{
    struct virtio_net_hdr vnet = {0};
    struct iovec iovs[] = {{&vnet, sizeof vnet}, {packet, len}};
    return dp_loop_write(loop, iovs, 2);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Wait until an end has something; @ready says which are known to. Returns 0 or -errno. */
static int wait(struct dp_loop *loop, struct pollfd *ends, int ready)
{
    uint64_t busy_poll_ns = (uint64_t)loop->worker->engine->config.busy_poll_us * 1000;
    uint64_t deadline = !ready && busy_poll_ns ? now_ns() + busy_poll_ns : 0;
    int n;

    do
        n = poll(ends, N_ENDS, 0);
    while (n == 0 && deadline && now_ns() < deadline);
    if (n == 0 && !ready) {
        dp_worker_set_idle(loop->worker);
        n = poll(ends, N_ENDS, -1);
    }
    return n < 0 && errno != EINTR ? -errno : 0;
}

/* Take turns until stopped, or until a feature fails. */
static int take_turns(struct dp_loop *loop)
{
    struct pollfd ends[N_ENDS] = {
        [TUN] = {.fd = loop->tun_fd, .events = POLLIN},
        [UDP] = {.fd = loop->udp_fd, .events = POLLIN},
    };
    int more_outbound = 0, more_inbound = 0;
    uint32_t changes = loop->features->changes;

    ends[STOP] = (struct pollfd){.fd = loop->stop_fd, .events = POLLIN};
    for (;;) {
        int error = wait(loop, ends, more_outbound || more_inbound);
        if (error || ends[STOP].revents)
            return error;
        loop->routes = dp_worker_begin_turn(loop->worker);
        loop->now_ns = now_ns();
        more_outbound = (more_outbound || ends[TUN].revents) && dp_loop_outbound(loop);
        more_inbound = (more_inbound || ends[UDP].revents) && dp_loop_inbound(loop);
        if (loop->error)
            return loop->error;
        if (loop->features->changes != changes)
            return 1;
    }
}

static void loop_free(struct dp_loop *loop)
{
    dp_sender_close(&loop->sender);
    dp_receiver_free(&loop->receiver);
    free(loop->arena);
    free(loop);
}

/* Get memory, sockets and features ready. Returns 0 or -errno. */
static int loop_init(struct dp_loop *loop)
{
    uint32_t batch = loop->worker->engine->config.batch;
    int vnet_len, error = dp_sender_open(&loop->sender, loop->udp_fd);

    if (error)
        return error;
    loop->most_reads = batch && batch < MAX_READS ? batch : MAX_READS;
    loop->arena = malloc(ARENA_LEN);
    if (!loop->arena || dp_receiver_init(&loop->receiver, batch))
        return -ENOMEM;
    vnet_len = dp_features_probe(loop->features, loop->tun_fd, loop->udp_fd);
    if (vnet_len < 0)
        return vnet_len;
    loop->vnet_len = (size_t)vnet_len;
    if (dp_feature_possible(loop->features, DP_FEATURE_PORTS))
        dp_feature_settle(loop->features, DP_FEATURE_PORTS, -dp_sender_spread(&loop->sender));
    return 0;
}

int dp_worker_run(struct dp_worker *worker, int tun_fd, int udp_fd, int stop_fd)
{
    struct dp_loop *loop = calloc(1, sizeof *loop);
    int result;

    if (!loop)
        return -ENOMEM;
    loop->worker = worker;
    loop->features = &worker->engine->features;
    loop->tun_fd = tun_fd;
    loop->udp_fd = udp_fd;
    loop->stop_fd = stop_fd;
    result = loop_init(loop);
    if (!result)
        result = take_turns(loop);
    dp_worker_set_idle(worker);
    loop_free(loop);
    return result;
}
