/* source.c - opening sockets like the one that a worker was given. */
#include "source.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES (7 << 20) /* as dataplane/forwarding/udp.py has it */

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* Whether two sockets are known to be in different network namespaces; older kernels do not tell. */
static int apart(int one, int other)
{
    uint64_t cookies[2];
    socklen_t len = sizeof cookies[0];

    return !getsockopt(one, SOL_SOCKET, SO_NETNS_COOKIE, &cookies[0], &len) &&
           !getsockopt(other, SOL_SOCKET, SO_NETNS_COOKIE, &cookies[1], &len) && cookies[0] != cookies[1];
}

static int set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value);
}

static int prepare(int fd, int udp_fd, const struct sockaddr *local, socklen_t local_len)
{
    int v6 = local->sa_family == AF_INET6;

    if (apart(fd, udp_fd))
        return -EADDRNOTAVAIL;
    if (set(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, IP_PMTUDISC_DO) ||
        bind(fd, local, local_len))
        return -errno;
    if (set(fd, SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES)) /* needs CAP_NET_ADMIN in the first user namespace */
        set(fd, SOL_SOCKET, SO_SNDBUF, BUFFER_BYTES);
    return 0;
}

void dp_source_set_df(int fd, int v6, int df)
{
    if (v6)
        set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, df ? IPV6_PMTUDISC_DO : IPV6_PMTUDISC_DONT);
    else
        set(fd, IPPROTO_IP, IP_MTU_DISCOVER, df ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT);
}

int dp_source_open(int udp_fd)
{
    struct sockaddr_in6 local = {0};
    socklen_t local_len = sizeof local;

    if (getsockname(udp_fd, (struct sockaddr *)&local, &local_len))
        return -errno;
    local.sin6_port = 0; /* lies in the same place for IPv4 */
    int fd = socket(local.sin6_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int error = prepare(fd, udp_fd, (struct sockaddr *)&local, local_len);
    if (!error)
        return fd;
    close(fd);
    return error;
}
