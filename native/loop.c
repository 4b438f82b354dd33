/* loop.c - the turns of a worker. */
#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

enum { TUN, UDP, STOP, N_ENDS };

#define BUSY_TURN_BYTES 8192      /* as many in a turn are much to do */
#define LONG_READ_BYTES 4096      /* if they came in reads of so many, on average */
#define BUSY_NS         100000000 /* a worker counts as busy for so long after that */
#define FLOOD_READS     4         /* as many in a turn, and short ones, are a flood of small packets */
#define FLOOD_PAUSE_NS  30000
#define TIMER_SLACK_NS  1000

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Wait until an end has something. Returns 0 or -errno. */
static int wait(struct dp_loop *loop, struct pollfd *ends)
{
    uint64_t busy_poll_ns = (uint64_t)loop->worker->engine->config.busy_poll_us * 1000;
    /* A real-time worker wakes at once as it is, and nobody else could run beside one that spins. */
    uint64_t deadline = busy_poll_ns && !loop->is_realtime ? now_ns() + busy_poll_ns : 0;
    int n = 0;

    dp_worker_set_idle(loop->worker);
    while (n == 0 && deadline && now_ns() < deadline) {
        n = poll(ends, N_ENDS, 0);
        if (n == 0)
            sched_yield(); /* what it waits for may have to be done on this very processor */
    }
    if (n == 0)
        n = poll(ends, N_ENDS, -1);
    return n < 0 && errno != EINTR ? -errno : 0;
}

/*
 * Have this thread run before those of other programs, or like them. What the kernel does for packets it does in
 * interrupts, before any program; a busy worker that waits for programs to end their time slices adds milliseconds to a
 * packet's way. The kernel leaves the others their share (sched(7), sched_rt_runtime_us). Returns 0 or the errno.
 */
static int set_realtime(struct dp_loop *loop, int on)
{
    struct sched_param priority = {.sched_priority = on ? 1 : 0};

    loop->is_realtime = on;
    return sched_setscheduler(0, on ? SCHED_RR | SCHED_RESET_ON_FORK : SCHED_OTHER, &priority) ? errno : 0;
}

/* Whether the last turn's bytes came as super-packets and long runs. */
static int reads_were_long(const struct dp_loop *loop)
{
    return loop->turn_bytes >= LONG_READ_BYTES * loop->turn_reads;
}

/*
 * Be real-time as long as there is much to do. With little to do, an ordinary thread is the faster one: the scheduler
 * wakes it where the packet is, not on another processor that sleeps. And with small packets it is the better one: one
 * that interrupts their sender for each of them has to be woken for each of them.
 */
static void adapt_priority(struct dp_loop *loop)
{
    if (!dp_feature_on(loop->features, DP_FEATURE_REALTIME))
        return;
    if (loop->turn_bytes >= BUSY_TURN_BYTES && reads_were_long(loop))
        loop->busy_until_ns = loop->now_ns + BUSY_NS;
    if (loop->is_realtime != (loop->now_ns < loop->busy_until_ns))
        set_realtime(loop, !loop->is_realtime);
}

/*
 * In a flood of small packets, rest for a moment before the next turn, as a network card does between two interrupts:
 * waking up and sending cost more than a packet, so more of them arrive when several share a turn.
 */
static void moderate(const struct dp_loop *loop)
{
    const struct timespec pause = {.tv_nsec = FLOOD_PAUSE_NS};

    if (!loop->is_realtime && loop->turn_reads >= FLOOD_READS && !reads_were_long(loop))
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

/* Take turns until stopped, or until a feature fails. */
static int take_turns(struct dp_loop *loop)
{
    struct pollfd ends[N_ENDS] = {
        [TUN] = {.fd = loop->tun_fd, .events = POLLIN},
        [UDP] = {.fd = loop->udp_fd, .events = POLLIN},
        [STOP] = {.fd = loop->stop_fd, .events = POLLIN},
    };
    uint32_t changes = loop->features->changes;

    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);
    for (;;) {
        int error = wait(loop, ends);
        if (error || ends[STOP].revents)
            return error;
        moderate(loop);
        loop->routes = dp_worker_begin_turn(loop->worker);
        loop->now_ns = now_ns();
        loop->turn_bytes = loop->turn_reads = 0;
        if (ends[TUN].revents)
            dp_loop_outbound(loop);
        if (ends[UDP].revents)
            dp_loop_inbound(loop);
        adapt_priority(loop);
        if (loop->error)
            return loop->error;
        if (loop->features->changes != changes)
            return 1;
    }
}

static void loop_free(struct dp_loop *loop)
{
    if (loop->is_realtime)
        set_realtime(loop, 0);
    dp_sender_close(&loop->sender);
    dp_receiver_free(&loop->receiver);
    free(loop->arena);
    free(loop);
}

/* Try the features; those that are not to be had stay off. Returns 0 or -errno. */
static int probe(struct dp_loop *loop)
{
    struct dp_features *features = loop->features;

    if (dp_feature_possible(features, DP_FEATURE_PORTS))
        dp_feature_settle(features, DP_FEATURE_PORTS, -dp_sender_spread(&loop->sender));
    if (dp_feature_possible(features, DP_FEATURE_REALTIME)) {
        dp_feature_settle(features, DP_FEATURE_REALTIME, set_realtime(loop, 1));
        set_realtime(loop, 0);
    }
    int vnet_len = dp_features_probe(features, loop->tun_fd, loop->udp_fd);
    loop->vnet_len = vnet_len > 0 ? (size_t)vnet_len : 0;
    return vnet_len < 0 ? vnet_len : 0;
}

/* Get memory, sockets and features ready. Returns 0 or -errno. */
static int loop_init(struct dp_loop *loop)
{
    uint32_t batch = loop->worker->engine->config.batch;
    int error = dp_sender_open(&loop->sender, loop->udp_fd);

    if (error)
        return error;
    loop->most_reads = batch && batch < MAX_READS ? batch : MAX_READS;
    loop->arena = malloc(ARENA_LEN);
    if (!loop->arena || dp_receiver_init(&loop->receiver, batch))
        return -ENOMEM;
    return probe(loop);
}

int dp_worker_run(struct dp_worker *worker, int tun_fd, int udp_fd, int stop_fd)
{
    struct dp_loop *loop = worker->loop;
    int result = 0;

    if (!loop) {
        loop = calloc(1, sizeof *loop);
        if (!loop)
            return -ENOMEM;
        loop->worker = worker;
        loop->features = &worker->engine->features;
        loop->tun_fd = tun_fd;
        loop->udp_fd = udp_fd;
        loop->stop_fd = stop_fd;
        result = loop_init(loop);
    }
    if (!result)
        result = take_turns(loop);
    dp_worker_set_idle(worker);
    worker->loop = result == 1 ? loop : NULL; /* it comes back in a moment, and what waits in its queues waits on */
    if (result != 1)
        loop_free(loop);
    return result;
}
