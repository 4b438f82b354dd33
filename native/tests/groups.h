/* groups.h - what must hold of a coalescer's groups, whatever went into it. */
#ifndef GROUPS_H
#define GROUPS_H

#include "coalesce.h"
#include "segment.h"

/*
 * Check that @n packets are in the groups, each once; that nothing overtakes in its flow (packets lie in memory in the
 * order in which they came); and that each group, made into a super-packet and cut again, gives the packets that went
 * in, but for the IPv4 identification where DF makes it meaningless.
 */
void check_groups(const struct dp_coalescer *coalescer, size_t n);

#endif
