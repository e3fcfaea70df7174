/* The wall clock of a process, moved while it runs: each reading is shifted by the nanoseconds that
 * the file named by WALL_CLOCK_OFFSET holds. The monotonic clock is left alone, as an NTP step does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static int64_t offset_ns(void)
{
    static const volatile int64_t *shared;
    if (shared == NULL) {
        int fd = open(getenv("WALL_CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC);
        shared = mmap(NULL, sizeof *shared, PROT_READ, MAP_SHARED, fd, 0);
    }
    return *shared;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, now);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        int64_t ns = now->tv_sec * INT64_C(1000000000) + now->tv_nsec + offset_ns();
        now->tv_sec = ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
    }
    return failed;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec moved;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &moved);
    now->tv_sec = moved.tv_sec;
    now->tv_usec = moved.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into)
{
    struct timespec moved;
    clock_gettime(CLOCK_REALTIME, &moved);
    if (into != NULL)
        *into = moved.tv_sec;
    return moved.tv_sec;
}
