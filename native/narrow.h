/* narrow.h - sending once more what the underlay refused for its size; rare, so one datagram at a time. */
#ifndef DP_NARROW_H
#define DP_NARROW_H

#include "fragment.h"
#include "loop.h"

/**
 * dp_narrow_part() - a segment as a packet, for dp_fit()
 * @loop: the loop
 * @segment: in the sender's queue
 * @peer: the receiver
 */
struct dp_packet dp_narrow_part(const struct dp_loop *loop, const struct dp_segment *segment, int32_t peer);

/**
 * dp_narrow_send() - send a segment in the way that was decided
 * @loop: the loop
 * @segment: in the sender's queue
 * @part: from dp_narrow_part(), and decided by dp_fit()
 *
 * Return: 0, or the errno of the first datagram that was refused.
 */
int dp_narrow_send(struct dp_loop *loop, const struct dp_segment *segment, const struct dp_packet *part);

#endif
