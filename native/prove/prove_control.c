/* prove_control.c - control messages, ours and the kernel's in any order and number, stay inside their buffers. */
#include <stdlib.h>

#include "../receive.c"
#include "../send.c"
#include "prove.h"

/* As glibc has it. */
struct cmsghdr *__cmsg_nxthdr(struct msghdr *header, struct cmsghdr *control)
{
    size_t room = (size_t)((uint8_t *)header->msg_control + header->msg_controllen - (uint8_t *)control);

    if (control->cmsg_len < sizeof *control || room < sizeof *control ||
        room - sizeof *control < CMSG_ALIGN(control->cmsg_len))
        return NULL;
    return (struct cmsghdr *)((uint8_t *)control + CMSG_ALIGN(control->cmsg_len));
}

/* put_cmsg() of net/core/scm.c: what does not fit is cut off, and said to be as long as what there is. */
static void kernel_puts(struct msghdr *header, size_t room, size_t len)
{
    struct cmsghdr *control = (struct cmsghdr *)((uint8_t *)header->msg_control + header->msg_controllen);
    size_t left = room - header->msg_controllen;

    if (left < sizeof *control)
        return;
    control->cmsg_level = (int)nondet_number();
    control->cmsg_type = (int)nondet_number();
    control->cmsg_len = min_size(CMSG_LEN(len), left);
    header->msg_controllen += min_size(CMSG_SPACE(len), left);
}

static void read_any(void)
{
    _Alignas(struct cmsghdr) uint8_t control[sizeof((struct dp_receiver *)0)->control[0]];
    struct msghdr header = {.msg_control = control};
    struct dp_run run;

    for (int i = 0; i < 3; i++)
        if (nondet_number() % 2)
            kernel_puts(&header, sizeof control, nondet_number() % 2 ? 1 : sizeof(int));
    read_control(&run, &header);
}

static void write_all(void)
{
    struct dp_envelope envelope;
    struct msghdr header = {.msg_control = envelope.control};
    int tos = (int)nondet_number();
    uint16_t segment_len = nondet_short();

    put_control(&header, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
    put_control(&header, IPPROTO_UDP, UDP_SEGMENT, &segment_len, sizeof segment_len);
    __CPROVER_assert(header.msg_controllen <= sizeof envelope.control, "both fit");
}

int main(void)
{
    read_any();
    write_all();
    return 0;
}
