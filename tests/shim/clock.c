/* Turns the wall clock of one process by QUORATE_CLOCK_OFFSET seconds, as a host without a battery shows it; or, while it
 * runs, by the seconds that the symbolic link QUORATE_CLOCK_LINK names as its target, or the one that is called by its pid in
 * QUORATE_CLOCK_DIR. The monotonic clocks, and with them every timer, stay as they are. std, jiff and rustls ask clock_gettime;
 * C code may ask the others. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t offset(void) {
    const char *link = getenv("QUORATE_CLOCK_LINK");
    const char *dir = getenv("QUORATE_CLOCK_DIR");
    char own[512];
    if (dir && snprintf(own, sizeof own, "%s/%ld", dir, (long)getpid()) < (int)sizeof own) {
        link = own;
    }
    if (link) {
        char target[32];
        ssize_t length = readlink(link, target, sizeof target - 1);
        if (length < 0) {
            return 0;
        }
        target[length] = 0;
        return (time_t)strtoll(target, 0, 10);
    }
    const char *text = getenv("QUORATE_CLOCK_OFFSET");
    return text ? (time_t)strtoll(text, 0, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) {
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    }
    int failed = real(clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        at->tv_sec += offset();
    }
    return failed;
}

time_t time(time_t *out) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (out) {
        *out = at.tv_sec;
    }
    return at.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    (void)zone;
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    out->tv_sec = at.tv_sec;
    out->tv_usec = at.tv_nsec / 1000;
    return 0;
}
