/* prove_arena.c - whatever lengths are read, each read has its room in the arena, and what goes in front of it, too. */
#include "../loop.h"
#include "prove.h"

int main(void)
{
    size_t used = nondet_size(), len = nondet_size(), vnet_len = nondet_size() % 2 ? VNET_LEN : 0;

    __CPROVER_assert(dp_arena_has_room(0), "there is always a first read");
    /* After any number of reads this holds, ... */
    __CPROVER_assume(used % READ_ALIGN == 0 && used <= ARENA_LEN && dp_arena_has_room(used) && len <= MAX_PACKET_LEN);
    size_t data = used + READ_HEADROOM;
    __CPROVER_assert(data - vnet_len >= used && data - DP_ICMP_HEADROOM >= used, "nothing goes into the packet before");
    __CPROVER_assert(data + MAX_PACKET_LEN <= ARENA_LEN, "the read ends inside");
    /* ... and after one more, it holds again. */
    size_t next = dp_arena_used(used, len);
    __CPROVER_assert(next % READ_ALIGN == 0 && next <= ARENA_LEN && next >= data + len,
                     "the next one begins behind it");
    return 0;
}
