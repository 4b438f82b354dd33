/* traffic.c - records become frames of the device and runs of datagrams: mostly good ones, or nothing else is reached.
 */
#include "traffic.h"

#include "packets.h"

#define MAX_PIECES 1500 /* of a super-packet */

enum shape { IS_V6 = 1, IS_TCP = 2, DONT_FRAGMENT = 4, MORE_FRAGMENTS = 8, PUSH = 16, OTHER_NET = 32, SPOILT = 64 };
enum vnet_change { SMALL_SIZE = 60, SIZE, START, OFFSET, TYPE, FLAGS };

struct queue from_tun, from_udp;
struct dp_key addresses[3];
static const uint8_t *input;
static size_t input_left;

void traffic_begin(const uint8_t *bytes, size_t len)
{
    input = bytes;
    input_left = len;
    from_tun.n = from_udp.n = from_tun.next = from_udp.next = 0;
}

int traffic_left(void)
{
    return input_left > 0;
}

uint8_t next8(void)
{
    if (input_left == 0)
        return 0;
    input_left--;
    return *input++;
}

static uint16_t next16(void)
{
    uint8_t high = next8();
    return (uint16_t)(high << 8 | next8());
}

static size_t next_bytes(uint8_t *to, size_t len)
{
    len = min_size(len, input_left);
    memcpy(to, input, len);
    input += len;
    input_left -= len;
    return len;
}

static size_t next_packet(uint8_t *packet, struct recipe *recipe, uint8_t shape)
{
    size_t len = make_packet(packet, recipe);

    if (shape & OTHER_NET) { /* the other peer's subnet, or nobody's */
        packet[is_v4(packet) ? 18 : 25] ^= (uint8_t)(recipe->port % 2 + 1);
        packet[is_v4(packet) ? 14 : 9] ^= (uint8_t)(recipe->port % 2 + 1);
        if (is_v4(packet)) {
            put_be16(packet + 10, 0);
            put_be16(packet + 10, dp_checksum(packet, 20));
        }
    }
    if (shape & SPOILT)
        packet[next8() % len] ^= (uint8_t)(next8() | 1);
    return len;
}

static struct recipe next_recipe(uint8_t shape)
{
    uint8_t more = next8();

    return (struct recipe){
        .v6 = shape & IS_V6,
        .tcp = (shape & IS_TCP) != 0,
        .port = more % 16,
        .sequence = more * 0x01000001u,
        .flags = (uint8_t)(TCP_ACK | (shape & PUSH ? TCP_PSH | (more & TCP_CWR) | (more & TCP_FIN) : 0)),
        .tos = more & 0x80 ? more : 0,
        .id = (uint16_t)(more << 8),
        .fragment = (uint16_t)((shape & DONT_FRAGMENT ? V4_DONT_FRAGMENT : 0) |
                               (shape & MORE_FRAGMENTS ? V4_MORE_FRAGMENTS : 0)),
        .options_len = more & 0x40 ? 12 : 0,
    };
}

/* The vnet header that the kernel would give, but for what a record changes. */
static struct virtio_net_hdr next_vnet(const struct recipe *recipe)
{
    uint16_t size = next16() % 4096;
    uint8_t change = next8();
    struct virtio_net_hdr vnet = vnet_for(recipe, size);

    switch (change % 80) {
    case SMALL_SIZE: vnet.gso_size = next8(); break;
    case SIZE: vnet.gso_size = next16(); break;
    case START: vnet.csum_start = next16(); break;
    case OFFSET: vnet.csum_offset = next16(); break;
    case TYPE: vnet.gso_type = next8(); break;
    case FLAGS: vnet.flags = next8(); break;
    default: break;
    }
    return vnet;
}

static void from_tun_add(size_t len)
{
    uint8_t *frame = from_tun.inputs[from_tun.n].bytes;
    struct virtio_net_hdr vnet = {0};

    if (len <= kernel.vnet_len)
        return;
    memcpy(&vnet, frame, kernel.vnet_len);
    if (vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE && vnet.gso_size < len / MAX_PIECES + 1) {
        vnet.gso_size = (uint16_t)(vnet.gso_size ? len / MAX_PIECES + 1 : 0);
        memcpy(frame, &vnet, kernel.vnet_len);
    }
    from_tun.inputs[from_tun.n++].len = len;
}

static void add_tun_packet(void)
{
    uint8_t shape = next8(), *frame = from_tun.inputs[from_tun.n].bytes;
    struct recipe recipe = next_recipe(shape);
    size_t headers = (recipe.v6 ? 40 : 20) + (recipe.tcp ? 20 + recipe.options_len : 8);

    recipe.payload_len = min_size(next16(), MAX_PACKET_LEN - headers);
    struct virtio_net_hdr vnet = next_vnet(&recipe);
    memcpy(frame, &vnet, kernel.vnet_len);
    from_tun_add(kernel.vnet_len + next_packet(frame + kernel.vnet_len, &recipe, shape));
}

static void state_length(uint8_t *packet, size_t len)
{
    if (len >= V4_HEADER_LEN && packet[0] >> 4 == 4)
        put_be16(packet + 2, (uint16_t)len);
    if (len >= V6_HEADER_LEN && packet[0] >> 4 == 6)
        put_be16(packet + 4, (uint16_t)(len - V6_HEADER_LEN));
}

static void add_tun_bytes(void)
{
    uint16_t len = next16();
    uint8_t *frame = from_tun.inputs[from_tun.n].bytes;
    size_t got = next_bytes(frame, len & 0x7ff);

    if (len & 0x8000 && got > kernel.vnet_len)
        state_length(frame + kernel.vnet_len, got - kernel.vnet_len);
    from_tun_add(got);
}

/* Some more of the last frame. */
static void add_tun_again(void)
{
    for (size_t n = next8() % MAX_INPUTS; from_tun.n > 0 && n > 0 && from_tun.n < MAX_INPUTS; n--, from_tun.n++)
        from_tun.inputs[from_tun.n] = from_tun.inputs[from_tun.n - 1];
}

static void from_udp_add(size_t len, size_t datagram_len)
{
    from_udp.inputs[from_udp.n].len = len;
    from_udp.inputs[from_udp.n].datagram_len = datagram_len;
    from_udp.inputs[from_udp.n].tos = next8();
    from_udp.inputs[from_udp.n++].from = addresses[next8() % 16 % 3];
}

static void add_udp_packets(void)
{
    uint8_t shape = next8(), *bytes = from_udp.inputs[from_udp.n].bytes;
    struct recipe recipe = next_recipe(shape);
    size_t used = 0, n = next8() % 70u + 1, datagram_len = 0;
    uint16_t change = next16();
    int spread = change & 0x100;

    recipe.payload_len = next16() % 9000;
    for (size_t i = 0; i < n && used + recipe.payload_len + 120 < MAX_PACKET_LEN; i++) {
        if (i + 1 == n && change & 0x200)
            recipe.payload_len = recipe.payload_len * (change & 0xff) / 256;
        if (i + 1 == n && change & 0x80)
            recipe.flags |= TCP_PSH;
        used += next_packet(bytes + used, &recipe, i == (change >> 10) ? shape : (uint8_t)(shape & ~SPOILT));
        datagram_len = datagram_len ? datagram_len : used;
        recipe.sequence += (uint32_t)recipe.payload_len;
        recipe.id++;
        recipe.port = (uint16_t)(recipe.port + (spread ? 16 : 0));
    }
    from_udp_add(used, change % 64 == 63 ? change : datagram_len);
}

static void add_udp_bytes(void)
{
    uint16_t len = next16(), datagram_len = next16();
    uint8_t *bytes = from_udp.inputs[from_udp.n].bytes;
    size_t got = next_bytes(bytes, len & 0x7ff);

    if (len & 0x8000)
        state_length(bytes, datagram_len ? min_size(datagram_len, got) : got);
    from_udp_add(got, datagram_len && got ? datagram_len : 0);
}

void traffic_next_round(void)
{
    static void (*const add[N_RECORDS])(void) = {add_tun_packet, add_tun_bytes, add_tun_again, add_udp_packets,
                                                 add_udp_bytes};

    while (input_left > 0 && from_tun.n < MAX_INPUTS && from_udp.n < MAX_INPUTS) {
        uint8_t record = next8() % N_RECORDS;
        if (record == END_OF_ROUND)
            return;
        add[record]();
    }
}
