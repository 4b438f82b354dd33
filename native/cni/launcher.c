/*
 * launcher.c - the executable of every CNI plugin, in an installation that keeps an interpreter warm.
 *
 * Starting Python takes longer than a plugin works. So this program looks for an interpreter that has started already
 * and has the plugins loaded (cni/lib/warm.py), hands it all that a plugin is given, and ends as that one says:
 *
 *     launcher  -> its path, the environment; stdin, stdout, stderr and the working directory as descriptors
 *     warm      -> BEGUN, from then on the work is being done; later the wait status of the process that did it
 *
 * A standard descriptor that is closed is made one that cannot be used: no other file may get its number.
 *
 * In every other case it becomes the plugin by the long way: it executes .udplane/start beside it, which starts an
 * interpreter of its own, and one to be kept warm. A launcher that is killed takes the work with it, as a plugin would.
 * A warm interpreter that does not begin (somebody has stopped or frozen it) is killed, since it has the descriptors:
 * a runtime that waits for the end of the plugin's output would wait for it.
 *
 * Everything that is decided is decided by the warm interpreter, which knows its namespaces and capabilities; this
 * program only makes sure that it belongs to the same user.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_REQUEST 65536 /* a longer environment takes the long way */
#define N_FDS       4
#define BEGUN       (-1)
#ifndef PATIENCE_SECONDS
#define PATIENCE_SECONDS 30 /* for the work to begin */
#endif
#define LOST                                                                                                           \
    "{\n    \"code\": 11,\n    \"msg\": \"the warm interpreter ended before the plugin did\",\n"                       \
    "    \"details\": \"try again\"\n}\n"

extern char **environ;

/* Found by `udplane cni install` in files of its own making. */
static const char mark[] = "The CNI plugins of udplane";

/* Put "<directory of this program>/.udplane/<name>" together; returns 0, or -1 when that is too long. */
static int path_beside(char *path, size_t size, const char *name)
{
    ssize_t len = readlink("/proc/self/exe", path, size - 1);

    if (len < 0)
        return -1;
    path[len] = '\0';
    char *slash = strrchr(path, '/');
    if (!slash)
        return -1;
    size_t room = size - (size_t)(slash - path);
    int written = snprintf(slash, room, "/.udplane/%s", name);
    return written > 0 && (size_t)written < room ? 0 : -1;
}

/* The long way. */
static void start_cold(char **argv)
{
    char path[4096];
    int argc = 0;

    if (path_beside(path, sizeof path, "start"))
        return;
    while (argv[argc])
        argc++;
    char **arguments = calloc((size_t)argc + 2, sizeof *arguments);
    if (!arguments)
        return;
    arguments[0] = path;
    memcpy(arguments + 1, argv, (size_t)argc * sizeof *argv);
    execv(path, arguments);
    fprintf(stderr, "%s: %s; install again with `udplane cni install` (%s)\n", path, strerror(errno), mark);
}

/* Open the standard descriptors that are closed, for what they are not used for; returns 0, or -1. */
static int occupy_standard_fds(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 1 ? O_RDONLY : O_WRONLY) != fd)
            return -1;
    return 0;
}

/* A connection to the warm interpreter, or -1. */
static int connect_to_warm(void)
{
    char link[4096];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t peer_len = sizeof peer;

    if (path_beside(link, sizeof link, "warm"))
        return -1;
    ssize_t len = readlink(link, address.sun_path, sizeof address.sun_path - 1);
    if (len <= 0 || (size_t)len >= sizeof address.sun_path - 1)
        return -1;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (!connect(fd, (struct sockaddr *)&address, sizeof address) &&
        !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len) && peer.uid == geteuid())
        return fd;
    close(fd);
    return -1;
}

/* Append a string with its zero byte; returns the new length, or MAX_REQUEST + 1 when it does not fit. */
static size_t append(char *request, size_t at, const char *text)
{
    size_t len = strlen(text) + 1;

    if (at > MAX_REQUEST || len > MAX_REQUEST - at)
        return MAX_REQUEST + 1;
    memcpy(request + at, text, len);
    return at + len;
}

/* Returns 0, or -1 when the warm interpreter did not get the request. */
static int ask(int fd, const char *launcher)
{
    static char request[MAX_REQUEST];
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(N_FDS * sizeof(int))] = {0};
    int fds[N_FDS] = {0, 1, 2, open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)};
    size_t len = append(request, 0, launcher);

    for (char **variable = environ; *variable; variable++)
        len = append(request, len, *variable);
    if (len > MAX_REQUEST)
        return -1;
    struct iovec iov = {request, len};
    struct msghdr message = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(header), fds, sizeof fds);
    return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* The next answer; returns 0, or -1 when there is none. */
static int receive(int fd, int32_t *answer)
{
    ssize_t len;

    errno = 0;
    do
        len = recv(fd, answer, sizeof *answer, 0);
    while (len < 0 && errno == EINTR);
    return len == (ssize_t)sizeof *answer ? 0 : -1;
}

/* Whether the work has begun. */
static int has_begun(int fd)
{
    const struct timeval patience = {.tv_sec = PATIENCE_SECONDS}, none = {0};
    struct ucred peer;
    socklen_t peer_len = sizeof peer;
    int32_t answer = 0;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int got = receive(fd, &answer);
    if (got < 0 && errno == EAGAIN && !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len) && peer.pid > 1) {
        kill(peer.pid, SIGKILL);
        got = receive(fd, &answer); /* it may have begun at the last moment */
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
    return got == 0 && answer == BEGUN;
}

/* End as the process ended that did the work. */
static int end_as(int status)
{
    if (!WIFSIGNALED(status))
        return WEXITSTATUS(status);
    signal(WTERMSIG(status), SIG_DFL);
    raise(WTERMSIG(status));
    return 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
    int32_t answer = 0;

    if (occupy_standard_fds()) {
        fprintf(stderr, "%s: a standard descriptor is closed, and /dev/null: %s\n", argv[0], strerror(errno));
        return 1;
    }
    /* With arguments it is not a plugin: `dhcp daemon`. */
    int fd = argc == 1 ? connect_to_warm() : -1;

    if (fd < 0 || ask(fd, argv[0]) || !has_begun(fd)) {
        start_cold(argv);
        return 1;
    }
    if (!receive(fd, &answer))
        return end_as(answer);
    if (write(1, LOST, sizeof LOST - 1) < 0)
        return 2;
    return 1;
}
