/* write.c - into the TUN. */
#include "loop.h"

#include <errno.h>
#include <sys/uio.h>

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
