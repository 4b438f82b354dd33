/* send.c - building messages and handing them to the kernel. */
#include "send.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

#include "flow.h"
#include "source.h"

#define V4_OVERHEAD 28
#define V6_OVERHEAD 48

int dp_sender_open(struct dp_sender *sender, int udp_fd)
{
    int domain;
    socklen_t len = sizeof domain;

    sender->udp_fd = sender->sockets[0] = udp_fd;
    sender->n_sockets = 1;
    sender->probe_fd = dp_source_open(udp_fd);
    if (getsockopt(udp_fd, SOL_SOCKET, SO_DOMAIN, &domain, &len))
        return -errno;
    sender->v6 = domain == AF_INET6;
    return 0;
}

int dp_sender_spread(struct dp_sender *sender)
{
    int sources[N_SOURCE_PORTS];

    for (uint32_t i = 0; i < N_SOURCE_PORTS; i++) {
        sources[i] = dp_source_open(sender->udp_fd);
        if (sources[i] >= 0)
            continue;
        for (uint32_t opened = 0; opened < i; opened++)
            close(sources[opened]);
        return sources[i];
    }
    memcpy(sender->sockets, sources, sizeof sources);
    sender->n_sockets = N_SOURCE_PORTS;
    return 0;
}

void dp_sender_close(struct dp_sender *sender)
{
    for (uint32_t i = 0; i < sender->n_sockets; i++)
        if (sender->sockets[i] != sender->udp_fd)
            close(sender->sockets[i]);
    if (sender->probe_fd >= 0)
        close(sender->probe_fd);
}

static struct dp_message *last_message(struct dp_sender *sender)
{
    return sender->n_messages ? &sender->messages[sender->n_messages - 1] : NULL;
}

/* How many segments of a size one message takes. */
static uint32_t message_limit(size_t segment_len)
{
    size_t fitting = MAX_SEND_BYTES / (segment_len ? segment_len : 1);
    return fitting < 1 ? 1 : (uint32_t)min_size(fitting, MAX_PER_SEND);
}

void dp_sender_begin(struct dp_sender *sender, const struct dp_packet *packet, size_t segment_len, size_t n_segments,
                     int combine)
{
    struct dp_message *message = last_message(sender);
    struct dp_flow flow = dp_flow_of(packet->data, packet->len);
    uint32_t source = packet->no_df ? NO_DF_SOURCE : dp_flow_hash(packet->data, &flow) % sender->n_sockets;
    /* The kernel does not segment what it has to fragment. */
    uint32_t most = combine && !packet->no_df ? message_limit(segment_len) : 1;
    uint32_t n_messages = ((uint32_t)n_segments + most - 1) / most;

    sender->next = (struct dp_message){
        .peer = packet->peer,
        .limit = n_messages > 1 ? ((uint32_t)n_segments + n_messages - 1) / n_messages : most,
        .segment_len = (uint32_t)segment_len,
        .source = (uint8_t)source,
        .tos = packet->tos,
    };
    sender->start_next = !message || message->peer != packet->peer || message->tos != packet->tos ||
                         message->source != source || segment_len > message->segment_len ||
                         (n_segments > 1 && segment_len < message->segment_len) ||
                         message->n_segments + n_segments > message->limit;
}

void dp_sender_add(struct dp_sender *sender, struct dp_packet *packet, size_t header_len, const uint8_t *payload,
                   size_t payload_len, size_t counted)
{
    struct dp_message *message = last_message(sender);
    struct dp_segment *segment = &sender->segments[sender->n_segments];
    uint32_t len = (uint32_t)(header_len + payload_len);

    assert(!dp_sender_full(sender) && header_len <= MAX_SEGMENT_HEADER && header_len + payload_len <= MAX_PACKET_LEN);
    if (sender->start_next || !message || message->closed || message->n_segments == message->limit ||
        message->bytes + len > MAX_SEND_BYTES) {
        message = &sender->messages[sender->n_messages++];
        *message = sender->next;
        message->first = sender->n_segments;
        sender->start_next = 0;
    }
    *segment = (struct dp_segment){
        .packet = packet,
        .len = len,
        .counted = (uint32_t)counted,
        .first_iov = (uint16_t)sender->n_iovs,
    };
    if (header_len)
        sender->iovs[sender->n_iovs++] = (struct iovec){dp_sender_header(sender), header_len};
    if (payload_len)
        sender->iovs[sender->n_iovs++] = (struct iovec){(uint8_t *)(uintptr_t)payload, payload_len};
    segment->n_iovs = (uint16_t)(sender->n_iovs - segment->first_iov);
    sender->n_segments++;
    message->n_segments++;
    message->bytes += len;
    message->n_packets += counted != 0;
    message->counted += segment->counted;
    message->closed = len < message->segment_len;
}

static socklen_t put_address(struct dp_envelope *envelope, const struct dp_route_peer *peer, int v6)
{
    if (v6 || !dp_key_is_v4(&peer->key)) { /* an IPv4 socket refuses this with EAFNOSUPPORT, as it should */
        envelope->to.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(peer->port)};
        memcpy(&envelope->to.v6.sin6_addr, &peer->key, 16);
        return sizeof envelope->to.v6;
    }
    envelope->to.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(peer->port)};
    memcpy(&envelope->to.v4.sin_addr, (const uint8_t *)&peer->key + 12, 4);
    return sizeof envelope->to.v4;
}

static void put_control(struct msghdr *header, int level, int type, const void *value, size_t len)
{
    struct cmsghdr *control = (struct cmsghdr *)(void *)((uint8_t *)header->msg_control + header->msg_controllen);

    assert(header->msg_controllen + CMSG_SPACE(len) <= sizeof((struct dp_envelope *)0)->control);
    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(control), value, len);
    header->msg_controllen += CMSG_SPACE(len);
}

static void put_tos(struct msghdr *header, uint8_t tos, int v6)
{
    int value = tos;

    if (tos)
        put_control(header, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TCLASS : IP_TOS, &value, sizeof value);
}

/* Make the kernel's form of @n_segments segments of a message from @first on. */
static void put_message(struct dp_sender *sender, struct mmsghdr *entry, struct dp_envelope *envelope,
                        const struct dp_routes *routes, const struct dp_message *message, uint32_t first,
                        uint32_t n_segments)
{
    const struct dp_segment *last = &sender->segments[first + n_segments - 1];
    uint32_t first_iov = sender->segments[first].first_iov;
    struct msghdr *header = &entry->msg_hdr;

    *header = (struct msghdr){
        .msg_name = &envelope->to,
        .msg_namelen = put_address(envelope, &routes->peers[message->peer], sender->v6),
        .msg_iov = &sender->iovs[first_iov],
        .msg_iovlen = last->first_iov + last->n_iovs - first_iov,
        .msg_control = envelope->control,
    };
    put_tos(header, message->tos, sender->v6);
    if (n_segments > 1) {
        uint16_t segment_len = (uint16_t)message->segment_len;
        put_control(header, IPPROTO_UDP, UDP_SEGMENT, &segment_len, sizeof segment_len);
    }
}

/* Send @n entries of the vector by one socket; those that fail have their errno noted as a negative length. */
static void send_vector(int fd, struct mmsghdr *vector, uint32_t n)
{
    while (n > 0) {
        int sent = sendmmsg(fd, vector, n, MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0) {
            vector->msg_len = (unsigned int)-errno;
            sent = 1;
        }
        vector += sent;
        n -= (uint32_t)sent;
    }
}

/*
 * Send @n entries of the vector by a source. Datagrams without DF are rare, so the worker's own socket is switched for
 * them: they come from the port that packet filters expect.
 */
static void send_by(struct dp_sender *sender, uint32_t source, struct mmsghdr *vector, uint32_t n)
{
    if (source != NO_DF_SOURCE) {
        send_vector(sender->sockets[source], vector, n);
        return;
    }
    dp_source_set_df(sender->udp_fd, sender->v6, 0);
    send_vector(sender->udp_fd, vector, n);
    dp_source_set_df(sender->udp_fd, sender->v6, 1);
}

static int failure_of(const struct mmsghdr *entry)
{
    int result = (int)entry->msg_len;
    return result < 0 ? -result : 0;
}

/* Send the segments of a message one by one; returns whether one of them was too large. */
static int send_singly(struct dp_sender *sender, const struct dp_message *message, const struct dp_routes *routes,
                       dp_sent_fn *sent, void *context)
{
    int too_big = 0;

    for (uint32_t i = message->first; i < message->first + message->n_segments; i++) {
        struct dp_envelope envelope;
        struct mmsghdr entry;
        put_message(sender, &entry, &envelope, routes, message, i, 1);
        send_by(sender, message->source, &entry, 1);
        int error = failure_of(&entry);
        too_big |= error == EMSGSIZE;
        const struct dp_segment *segment = &sender->segments[i];
        sent(context, segment, message->peer, segment->counted != 0, segment->counted, error);
    }
    return too_big;
}

static void finish_message(struct dp_sender *sender, const struct dp_message *message, int error,
                           const struct dp_routes *routes, struct dp_features *features, dp_sent_fn *sent,
                           void *context)
{
    if (!error || message->n_segments == 1) {
        sent(context, &sender->segments[message->first], message->peer, message->n_packets, message->counted, error);
        return;
    }
    /* When segments are larger than the path, kernels before 6.14 say EINVAL too: that is not the feature's fault. */
    if (!send_singly(sender, message, routes, sent, context) && (error == EIO || error == EINVAL || error == EMSGSIZE))
        dp_feature_fail(features, DP_FEATURE_GSO, error);
}

void dp_sender_flush(struct dp_sender *sender, const struct dp_routes *routes, struct dp_features *features,
                     dp_sent_fn *sent, void *context)
{
    for (uint32_t source = 0; source <= NO_DF_SOURCE; source++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < sender->n_messages; i++) {
            const struct dp_message *message = &sender->messages[i];
            if (message->source != source)
                continue;
            put_message(sender, &sender->vector[n], &sender->envelopes[n], routes, message, message->first,
                        message->n_segments);
            n++;
        }
        if (n == 0)
            continue;
        send_by(sender, source, sender->vector, n);
        n = 0;
        for (uint32_t i = 0; i < sender->n_messages; i++)
            if (sender->messages[i].source == source)
                finish_message(sender, &sender->messages[i], failure_of(&sender->vector[n++]), routes, features, sent,
                               context);
    }
    sender->n_segments = sender->n_messages = sender->n_iovs = 0;
}

int dp_sender_send_now(struct dp_sender *sender, const struct dp_route_peer *peer, const struct dp_packet *packet,
                       struct iovec *iovs, size_t n_iovs)
{
    struct dp_envelope envelope;
    struct mmsghdr entry = {.msg_hdr = {
                                .msg_name = &envelope.to,
                                .msg_namelen = put_address(&envelope, peer, sender->v6),
                                .msg_iov = iovs,
                                .msg_iovlen = n_iovs,
                                .msg_control = envelope.control,
                            }};

    put_tos(&entry.msg_hdr, packet->tos, sender->v6);
    send_by(sender, packet->no_df ? NO_DF_SOURCE : 0, &entry, 1);
    return failure_of(&entry);
}

int dp_sender_path_mtu(const struct dp_sender *sender, const struct dp_route_peer *peer)
{
    struct dp_envelope envelope;
    socklen_t address_len = put_address(&envelope, peer, sender->v6), mtu_len = sizeof(int);
    int mtu = 0;

    /* Connecting a datagram socket sends nothing, but looks up the route. */
    if (connect(sender->probe_fd, &envelope.to.any, address_len) ||
        getsockopt(sender->probe_fd, sender->v6 ? IPPROTO_IPV6 : IPPROTO_IP, sender->v6 ? IPV6_MTU : IP_MTU, &mtu,
                   &mtu_len))
        return -errno;
    return mtu - (sender->v6 ? V6_OVERHEAD : V4_OVERHEAD);
}
