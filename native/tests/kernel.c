/* kernel.c - the kernel's side of the loop; rules after Linux 6.12, drivers/net/tun.c, virtio_net.h and net/ipv4/udp.c.
 */
#include "kernel.h"

#include <errno.h>

#include "check.h"
#include "packets.h"

#define UDP_MAX_SEGMENTS 64    /* 128 since Linux 6.9 */
#define MAX_UDP4_PAYLOAD 65507 /* and 20 bytes more of IPv6, whose header does not count */
#define GSO_BY_FRAGS     0xffff

struct kernel kernel;
static int without_df; /* what KERNEL_UDP sends */

ssize_t __real_read(int fd, void *data, size_t len);
ssize_t __real_writev(int fd, const struct iovec *iovs, int n);
ssize_t __wrap_read(int fd, void *data, size_t len);
ssize_t __wrap_writev(int fd, const struct iovec *iovs, int n);
int __wrap_sendmmsg(int fd, struct mmsghdr *vector, unsigned int n, int flags);
int __wrap_recvmmsg(int fd, struct mmsghdr *vector, unsigned int n, int flags, struct timespec *timeout);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *len);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t len);

static int fail(int error)
{
    errno = error;
    return -1;
}

/* Gather pieces in @to, as copy_from_iter() does; reads all of them, so a sanitizer sees what is not there. */
static size_t gather(uint8_t *to, size_t room, const struct iovec *iovs, size_t n)
{
    size_t len = 0;

    CHECK(n <= UIO_MAXIOV);
    for (size_t i = 0; i < n; i++) {
        CHECK(iovs[i].iov_len <= room - len);
        memcpy(to + len, iovs[i].iov_base, iovs[i].iov_len);
        len += iovs[i].iov_len;
    }
    return len;
}

ssize_t __wrap_read(int fd, void *data, size_t len)
{
    if (fd != KERNEL_TUN)
        return __real_read(fd, data, len);
    size_t got = kernel.read ? kernel.read(data, len) : 0;
    CHECK(got <= len);
    return got ? (ssize_t)got : fail(kernel.ends_with ? kernel.ends_with : EAGAIN);
}

/* virtio_net_hdr_to_skb() with what tun_get_user() asks before it. */
static void check_vnet(const struct virtio_net_hdr *vnet, const uint8_t *packet, size_t len)
{
    size_t start = vnet->csum_start, checksum_at = start + vnet->csum_offset;
    int tcp = vnet->gso_type == VIRTIO_NET_HDR_GSO_TCPV4 || vnet->gso_type == VIRTIO_NET_HDR_GSO_TCPV6;

    CHECK(len > 0 && (packet[0] >> 4 == 4 || packet[0] >> 4 == 6));
    if (vnet->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        CHECK(vnet->flags == 0 && vnet->hdr_len == 0 && vnet->gso_size == 0);
        return;
    }
    CHECK(vnet->flags == VIRTIO_NET_HDR_F_NEEDS_CSUM && vnet->gso_size > 0 && vnet->gso_size != GSO_BY_FRAGS);
    CHECK(tcp || vnet->gso_type == VIRTIO_NET_HDR_GSO_UDP_L4);
    CHECK(!tcp || is_v4(packet) == (vnet->gso_type == VIRTIO_NET_HDR_GSO_TCPV4));
    CHECK(dp_packet_check(packet, len) == DP_VERDICT_FORWARDED && start == dp_packet_header_len(packet));
    CHECK(packet[is_v4(packet) ? 9 : 6] == (tcp ? PROTOCOL_TCP : PROTOCOL_UDP));
    CHECK(vnet->csum_offset == (tcp ? TCP_CHECKSUM_AT : UDP_CHECKSUM_AT) && checksum_at + 2 <= vnet->hdr_len);
    CHECK(vnet->hdr_len == start + (tcp ? (size_t)(packet[start + 12] >> 4) * 4 : UDP_HEADER_LEN));
    CHECK(len > (size_t)vnet->hdr_len + vnet->gso_size); /* else it is no super-packet */
    CHECK(tcp || (len - vnet->hdr_len - 1) / vnet->gso_size < UDP_MAX_SEGMENTS);
}

ssize_t __wrap_writev(int fd, const struct iovec *iovs, int n)
{
    static uint8_t frame[MAX_FRAME_LEN];
    struct virtio_net_hdr vnet = {0};

    if (fd != KERNEL_TUN)
        return __real_writev(fd, iovs, n);
    size_t len = gather(frame, sizeof frame, iovs, (size_t)n);
    CHECK(len >= kernel.vnet_len);
    memcpy(&vnet, frame, kernel.vnet_len);
    check_vnet(&vnet, frame + kernel.vnet_len, len - kernel.vnet_len);
    int error = kernel.refuse_write ? kernel.refuse_write(&vnet) : 0;
    if (error)
        return fail(error);
    kernel.written(&vnet, frame + kernel.vnet_len, len - kernel.vnet_len);
    return (ssize_t)len;
}

/* What the control messages of a message say; those that no loop sends are a failure. */
static void read_control(struct msghdr *header, int v6, int *tos, uint16_t *segment_len)
{
    CHECK(header->msg_controllen <= sizeof((struct dp_envelope *)0)->control);
    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control; control = CMSG_NXTHDR(header, control)) {
        if (control->cmsg_level == IPPROTO_UDP) {
            CHECK(control->cmsg_type == UDP_SEGMENT && control->cmsg_len == CMSG_LEN(sizeof *segment_len));
            memcpy(segment_len, CMSG_DATA(control), sizeof *segment_len);
            CHECK(*segment_len > 0);
            continue;
        }
        CHECK(control->cmsg_level == (v6 ? IPPROTO_IPV6 : IPPROTO_IP));
        CHECK(control->cmsg_type == (v6 ? IPV6_TCLASS : IP_TOS) && control->cmsg_len == CMSG_LEN(sizeof *tos));
        memcpy(tos, CMSG_DATA(control), sizeof *tos);
        CHECK(*tos > 0 && *tos <= 255);
    }
}

/* udp_sendmsg(): the errno, or 0 when the message has left. */
static int send_one(struct msghdr *header, int df)
{
    static uint8_t payload[MAX_PACKET_LEN];
    size_t len = gather(payload, sizeof payload, header->msg_iov, header->msg_iovlen);
    const struct sockaddr *to = header->msg_name;
    int v6 = to->sa_family == AF_INET6, tos = 0;
    uint16_t segment_len = 0;

    CHECK(header->msg_namelen == (v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)));
    read_control(header, v6, &tos, &segment_len);
    size_t piece = segment_len ? segment_len : len ? len : 1, n_segments = len ? (len - 1) / piece + 1 : 1;
    if (segment_len)
        CHECK(df && len <= MAX_UDP4_PAYLOAD && n_segments > 1 && n_segments <= UDP_MAX_SEGMENTS);
    int error = kernel.refuse_send ? kernel.refuse_send(n_segments) : 0;
    if (!error && (len > MAX_UDP4_PAYLOAD || (df && min_size(piece, len) > kernel.path_mtu)))
        error = segment_len && kernel.says_einval ? EINVAL : EMSGSIZE;
    if (error)
        return error;
    for (size_t at = 0, i = 0; i < n_segments; at += piece, i++)
        kernel.sent(to, tos, payload + at, min_size(piece, len - at));
    return 0;
}

int __wrap_sendmmsg(int fd, struct mmsghdr *vector, unsigned int n, int flags)
{
    CHECK(fd >= KERNEL_UDP && fd < KERNEL_SOURCE + N_SOURCE_PORTS && flags == MSG_DONTWAIT && n > 0);
    for (unsigned int i = 0; i < n; i++) {
        int error = send_one(&vector[i].msg_hdr, !(fd == KERNEL_UDP && without_df));
        if (error)
            return i ? (int)i : fail(error); /* the error is lost when some have left */
        vector[i].msg_len = 1;
    }
    return (int)n;
}

static void put_control(struct msghdr *header, int level, int type, const void *value, size_t len)
{
    struct cmsghdr *control = (struct cmsghdr *)(void *)((uint8_t *)header->msg_control + header->msg_controllen);

    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(control), value, len);
    header->msg_controllen += CMSG_SPACE(len);
}

static socklen_t put_sender(void *to, const struct dp_key *from)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    memcpy(&v4.sin_addr, (const uint8_t *)from + 12, 4);
    memcpy(&v6.sin6_addr, from, 16);
    if (dp_key_is_v4(from))
        memcpy(to, &v4, sizeof v4);
    else
        memcpy(to, &v6, sizeof v6);
    return dp_key_is_v4(from) ? sizeof v4 : sizeof v6;
}

static unsigned int deliver(struct msghdr *header, const struct kernel_run *run)
{
    size_t room = header->msg_controllen, len = min_size(run->len, header->msg_iov->iov_len);
    int datagram_len = (int)run->datagram_len, tos = run->tos, v4 = dp_key_is_v4(&run->from);

    CHECK(room >= CMSG_SPACE(sizeof tos) + CMSG_SPACE(sizeof datagram_len));
    memset(header->msg_control, 0, room);
    header->msg_controllen = 0;
    header->msg_namelen = put_sender(header->msg_name, &run->from);
    if (v4)
        put_control(header, IPPROTO_IP, IP_TOS, &run->tos, 1);
    else
        put_control(header, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof tos);
    if (datagram_len)
        put_control(header, IPPROTO_UDP, UDP_GRO, &datagram_len, sizeof datagram_len);
    memcpy(header->msg_iov->iov_base, run->data, len);
    return (unsigned int)len;
}

int __wrap_recvmmsg(int fd, struct mmsghdr *vector, unsigned int n, int flags, struct timespec *timeout)
{
    struct kernel_run run;
    unsigned int i = 0;

    CHECK(fd == KERNEL_UDP && flags == MSG_DONTWAIT && !timeout && n > 0 && n <= MAX_RUNS);
    for (; i < n && kernel.receive && kernel.receive(&run); i++)
        vector[i].msg_len = deliver(&vector[i].msg_hdr, &run);
    return i ? (int)i : fail(kernel.ends_with ? kernel.ends_with : EAGAIN);
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len)
{
    (void)len;
    CHECK(fd == KERNEL_PROBE && (address->sa_family == AF_INET || address->sa_family == AF_INET6));
    return kernel.path_mtu ? 0 : fail(ENETUNREACH);
}

int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *len)
{
    int v6 = level == IPPROTO_IPV6, mtu = (int)kernel.path_mtu + (v6 ? 48 : 28);

    CHECK(fd == KERNEL_PROBE && option == (v6 ? IPV6_MTU : IP_MTU) && *len == sizeof mtu);
    memcpy(value, &mtu, sizeof mtu);
    return 0;
}

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
    int mode, v6 = level == IPPROTO_IPV6;

    CHECK(fd == KERNEL_UDP && option == (v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER) && len == sizeof mode);
    memcpy(&mode, value, sizeof mode);
    without_df = mode == (v6 ? IPV6_PMTUDISC_DONT : IP_PMTUDISC_DONT);
    return 0;
}

struct dp_loop *kernel_loop_renew(struct dp_loop *loop, struct dp_engine *engine)
{
    if (!loop) {
        loop = calloc(1, sizeof *loop);
        CHECK(loop);
        loop->arena = malloc(ARENA_LEN);
        CHECK(loop->arena && !dp_receiver_init(&loop->receiver, 0));
    }
    loop->worker = engine->batch_worker;
    loop->features = &engine->features;
    loop->routes = engine->routes;
    loop->tun_fd = KERNEL_TUN;
    loop->udp_fd = loop->sender.udp_fd = KERNEL_UDP;
    loop->vnet_len = kernel.vnet_len;
    loop->most_reads = MAX_READS;
    loop->now_ns = loop->turn_bytes = loop->turn_reads = 0;
    loop->error = 0;
    loop->receiver.n_wanted = MAX_LONG_RUNS;
    loop->sender.probe_fd = KERNEL_PROBE;
    loop->sender.n_sockets = N_SOURCE_PORTS;
    for (int i = 0; i < N_SOURCE_PORTS; i++)
        loop->sender.sockets[i] = KERNEL_SOURCE + i;
    for (unsigned int feature = 0; feature < DP_FEATURE_COUNT; feature++)
        dp_feature_settle(loop->features, feature, 0);
    return loop;
}

struct dp_loop *kernel_loop_new(struct dp_engine *engine)
{
    return kernel_loop_renew(NULL, engine);
}

void kernel_loop_free(struct dp_loop *loop)
{
    dp_receiver_free(&loop->receiver);
    free(loop->arena);
    free(loop);
}
