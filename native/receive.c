/* receive.c - recvmmsg, and what the control messages say. */
#include "receive.h"

#include <errno.h>
#include <stdlib.h>

#include "vnet.h"

int dp_receiver_init(struct dp_receiver *receiver, uint32_t most)
{
    receiver->buffers = malloc((size_t)MAX_RUNS * RUN_STRIDE);
    if (!receiver->buffers)
        return -ENOMEM;
    receiver->most = most && most < MAX_RUNS ? most : MAX_RUNS;
    receiver->n_wanted = (uint32_t)min_size(receiver->most, MAX_LONG_RUNS);
    return 0;
}

void dp_receiver_free(struct dp_receiver *receiver)
{
    free(receiver->buffers);
}

static void prepare(struct dp_receiver *receiver, size_t i)
{
    receiver->iovs[i] = (struct iovec){receiver->buffers + i * RUN_STRIDE, RUN_LEN};
    receiver->vector[i].msg_hdr = (struct msghdr){
        .msg_name = &receiver->from[i],
        .msg_namelen = sizeof receiver->from[i],
        .msg_iov = &receiver->iovs[i],
        .msg_iovlen = 1,
        .msg_control = receiver->control[i],
        .msg_controllen = sizeof receiver->control[i],
    };
}

int dp_receiver_read(struct dp_receiver *receiver, int fd)
{
    size_t bytes = 0;
    int n_runs;

    for (uint32_t i = 0; i < receiver->n_wanted; i++)
        prepare(receiver, i);
    do
        n_runs = recvmmsg(fd, receiver->vector, receiver->n_wanted, MSG_DONTWAIT, NULL);
    while (n_runs < 0 && errno == EINTR);
    if (n_runs < 0)
        return errno == EAGAIN ? 0 : -errno;
    for (int i = 0; i < n_runs; i++)
        bytes += receiver->vector[i].msg_len;
    /* Short runs are taken many at a time, long ones few: a turn should not take long, and its bytes stay cached. */
    if (bytes > (size_t)n_runs * RUN_LEN / 8)
        receiver->n_wanted = (uint32_t)min_size(receiver->most, MAX_LONG_RUNS);
    else if (n_runs == (int)receiver->n_wanted)
        receiver->n_wanted = (uint32_t)min_size(receiver->most, 2 * (size_t)receiver->n_wanted);
    return n_runs;
}

static struct dp_key sender_key(const struct sockaddr_in6 *from)
{
    if (from->sin6_family == AF_INET6)
        return dp_key_load((const uint8_t *)&from->sin6_addr, 16);
    return dp_key_load((const uint8_t *)&((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
}

static void read_control(struct dp_run *run, struct msghdr *header)
{
    int value;

    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control; control = CMSG_NXTHDR(header, control)) {
        if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_TOS && control->cmsg_len >= CMSG_LEN(1))
            run->tos = *CMSG_DATA(control); /* one byte */
        if (control->cmsg_len < CMSG_LEN(sizeof value))
            continue;
        memcpy(&value, CMSG_DATA(control), sizeof value);
        if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_TCLASS)
            run->tos = (uint8_t)value;
        else if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO && value > 0)
            run->datagram_len = (size_t)value;
    }
}

struct dp_run dp_receiver_run(struct dp_receiver *receiver, size_t i)
{
    struct mmsghdr *entry = &receiver->vector[i];
    struct dp_run run = {
        .data = receiver->iovs[i].iov_base,
        .len = entry->msg_len,
        .datagram_len = entry->msg_len,
        .sender = sender_key(&receiver->from[i]),
    };

    read_control(&run, &entry->msg_hdr);
    return run;
}
