/*
 * fuzz_coalesce.c - whatever order packets of whatever flows come in, none is lost, none overtakes in its flow, and
 * super-packets cut again give what came in.
 *
 * Input: records of six bytes, each a packet that follows the last of its flow but for what the record changes.
 */
#include "check.h"
#include "groups.h"
#include "packets.h"

#define N_FLOWS     4
#define MAX_PACKETS 100

enum { PUSH = 1, FIN = 2, LOSS = 4, SPOIL = 8, DF = 16, FRAGMENT = 32, OPTIONS = 64, OTHER_TOS = 128 };

static struct recipe flows[N_FLOWS];

static void begin_flows(uint8_t switches)
{
    for (size_t i = 0; i < N_FLOWS; i++)
        flows[i] = (struct recipe){
            .v6 = switches >> i & 1,
            .tcp = switches >> 4 >> i & 1,
            .port = (uint16_t)(1000 + i / 2),
            .sequence = 0xfffff000,
        };
}

static size_t next_packet(uint8_t *packet, const uint8_t *record)
{
    struct recipe *flow = &flows[record[0] % N_FLOWS];
    uint8_t changes = record[1];

    flow->payload_len = record[2] % 4 ? 100 : record[3];
    flow->flags = (uint8_t)(TCP_ACK | (changes & PUSH ? TCP_PSH : 0) | (changes & FIN ? TCP_FIN : 0));
    flow->sequence += changes & LOSS ? 100 : 0;
    flow->fragment = (uint16_t)((changes & DF ? V4_DONT_FRAGMENT : 0) | (changes & FRAGMENT ? V4_MORE_FRAGMENTS : 0));
    flow->options_len = changes & OPTIONS ? 12 : 0;
    flow->tos = changes & OTHER_TOS ? record[4] : 0;
    size_t len = make_packet(packet, flow);
    flow->sequence += (uint32_t)flow->payload_len;
    flow->id = (uint16_t)(flow->id + (record[5] % 8 ? 1 : 2));
    if (changes & SPOIL && len > 48) /* a byte that is no length and no address */
        packet[40 + record[4] % (len - 40)] ^= record[3];
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_len);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t input_len)
{
    static uint8_t arena[MAX_PACKETS * 512];
    static struct dp_coalescer coalescer;
    size_t used = 0, n = 0;

    if (input_len < 1)
        return 0;
    begin_flows(input[0]);
    coalescer.n_groups = 0;
    coalescer.tcp = coalescer.udp = 1;
    for (input++, input_len--; input_len >= 6 && n < MAX_PACKETS; input += 6, input_len -= 6, n++) {
        size_t len = next_packet(arena + used, input);
        if (dp_packet_check(arena + used, len) != DP_VERDICT_FORWARDED)
            return 0;
        dp_coalescer_add(&coalescer, arena + used, len, 1);
        used += len;
    }
    check_groups(&coalescer, n);
    return 0;
}
