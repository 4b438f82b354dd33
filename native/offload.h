/*
 * offload.h - features of the kernel that make the loop fast, and the plain ways without them.
 *
 * Each is probed when a worker starts and can still fail later: a path through a device that cannot segment, a kernel
 * that refuses a super-packet. Then it is off for all workers, what was in hand goes the plain way, and nothing is
 * lost.
 */
#ifndef DP_OFFLOAD_H
#define DP_OFFLOAD_H

#include <stdatomic.h>

#include "api.h"

/**
 * struct dp_features - the state of each feature, shared by all workers of an engine
 * @state: an enum dp_feature_state each
 * @error: errno of the failure, for DP_FEATURE_STATE_FAILED and DP_FEATURE_STATE_REFUSED
 * @changes: how often a feature failed; whoever tells people about it compares
 */
struct dp_features {
    _Atomic uint8_t state[DP_FEATURE_COUNT];
    _Atomic int error[DP_FEATURE_COUNT];
    _Atomic uint32_t changes;
};

static inline int dp_feature_on(const struct dp_features *features, enum dp_feature feature)
{
    return atomic_load_explicit(&features->state[feature], memory_order_relaxed) == DP_FEATURE_STATE_ON;
}

/**
 * dp_features_init() - every feature wanted, nothing probed
 * @features: the features
 * @unwanted: bit by enum dp_feature: switched off by hand
 */
void dp_features_init(struct dp_features *features, uint32_t unwanted);

/**
 * dp_features_probe() - find out what a TUN device and a socket can do, and switch it on in them
 * @features: what was still possible before
 * @tun_fd: a queue of the device
 * @udp_fd: the UDP socket
 *
 * Return: bytes of the header in front of each packet of the device's queues, or -errno when it is none.
 */
int dp_features_probe(struct dp_features *features, int tun_fd, int udp_fd);

/* Whether a feature is still to be tried: not switched off, not found wanting. */
static inline int dp_feature_possible(const struct dp_features *features, enum dp_feature feature)
{
    return features->state[feature] <= DP_FEATURE_STATE_ON;
}

/**
 * dp_feature_settle() - note the outcome of a probe; what was off stays off
 * @features: the features
 * @feature: the feature
 * @error: 0, or the errno that it was refused with
 */
void dp_feature_settle(struct dp_features *features, enum dp_feature feature, int error);

/**
 * dp_feature_fail() - switch a feature off because it failed
 * @features: the features
 * @feature: the feature
 * @error: the errno that it failed with
 */
void dp_feature_fail(struct dp_features *features, enum dp_feature feature, int error);

#endif
