/*
 * shim.c - a host whose clock is set and whose memory is short, for one process.
 *
 * Preloaded into a node (LD_PRELOAD). The file that UDPLANE_CHAOS names is shared with the test: see shim.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Zero means nothing is wrong. The order is that of FIELDS in shim.py. */
struct wrong {
    int64_t clock_seconds;  /* the time of day is so much later */
    int64_t refuse_size;    /* allocations of so many bytes or more fail */
    int64_t refused;        /* counts them */
};

static struct wrong none;
static volatile struct wrong *wrong = &none;

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("UDPLANE_CHAOS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *shared = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *wrong, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (fd >= 0)
        close(fd);
    if (shared != MAP_FAILED)
        wrong = shared;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = (int)syscall(SYS_clock_gettime, clock, time);

    if (result == 0 && clock == CLOCK_REALTIME)
        time->tv_sec += wrong->clock_seconds;
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
    struct timespec now;

    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}

static int is_refused(size_t size)
{
    if (!wrong->refuse_size || size < (size_t)wrong->refuse_size)
        return 0;
    __atomic_add_fetch(&wrong->refused, 1, __ATOMIC_RELAXED);
    errno = ENOMEM;
    return 1;
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);

void *malloc(size_t size)
{
    return is_refused(size) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return is_refused(n * size) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    return is_refused(size) ? NULL : __libc_realloc(old, size);
}
