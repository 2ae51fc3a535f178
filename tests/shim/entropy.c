/* Makes every source of randomness of a simulation a function of its seed, and its monotonic clock a count of the looks at
 * it.
 *
 * Randomness: the keys of hash maps, the branch that tokio's select! looks at first, the ids that are minted, the election
 * timeouts. std calls getrandom through a weak symbol exactly so that it may be interposed; the getrandom crate finds it
 * by name, and its older releases (rand 0.8, openraft's election timeouts) ask by number through syscall. Nothing that
 * must stay secret runs under it: it is loaded into the simulator alone, by the simulator itself.
 *
 * The monotonic clock: the simulation lives on tokio's own, which is paused; but h2 forgets a stream that was reset after a
 * second of the real one, and answers a late frame for it otherwise than before. On a busy machine that second passes
 * in the middle of a simulated millisecond, and the seed goes another way. Here each look takes LOOK nanoseconds,
 * and nothing else takes any: one thread looks as often for the same seed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>

static uint64_t state;
static int ready;

static uint64_t next(void) {
    uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

ssize_t getrandom(void *buffer, size_t length, unsigned int flags) {
    unsigned char *out = buffer;
    (void)flags;
    if (!ready) {
        const char *seed = getenv("QUORATE_SIM_ENTROPY");
        state = seed ? strtoull(seed, 0, 10) : 0;
        ready = 1;
    }
    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = next();
        for (size_t n = at; n < length && n < at + 8; n++, word >>= 8) {
            out[n] = (unsigned char)word;
        }
    }
    return (ssize_t)length;
}

/* Whoever asks the kernel by number gets the same; everything else goes through. */
long syscall(long number, ...) {
    static long (*real)(long, ...);
    long a[6];
    va_list all;
    va_start(all, number);
    for (int n = 0; n < 6; n++) {
        a[n] = va_arg(all, long);
    }
    va_end(all);
    if (number == SYS_getrandom) {
        return getrandom((void *)a[0], (size_t)a[1], (unsigned int)a[2]);
    }
    if (!real) {
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* About what a look costs on a machine that is not busy, with all that is done between two of them. */
#define LOOK 20000

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    static int64_t now = 1000000000000000LL;
    if (clock == CLOCK_MONOTONIC) {
        now += LOOK;
        at->tv_sec = now / 1000000000;
        at->tv_nsec = now % 1000000000;
        return 0;
    }
    if (!real) {
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    }
    return real(clock, at);
}
