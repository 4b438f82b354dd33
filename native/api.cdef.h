/*
 * What Python may call of the fast path, in declarations that both cffi and the C compiler read.
 *
 * Addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d. Times are nanoseconds of the monotonic clock.
 * Functions that can fail return -errno. No function prints or exits. docs/native.md says what is in the other files.
 */

/* What the loop can do without; see dataplane.engines.contract.OFFLOADS. */
enum dp_feature {
    DP_FEATURE_TSO = 0,
    DP_FEATURE_GSO = 1,
    DP_FEATURE_GRO = 2,
    DP_FEATURE_USO = 3,
    DP_FEATURE_PORTS = 4,
    DP_FEATURE_REALTIME = 5,
    DP_FEATURE_COUNT = 6,
};

/* Whether a feature is in use, and if not, why. */
enum dp_feature_state {
    DP_FEATURE_STATE_UNKNOWN = 0,   /* no worker has started yet */
    DP_FEATURE_STATE_ON = 1,        /* in use */
    DP_FEATURE_STATE_BY_HAND = 2,   /* switched off by hand */
    DP_FEATURE_STATE_NO_HEADER = 3, /* the TUN queue was opened without IFF_VNET_HDR */
    DP_FEATURE_STATE_REFUSED = 4,   /* the system does not have it or does not allow it */
    DP_FEATURE_STATE_FAILED = 5,    /* it was in use and failed */
    DP_FEATURE_STATE_DEFECT = 6,    /* this kernel has it, but spoils packets with it */
};

/**
 * struct dp_config - what an engine knows of its node; see dataplane.engines.contract.EngineConfig
 * @subnet4: first address of the node's own IPv4 subnet, which is also the source of ICMP errors
 * @subnet6: the same for IPv6
 * @subnet4_len: bits of @subnet4 that count, 96 to 128; 0 for no subnet
 * @subnet6_len: bits of @subnet6 that count; 0 for no subnet
 * @carry_tos: carry DSCP and ECN between inner and outer header
 * @check_sender: accept packets of a lease only from its own underlay address
 * @mtu: bytes of the largest inner packet
 * @least_mtu: bytes of an inner packet that every path has to carry, whatever the kernel says of it
 * @icmp_rate: ICMP errors a second, in the long run; 0 for none
 * @icmp_burst: ICMP errors that may go out at once
 * @batch: packets, or receive buffers, that a turn takes each way at most; 0 for the loop's own choice
 * @unwanted_features: bit by enum dp_feature: switched off by hand
 * @busy_poll_us: microseconds that a worker without work looks for more before it sleeps
 */
struct dp_config {
    uint8_t subnet4[16];
    uint8_t subnet6[16];
    uint8_t subnet4_len;
    uint8_t subnet6_len;
    uint8_t carry_tos;
    uint8_t check_sender;
    uint32_t mtu;
    uint32_t least_mtu;
    uint32_t icmp_rate;
    uint32_t icmp_burst;
    uint32_t batch;
    uint32_t unwanted_features;
    uint32_t busy_poll_us;
};

/**
 * struct dp_batch - the arrays of a dataplane.packets.batch.PacketBatch, owned by it
 * @count: packets in the batch
 * @arena: bytes of all packets
 * @offset: where each packet lies in @arena
 * @length: bytes of each packet
 * @received: bytes of each packet as it was read
 * @verdict: an enum dp_verdict each
 * @egress: an enum dp_egress each
 * @next_hop: peer id each, or -1
 * @fragment_len: bytes of the largest fragment that each is cut into, or 0
 * @no_df: whether each goes in a datagram without DF
 * @tos: TOS byte of each outer header
 * @source: underlay address that each datagram came from, 16 bytes each
 */
struct dp_batch {
    size_t count;
    uint8_t *arena;
    uint32_t *offset;
    uint32_t *length;
    uint32_t *received;
    uint8_t *verdict;
    uint8_t *egress;
    int32_t *next_hop;
    uint32_t *fragment_len;
    uint8_t *no_df;
    uint8_t *tos;
    uint8_t *source;
};

/**
 * struct dp_peer - a node on the other side of the underlay
 * @address: its underlay address
 * @id: a small number, at most DP_MAX_PEER_ID
 * @generation: tells apart two peers that had the same id one after the other; never 0
 * @port: its UDP port, in host byte order
 */
struct dp_peer {
    uint8_t address[16];
    int32_t id;
    uint32_t generation;
    uint32_t port;
};

/**
 * struct dp_prefix - a pod subnet
 * @key: its first address
 * @length: bits of @key that count, 0 to 128
 * @peer: id of the peer that owns it
 */
struct dp_prefix {
    uint8_t key[16];
    uint32_t length;
    int32_t peer;
};

/**
 * struct dp_counters - what one worker has counted; only that worker writes
 * @packets: packets by direction and verdict
 * @bytes: their bytes
 * @events: events
 */
struct dp_counters {
    uint64_t packets[DP_DIRECTION_COUNT][DP_VERDICT_COUNT];
    uint64_t bytes[DP_DIRECTION_COUNT][DP_VERDICT_COUNT];
    uint64_t events[DP_EVENT_COUNT];
};

/**
 * struct dp_peer_counters - a worker's traffic with one peer
 * @tx_packets: packets sent to it
 * @tx_bytes: their inner bytes
 * @rx_packets: packets received from it and forwarded
 * @rx_bytes: their inner bytes
 * @last_rx_ns: when the last of these came
 * @generation: of the peer that all this is about
 */
struct dp_peer_counters {
    uint64_t tx_packets;
    uint64_t tx_bytes;
    uint64_t rx_packets;
    uint64_t rx_bytes;
    uint64_t last_rx_ns;
    uint32_t generation;
};

struct dp_engine;
struct dp_worker;

/**
 * dp_engine_new() - make an engine, with one worker for the functions that take a batch
 * @config: copied
 *
 * Return: the engine, to be given to dp_engine_free(), or NULL when memory is short.
 */
struct dp_engine *dp_engine_new(const struct dp_config *config);

/**
 * dp_engine_free() - free an engine and all its workers, none of which may be running
 * @engine: the engine, or NULL
 */
void dp_engine_free(struct dp_engine *engine);

/**
 * dp_engine_set_routes() - forward by other routes from now on
 * @engine: the engine
 * @peers: all peers
 * @n_peers: how many
 * @prefixes: all prefixes
 * @n_prefixes: how many
 *
 * Workers take the new routes at their next turn; the old ones are freed once none can be using them. Path MTUs of
 * peers that stay are kept. To be called by one thread at a time.
 *
 * Return: 0, -EINVAL when an id or a length is out of range, or -ENOMEM; then the old routes stay.
 */
int dp_engine_set_routes(struct dp_engine *engine, const struct dp_peer *peers, size_t n_peers,
                         const struct dp_prefix *prefixes, size_t n_prefixes);

/**
 * dp_engine_set_path_mtu() - note what the path to a peer carries
 * @engine: the engine
 * @peer: the peer's id; unknown ones are ignored
 * @mtu: bytes of the largest inner packet; 0 for as configured
 * @now_ns: the time
 *
 * To be called by the thread that sets the routes.
 */
void dp_engine_set_path_mtu(struct dp_engine *engine, int32_t peer, uint32_t mtu, uint64_t now_ns);

/**
 * dp_engine_path_mtu() - bytes of the largest inner packet to a peer
 * @engine: the engine
 * @peer: the peer's id
 *
 * To be called by the thread that sets the routes.
 *
 * Return: the number; the configured one for an unknown peer.
 */
uint32_t dp_engine_path_mtu(struct dp_engine *engine, int32_t peer);

/**
 * dp_engine_learned_mtu() - what was noted of the path to a peer
 * @engine: the engine
 * @peer: the peer's id
 * @since_ns: where it is put since when
 *
 * To be called by the thread that sets the routes.
 *
 * Return: bytes of the largest inner packet, maybe less than @least_mtu; 0 when it is as configured.
 */
uint32_t dp_engine_learned_mtu(struct dp_engine *engine, int32_t peer, uint64_t *since_ns);

/**
 * dp_engine_encapsulate() - decide about packets read from the TUN
 * @engine: the engine
 * @batch: the packets
 * @now_ns: the time
 */
void dp_engine_encapsulate(struct dp_engine *engine, const struct dp_batch *batch, uint64_t now_ns);

/**
 * dp_engine_decapsulate() - decide about datagrams read from the underlay
 * @engine: the engine
 * @batch: the datagrams
 * @now_ns: the time
 */
void dp_engine_decapsulate(struct dp_engine *engine, const struct dp_batch *batch, uint64_t now_ns);

/**
 * dp_engine_fit_anew() - decide once more about an encapsulated packet that the underlay refused for its size
 * @engine: the engine, to which the peer's path MTU is known by now
 * @batch: the packets
 * @i: which of them
 * @now_ns: the time
 *
 * Return: whether it is to be sent again; if not, it is TOO_BIG and answered.
 */
int dp_engine_fit_anew(struct dp_engine *engine, const struct dp_batch *batch, size_t i, uint64_t now_ns);

/**
 * dp_fragment() - cut a packet into fragments, all in one place; the loop does the same without copying
 * @packet: the packet
 * @len: its bytes
 * @mtu: bytes of the largest fragment
 * @out: where they are put, one behind the other
 * @out_len: bytes of that place
 *
 * Return: bytes of all fragments, -EINVAL when the packet may not or cannot be cut, or -ENOBUFS.
 */
int64_t dp_fragment(const uint8_t *packet, size_t len, size_t mtu, uint8_t *out, size_t out_len);

/**
 * dp_engine_count() - count every packet of a batch under its final verdict
 * @engine: the engine
 * @direction: an enum dp_direction
 * @batch: the packets
 * @now_ns: the time
 */
void dp_engine_count(struct dp_engine *engine, int direction, const struct dp_batch *batch, uint64_t now_ns);

/**
 * dp_engine_worker() - one of the engine's workers
 * @engine: the engine
 * @i: 0 for the one that takes batches, then those added, in order
 *
 * To be called by the thread that sets the routes.
 *
 * Return: the worker, or NULL when there are fewer.
 */
struct dp_worker *dp_engine_worker(struct dp_engine *engine, size_t i);

/**
 * dp_worker_counters() - what a worker has counted
 * @worker: the worker, which may be running
 * @counters: filled in; no number is torn
 */
void dp_worker_counters(const struct dp_worker *worker, struct dp_counters *counters);

/**
 * dp_worker_peer_counters() - what a worker has counted of its traffic with one peer
 * @worker: the worker, which may be running
 * @peer: the peer's id
 * @counters: filled in: numbers of one generation of the peer, none of which is torn
 *
 * Return: 1, or 0 when nothing was counted.
 */
int dp_worker_peer_counters(const struct dp_worker *worker, int32_t peer, struct dp_peer_counters *counters);

/**
 * dp_engine_add_worker() - one more worker, idle
 * @engine: the engine, which frees it
 *
 * To be called by the thread that sets the routes.
 *
 * Return: the worker, or NULL when memory is short.
 */
struct dp_worker *dp_engine_add_worker(struct dp_engine *engine);

/**
 * dp_engine_feature() - whether a feature is in use
 * @engine: the engine
 * @feature: an enum dp_feature
 * @error: where the errno is put that it was refused with or failed with
 *
 * Return: an enum dp_feature_state.
 */
int dp_engine_feature(const struct dp_engine *engine, int feature, int *error);

/**
 * dp_worker_run() - move packets between a TUN queue and a UDP socket
 * @worker: used by the calling thread alone until this returns
 * @tun_fd: the TUN queue, non-blocking, with or without IFF_VNET_HDR
 * @udp_fd: the UDP socket, non-blocking
 * @stop_fd: the worker stops when this becomes readable
 *
 * Return: 0 when stopped; 1 when a feature has failed and somebody should be told, after which the worker is to be run
 * again; -EBADFD when the TUN device is gone, or another -errno.
 */
int dp_worker_run(struct dp_worker *worker, int tun_fd, int udp_fd, int stop_fd);

/**
 * dp_checksum() - the Internet checksum (RFC 1071)
 * @data: the bytes
 * @len: how many
 *
 * Return: the checksum in host byte order.
 */
uint16_t dp_checksum(const uint8_t *data, size_t len);

/**
 * dp_kernel_spoils_segments() - whether a kernel is known to spoil what UDP_SEGMENT makes of segments of equal length
 * @release: its release, as uname(2) has it
 *
 * Linux 7.0 to 7.1.4: commit b10b446 brought it, 78effd8 and 5f17ae0 mended it. Nothing fails, packets just do not
 * arrive, so this cannot be probed.
 */
int dp_kernel_spoils_segments(const char *release);

/**
 * dp_checksum_variant() - the name of the implementation that was chosen for this processor
 *
 * Return: a constant.
 */
const char *dp_checksum_variant(void);
