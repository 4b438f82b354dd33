/* prove_segment.c - whatever a vnet header says, each segment's headers and payload lie where they may. */
#include <stdlib.h>

#include "../packet.c"
#include "../segment.c"
#include "prove.h"

uint16_t dp_sum(const uint8_t *data, size_t len)
{
    __CPROVER_assert(__CPROVER_r_ok(data, len), "all that is summed can be read");
    return (uint16_t)nondet_number();
}

uint16_t dp_sum_pseudo_header(const uint8_t *addresses, size_t address_len, uint8_t protocol, size_t len)
{
    __CPROVER_assert(__CPROVER_r_ok(addresses, 2 * address_len), "all that is summed can be read");
    return (uint16_t)nondet_number();
}

int main(void)
{
    uint16_t len = nondet_short();
    struct virtio_net_hdr vnet;
    struct dp_super super;

    __CPROVER_assume(len > 0);
    ANY_BYTES(packet, len);
    if (dp_super_parse(&super, &vnet, packet, len))
        return 0;
    __CPROVER_assert(super.header_len <= MAX_SEGMENT_HEADER && super.header_len < len, "the headers fit");
    __CPROVER_assert(super.payload_len > 0 && super.n_segments > 0, "there is a segment, and something in it");
    dp_super_begin(&super);

    /* How many segments there are is a division, which CBMC does not get through; fuzz_loop.c counts them. */
    uint8_t header[MAX_SEGMENT_HEADER];
    const uint8_t *payload;
    super.next = nondet_short();
    __CPROVER_assume(super.header_len + super.next * super.payload_len < len);
    size_t payload_len = dp_super_next(&super, header, &payload);
    __CPROVER_assert(payload_len > 0 && payload_len <= vnet.gso_size, "a segment is no longer than was asked for");
    __CPROVER_assert(__CPROVER_r_ok(payload, payload_len), "the payload lies inside the packet");
    return 0;
}
