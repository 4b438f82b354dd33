/* prove_checksum.c - a checksum that fits a packet is written inside of it, and behind its IP header. */
#include <stdlib.h>

#include "../packet.c"
#include "../segment.c"
#include "prove.h"

uint16_t dp_sum(const uint8_t *data, size_t len)
{
    __CPROVER_assert(__CPROVER_r_ok(data, len), "all that is summed can be read");
    return (uint16_t)nondet_number();
}

int main(void)
{
    size_t len = nondet_size();
    struct virtio_net_hdr vnet;

    __CPROVER_assume(len > 0 && len <= MAX_PACKET_LEN);
    ANY_BYTES(packet, len);
    if (!dp_checksum_fits(packet, len, &vnet))
        return 0;
    __CPROVER_assert(vnet.csum_start >= dp_packet_header_len(packet), "the IP header is left alone");
    dp_checksum_complete(packet, len, &vnet);
    return 0;
}
