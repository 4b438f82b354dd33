/* offload.c - probing the kernel's features. */
#include "offload.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include "vnet.h"

#define TCP_OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)
#define UDP_OFFLOADS (TUN_F_USO4 | TUN_F_USO6)

void dp_features_init(struct dp_features *features, uint32_t unwanted)
{
    memset(features, 0, sizeof *features);
    for (unsigned int feature = 0; feature < DP_FEATURE_COUNT; feature++)
        atomic_init(&features->state[feature],
                    unwanted >> feature & 1 ? DP_FEATURE_STATE_BY_HAND : DP_FEATURE_STATE_UNKNOWN);
}

static void settle(struct dp_features *features, enum dp_feature feature, enum dp_feature_state state, int error)
{
    if (!dp_feature_possible(features, feature))
        return;
    features->error[feature] = error;
    features->state[feature] = (uint8_t)state;
}

void dp_feature_settle(struct dp_features *features, enum dp_feature feature, int error)
{
    settle(features, feature, error ? DP_FEATURE_STATE_REFUSED : DP_FEATURE_STATE_ON, error);
}

/* Ask for offloads from the richest set downward: the kernel refuses a set with a bit that it does not know. */
static void probe_tun(struct dp_features *features, int tun_fd)
{
    unsigned long tcp = dp_feature_possible(features, DP_FEATURE_TSO) ? TCP_OFFLOADS : 0;

    if (dp_feature_possible(features, DP_FEATURE_USO)) {
        int error = ioctl(tun_fd, TUNSETOFFLOAD, TUN_F_CSUM | UDP_OFFLOADS | tcp) ? errno : 0;
        dp_feature_settle(features, DP_FEATURE_USO, error);
        if (!error) {
            dp_feature_settle(features, DP_FEATURE_TSO, 0);
            return;
        }
    }
    dp_feature_settle(features, DP_FEATURE_TSO, ioctl(tun_fd, TUNSETOFFLOAD, tcp) ? errno : 0);
}

static void probe_socket(struct dp_features *features, enum dp_feature feature, int udp_fd, int option, int value)
{
    if (dp_feature_possible(features, feature))
        dp_feature_settle(features, feature, setsockopt(udp_fd, IPPROTO_UDP, option, &value, sizeof value) ? errno : 0);
}

int dp_kernel_spoils_segments(const char *release)
{
    unsigned int major = 0, minor = 0, patch = 0;

    if (sscanf(release, "%u.%u.%u", &major, &minor, &patch) < 2)
        return 0;
    return major == 7 && (minor == 0 || (minor == 1 && patch <= 4));
}

/* Features that would do harm without ever failing. */
static void exclude_defects(struct dp_features *features)
{
    struct utsname kernel;

    if (!uname(&kernel) && dp_kernel_spoils_segments(kernel.release))
        settle(features, DP_FEATURE_GSO, DP_FEATURE_STATE_DEFECT, 0);
}

int dp_features_probe(struct dp_features *features, int tun_fd, int udp_fd)
{
    struct ifreq request = {0};

    if (ioctl(tun_fd, TUNGETIFF, &request))
        return -errno;
    if (request.ifr_flags & IFF_VNET_HDR) {
        probe_tun(features, tun_fd);
    } else {
        settle(features, DP_FEATURE_TSO, DP_FEATURE_STATE_NO_HEADER, 0);
        settle(features, DP_FEATURE_USO, DP_FEATURE_STATE_NO_HEADER, 0);
    }
    exclude_defects(features);
    probe_socket(features, DP_FEATURE_GSO, udp_fd, UDP_SEGMENT, 0); /* 0: not unless a message asks for it */
    probe_socket(features, DP_FEATURE_GRO, udp_fd, UDP_GRO, 1);
    return request.ifr_flags & IFF_VNET_HDR ? (int)VNET_LEN : 0;
}

void dp_feature_fail(struct dp_features *features, enum dp_feature feature, int error)
{
    uint8_t on = DP_FEATURE_STATE_ON;

    features->error[feature] = error;
    if (atomic_compare_exchange_strong(&features->state[feature], &on, DP_FEATURE_STATE_FAILED))
        atomic_fetch_add(&features->changes, 1);
}
