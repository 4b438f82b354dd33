/* test_coalesce.c - which packets join and which do not, by the table of rules in coalesce.h. */
#include "check.h"
#include "groups.h"
#include "packets.h"

#define ARENA_LEN (1 << 21)

static uint8_t arena[ARENA_LEN];
static size_t used, n_added;
static struct dp_coalescer coalescer;

static void begin(void)
{
    used = n_added = coalescer.n_groups = 0;
    coalescer.tcp = coalescer.udp = 1;
}

/* Add a packet; returns where it lies. */
static uint8_t *add(const struct recipe *recipe, size_t spoilt_byte)
{
    uint8_t *packet = arena + used;
    size_t len = make_packet(packet, recipe);

    CHECK(used + len < ARENA_LEN);
    used += len;
    n_added++;
    if (spoilt_byte)
        packet[spoilt_byte] ^= 0x10;
    dp_coalescer_add(&coalescer, packet, len, 1);
    return packet;
}

static struct recipe after(struct recipe recipe)
{
    recipe.sequence += (uint32_t)recipe.payload_len;
    recipe.id++;
    return recipe;
}

static const struct recipe tcp = {.tcp = 1, .port = 1000, .flags = TCP_ACK, .options_len = 12, .payload_len = 1400};
static const struct recipe udp = {.port = 1000, .payload_len = 64};

/* How many groups come out of two packets, the second of which may be spoilt at a byte. */
static size_t groups_of(struct recipe first, struct recipe second, size_t spoilt_byte)
{
    begin();
    add(&first, 0);
    add(&second, spoilt_byte);
    check_groups(&coalescer, n_added);
    return coalescer.n_groups;
}

static void test_what_follows_joins(void)
{
    for (int v6 = 0; v6 < 2; v6++) {
        struct recipe first = tcp;
        first.v6 = v6;
        CHECK(groups_of(first, after(first), 0) == 1);
        first = udp;
        first.v6 = v6;
        CHECK(groups_of(first, after(first), 0) == 1);
    }
}

static void test_long_runs(void)
{
    struct recipe recipe = tcp;

    begin();
    for (int i = 0; i < 100; i++, recipe = after(recipe))
        add(&recipe, 0);
    check_groups(&coalescer, n_added);
    CHECK(coalescer.n_groups == 3 && coalescer.groups[0].n_packets == 46); /* as many as 64 KiB hold */
    recipe = udp;
    begin();
    for (int i = 0; i < 100; i++, recipe = after(recipe))
        add(&recipe, 0);
    check_groups(&coalescer, n_added);
    CHECK(coalescer.n_groups == 2 && coalescer.groups[0].n_packets == MAX_GROUP_SEGMENTS);
}

static void test_what_differs_does_not_join(void)
{
    struct recipe second;

#define DIFFERS(change) (second = after(tcp), second.change, groups_of(tcp, second, 0) == 2)
    CHECK(DIFFERS(port = 1001));
    CHECK(DIFFERS(sequence += 1));
    CHECK(DIFFERS(sequence -= 1400));
    CHECK(DIFFERS(acknowledgement = 1));
    CHECK(DIFFERS(window = 1));
    CHECK(DIFFERS(tos = 3)); /* congestion was met */
    CHECK(DIFFERS(flags = TCP_ACK | TCP_FIN));
    CHECK(DIFFERS(flags = TCP_ACK | TCP_ECE));
    CHECK(DIFFERS(flags = TCP_ACK | TCP_CWR));
    CHECK(DIFFERS(options_len = 8));
    CHECK(DIFFERS(payload_len = 1401));
    CHECK(DIFFERS(payload_len = 0));
    CHECK(DIFFERS(fragment = V4_DONT_FRAGMENT));
    CHECK(DIFFERS(id += 1)); /* without DF it has to count up */
    CHECK(DIFFERS(v6 = 1));
    CHECK(DIFFERS(tcp = 0));
#undef DIFFERS
}

static void test_the_identification_means_nothing_with_df(void)
{
    struct recipe first = tcp, second;

    first.fragment = V4_DONT_FRAGMENT;
    second = after(first);
    second.id = 0;
    CHECK(groups_of(first, second, 0) == 1);
}

static void test_wrong_checksums_do_not_join(void)
{
    CHECK(groups_of(tcp, after(tcp), 1000) == 2);
    CHECK(groups_of(udp, after(udp), 50) == 2);
    CHECK(groups_of(tcp, after(tcp), V4_CHECKSUM_AT) == 2);
    begin();
    struct recipe second = after(tcp), third = after(second);
    add(&tcp, 1000);
    add(&second, 0);
    add(&third, 0);
    check_groups(&coalescer, n_added);
    CHECK(coalescer.n_groups == 2 && coalescer.groups[0].n_packets == 1);
}

static void test_udp_without_checksum_stays_without(void)
{
    uint8_t *first, *second;

    begin();
    first = add(&udp, 0);
    second = add(&udp, 0);
    put_be16(first + 26, 0);
    put_be16(second + 26, 0);
    coalescer.n_groups = 0;
    dp_coalescer_add(&coalescer, first, 92, 1);
    dp_coalescer_add(&coalescer, second, 92, 1);
    CHECK(coalescer.n_groups == 2);
}

static void test_the_last_of_a_group(void)
{
    struct recipe first = tcp, second = after(tcp), third;

    second.payload_len = 100; /* shorter */
    third = after(second);
    begin();
    add(&first, 0);
    add(&second, 0);
    add(&third, 0);
    check_groups(&coalescer, n_added);
    CHECK(coalescer.n_groups == 2 && coalescer.groups[0].n_packets == 2);
    second = after(tcp);
    second.flags |= TCP_PSH;
    third = after(second);
    third.flags = TCP_ACK;
    begin();
    add(&first, 0);
    add(&second, 0);
    add(&third, 0);
    check_groups(&coalescer, n_added);
    CHECK(coalescer.n_groups == 2 && coalescer.groups[0].n_packets == 2 && coalescer.groups[0].push);
}

static void test_interleaved_flows(void)
{
    begin();
    for (uint32_t i = 0; i < 10; i++)
        for (uint16_t port = 1; port <= 64; port++) {
            struct recipe recipe = {.tcp = port % 2, .port = port, .flags = TCP_ACK, .payload_len = 100};
            recipe.id = (uint16_t)i;
            recipe.sequence = i * 100;
            add(&recipe, 0);
        }
    check_groups(&coalescer, n_added);
    CHECK(coalescer.n_groups == 64);
}

static void test_nothing_overtakes(void)
{
    struct recipe fin = after(tcp), third = after(after(tcp)), fragment = udp, later = udp;

    fin.flags |= TCP_FIN;
    third.sequence -= 1400; /* would follow the first */
    begin();
    add(&tcp, 0);
    add(&fin, 0);
    add(&third, 0);
    check_groups(&coalescer, n_added);
    CHECK(coalescer.n_groups == 3);
    fragment.fragment = V4_MORE_FRAGMENTS;
    later.id = 1;
    begin();
    add(&udp, 0);
    add(&fragment, 0);
    add(&later, 0);
    check_groups(&coalescer, n_added);
    CHECK(coalescer.n_groups == 3);
}

static void test_switched_off(void)
{
    begin();
    coalescer.tcp = 0;
    add(&tcp, 0);
    struct recipe second = after(tcp);
    add(&second, 0);
    CHECK(coalescer.n_groups == 2);
    coalescer.tcp = 1;
    coalescer.udp = 0;
    coalescer.n_groups = 0;
    add(&udp, 0);
    second = after(udp);
    add(&second, 0);
    CHECK(coalescer.n_groups == 2);
}

static void test_tunnels_of_pods_pass_unmerged(void)
{
    uint8_t *first, *second;

    begin();
    first = add(&udp, 0);
    second = add(&udp, 0);
    for (int i = 0; i < 2; i++) { /* the sum stays right: what the port gains the source port loses */
        uint8_t *l4 = (i ? second : first) + V4_HEADER_LEN;
        put_be16(l4, (uint16_t)(get_be16(l4) + 5201 - 4789));
        put_be16(l4 + 2, 4789);
        CHECK(packet_checksums_right(i ? second : first, 92));
    }
    coalescer.n_groups = 0;
    dp_coalescer_add(&coalescer, first, 92, 1);
    dp_coalescer_add(&coalescer, second, 92, 1);
    CHECK(coalescer.n_groups == 2);
}

int main(void)
{
    RUN(test_what_follows_joins);
    RUN(test_long_runs);
    RUN(test_what_differs_does_not_join);
    RUN(test_the_identification_means_nothing_with_df);
    RUN(test_wrong_checksums_do_not_join);
    RUN(test_udp_without_checksum_stays_without);
    RUN(test_the_last_of_a_group);
    RUN(test_interleaved_flows);
    RUN(test_nothing_overtakes);
    RUN(test_switched_off);
    RUN(test_tunnels_of_pods_pass_unmerged);
    return 0;
}
