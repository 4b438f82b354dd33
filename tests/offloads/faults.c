/*
 * faults.c - system calls as other kernels would answer them.
 *
 * Preloaded into a node (LD_PRELOAD), this stands between it and the kernel. The file that UDPLANE_TEST_FAULTS names is
 * shared with the test, which switches faults on and off in it while the node runs; see faults.py. A call that no fault
 * is about goes to the kernel as it is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define UDP_GRO          104
#define VNET_HEADER_LEN  10
#define VNET_GSO_TYPE_AT 1

/* Zero means no fault. The order is that of FIELDS in faults.py. */
struct faults {
    uint32_t super_write_errno;     /* writes of super-packets to the TUN fail with this */
    uint32_t segmented_send_errno;  /* sends that ask for UDP_SEGMENT fail with this */
    uint32_t too_big_errno;         /* what is said of segmented sends, where the kernel says EMSGSIZE */
    uint32_t most_per_call;         /* messages that one sendmmsg takes */
    uint32_t refused_udp_segment;   /* setsockopt(UDP_SEGMENT) is unknown */
    uint32_t refused_udp_gro;       /* setsockopt(UDP_GRO) is unknown */
    uint32_t refused_tun_offloads;  /* TUN_F_ bits that are unknown */
    uint32_t hits;                  /* counts the calls that came out differently */
};

static struct faults none;
static volatile struct faults *faults = &none;

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("UDPLANE_TEST_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *shared = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (fd >= 0)
        close(fd);
    if (shared != MAP_FAILED)
        faults = shared;
}

static int fail_with(uint32_t error)
{
    __atomic_add_fetch(&faults->hits, 1, __ATOMIC_RELAXED);
    errno = (int)error;
    return -1;
}

static int is_segmented(const struct msghdr *message)
{
    struct msghdr *header = (struct msghdr *)(uintptr_t)message;

    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control; control = CMSG_NXTHDR(header, control))
        if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_SEGMENT)
            return 1;
    return 0;
}

/* How many messages the kernel gets to see. */
static unsigned int acceptable(struct mmsghdr *messages, unsigned int n)
{
    unsigned int most = faults->most_per_call && faults->most_per_call < n ? faults->most_per_call : n;

    for (unsigned int i = 0; faults->segmented_send_errno && i < most; i++)
        if (is_segmented(&messages[i].msg_hdr))
            return i;
    return most;
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned int n, int flags)
{
    unsigned int accepted = acceptable(messages, n);

    if (n && !accepted)
        return fail_with(faults->segmented_send_errno);
    if (accepted < n)
        __atomic_add_fetch(&faults->hits, 1, __ATOMIC_RELAXED);
    int sent = (int)syscall(SYS_sendmmsg, fd, messages, accepted, flags);
    if (sent < 0 && errno == EMSGSIZE && faults->too_big_errno && is_segmented(&messages->msg_hdr))
        return fail_with(faults->too_big_errno);
    return sent;
}

ssize_t writev(int fd, const struct iovec *iovs, int n)
{
    if (faults->super_write_errno && n > 1 && iovs->iov_len == VNET_HEADER_LEN &&
        ((const uint8_t *)iovs->iov_base)[VNET_GSO_TYPE_AT])
        return fail_with(faults->super_write_errno);
    return syscall(SYS_writev, fd, iovs, n);
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
    if (level == IPPROTO_UDP && ((option == UDP_SEGMENT && faults->refused_udp_segment) ||
                                 (option == UDP_GRO && faults->refused_udp_gro)))
        return fail_with(ENOPROTOOPT);
    return (int)syscall(SYS_setsockopt, fd, level, option, value, len);
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;

    va_start(arguments, request);
    unsigned long argument = va_arg(arguments, unsigned long);
    va_end(arguments);
    if (request == TUNSETOFFLOAD && argument & faults->refused_tun_offloads)
        return fail_with(EINVAL);
    return (int)syscall(SYS_ioctl, fd, request, argument);
}
