/* Makes every source of randomness of a simulation a function of its seed: the keys of hash maps, the branch that
 * tokio's select! looks at first, the ids that are minted, the election timeouts. std calls getrandom through a weak
 * symbol exactly so that it may be interposed; the getrandom crate finds it by name. Nothing that must stay secret runs
 * under it: it is loaded into the simulator alone, by the simulator itself. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

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
