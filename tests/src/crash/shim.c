/*
 * The power-cut shim: what of a directory would still be there if the power went now, and calls that fail on demand.
 *
 * Loaded with LD_PRELOAD into a process under test and the children it starts (README.md beside this file). It only looks
 * at files below QUORATE_CRASH_ROOT. Below QUORATE_CRASH_IMAGE, on the same file system, it keeps
 *
 *     i/<inode>   the content of a file as of its last barrier (fsync, fdatasync, or a write with O_DSYNC / RWF_DSYNC)
 *     d/<inode>   the names of a directory as of its last fsync: "<inode> <f|d> <name>" a line
 *     h/<inode>   a hard link to each file seen, so that an inode number is not used again while the test lasts
 *     b/<inode>   a bit for each 4 KiB block written since the last barrier, shared by all processes
 *
 * sync_file_range is no barrier: it neither waits for the drive's cache nor writes the file's size. It is answered with
 * success and does nothing.
 *
 * QUORATE_CRASH_FAULT="<call> <file>:<n>:<action>" acts at the n-th such call of all processes together: `kill` before
 * it, `half` after half of a write, `eio`, `enospc`, `short` (half is written, and told), `delay` (50 ms).
 * QUORATE_CRASH_SKIP="<call> <file>" makes every such barrier a lie: it succeeds and is none. `dsync` is the barrier
 * part of a synchronous write. QUORATE_CRASH_TRACE=<file> gets a line "<call> <file>" for each call.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
/* 256 MiB of file: far above any store of a test. */
#define BLOCKS 65536
/* A helper makes some files for each execution. */
#define MAX_MAPS 8192

static const char *root, *image, *skip;
static size_t root_len;
static int trace_fd = -1;
static char fault_point[512], fault_action[16];
static unsigned fault_at;
static _Atomic unsigned *fault_count;

static struct { ino_t ino; _Atomic uint32_t *bits; } maps[MAX_MAPS];
static _Atomic int map_count;
static _Atomic int map_lock;

/* Straight to the kernel: nothing here may meet its own interposition. */
static long sys(long n, long a, long b, long c, long d, long e, long f) { return syscall(n, a, b, c, d, e, f); }
static int sys_open(const char *path, int flags) { return (int)sys(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, 0600, 0, 0); }
static ssize_t sys_pwrite(int fd, const void *p, size_t n, off_t at) { return sys(SYS_pwrite64, fd, (long)p, (long)n, at, 0, 0); }
static ssize_t sys_write(int fd, const void *p, size_t n) { return sys(SYS_write, fd, (long)p, (long)n, 0, 0, 0); }

__attribute__((constructor)) static void begin(void) {
    root = getenv("QUORATE_CRASH_ROOT");
    image = getenv("QUORATE_CRASH_IMAGE");
    if (!root || !image) { root = NULL; return; }
    root_len = strlen(root);
    skip = getenv("QUORATE_CRASH_SKIP");
    const char *trace = getenv("QUORATE_CRASH_TRACE");
    if (trace) trace_fd = sys_open(trace, O_WRONLY | O_CREAT | O_APPEND);
    const char *fault = getenv("QUORATE_CRASH_FAULT");
    if (!fault) return;
    char text[512], path[PATH_MAX];
    snprintf(text, sizeof text, "%s", fault);
    char *action = strrchr(text, ':');
    if (!action) return;
    *action++ = 0;
    char *nth = strrchr(text, ':');
    if (!nth) return;
    *nth++ = 0;
    snprintf(fault_action, sizeof fault_action, "%s", action);
    snprintf(fault_point, sizeof fault_point, "%s", text);
    fault_at = (unsigned)atoi(nth);
    snprintf(path, sizeof path, "%s/count", image);
    int fd = sys_open(path, O_RDWR | O_CREAT);
    if (fd < 0) return;
    if (sys(SYS_ftruncate, fd, 64, 0, 0, 0, 0) == 0) {
        void *at = mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (at != MAP_FAILED) fault_count = at;
    }
    close(fd);
}

static int below_root(const char *path) {
    return root && strncmp(path, root, root_len) == 0 && (path[root_len] == '/' || path[root_len] == 0);
}

/* The path behind a descriptor when it lies below the root. */
static int ours(int fd, char *path) {
    if (!root) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return below_root(path);
}

/* A file's kind: its name with every number of six digits or more, and sled's hexadecimal ones, as '#'. */
static void kind_of(const char *path, char *out, size_t size) {
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    size_t o = 0;
    while (*name && o + 2 < size) {
        size_t run = strspn(name, "0123456789abcdefABCDEF");
        if (run >= 6) { out[o++] = '#'; name += run; } else { out[o++] = *name++; }
    }
    out[o] = 0;
}

enum fault { NONE, FAIL, SHORT, HALF };

/* Notes the call; dies or says what is to go wrong. */
static enum fault point(const char *call, const char *path) {
    char kind[128], text[256];
    kind_of(path, kind, sizeof kind);
    int n = snprintf(text, sizeof text, "%s %s\n", call, kind);
    if (trace_fd >= 0) sys_write(trace_fd, text, (size_t)n);
    text[n - 1] = 0;
    if (!fault_count || strcmp(text, fault_point) != 0) return NONE;
    if (atomic_fetch_add(fault_count, 1) + 1 != fault_at) return NONE;
    if (!strcmp(fault_action, "kill")) { kill(0, SIGKILL); for (;;) pause(); }
    if (!strcmp(fault_action, "half")) return HALF;
    if (!strcmp(fault_action, "short")) return SHORT;
    if (!strcmp(fault_action, "eio")) { errno = EIO; return FAIL; }
    if (!strcmp(fault_action, "enospc")) { errno = ENOSPC; return FAIL; }
    if (!strcmp(fault_action, "delay")) { struct timespec t = {0, 50000000}; nanosleep(&t, NULL); }
    return NONE;
}

/* A lie is asked for at this call. */
static int lies(const char *call, const char *path) {
    if (!skip) return 0;
    char kind[128], text[256];
    kind_of(path, kind, sizeof kind);
    snprintf(text, sizeof text, "%s %s", call, kind);
    return strcmp(text, skip) == 0;
}

/* The dirty bits of a file, shared by all processes. */
static _Atomic uint32_t *bits_of(ino_t ino) {
    int count = atomic_load(&map_count);
    for (int i = 0; i < count; i++)
        if (maps[i].ino == ino) return maps[i].bits;
    int free_lock = 0;
    while (!atomic_compare_exchange_weak(&map_lock, &free_lock, 1)) free_lock = 0;
    _Atomic uint32_t *found = NULL;
    count = atomic_load(&map_count);
    for (int i = 0; i < count && !found; i++)
        if (maps[i].ino == ino) found = maps[i].bits;
    if (!found && count < MAX_MAPS) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/b/%llu", image, (unsigned long long)ino);
        int fd = sys_open(path, O_RDWR | O_CREAT);
        if (fd >= 0 && sys(SYS_ftruncate, fd, BLOCKS / 8, 0, 0, 0, 0) == 0) {
            void *at = mmap(NULL, BLOCKS / 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (at != MAP_FAILED) {
                maps[count].ino = ino;
                maps[count].bits = found = at;
                atomic_store(&map_count, count + 1);
            }
        }
        if (fd >= 0) close(fd);
    }
    atomic_store(&map_lock, 0);
    if (!found) {
        static const char text[] = "crash shim: cannot keep track of a file\n";
        sys_write(2, text, sizeof text - 1);
        abort();
    }
    return found;
}

/* After the write: a barrier that begins later must see it. */
static void dirty(int fd, off_t at, size_t len) {
    struct stat st;
    if (len == 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return;
    _Atomic uint32_t *bits = bits_of(st.st_ino);
    for (off_t b = at / BLOCK; b <= (off_t)(at + len - 1) / BLOCK && b < BLOCKS; b++)
        atomic_fetch_or(&bits[b / 32], 1u << (b % 32));
}

static void hold(int fd, ino_t ino) {
    char from[64], to[PATH_MAX];
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    snprintf(to, sizeof to, "%s/h/%llu", image, (unsigned long long)ino);
    sys(SYS_linkat, AT_FDCWD, (long)from, AT_FDCWD, (long)to, AT_SYMLINK_FOLLOW, 0);
}

static int image_of(ino_t ino) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/i/%llu", image, (unsigned long long)ino);
    return sys_open(path, O_RDWR | O_CREAT);
}

/* The barrier reached the device: what was written before it is in the image. A file opened for writing only cannot be
 * read through its descriptor, so it is opened again. */
static void durable(int fd) {
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) return;
    char again[64], block[BLOCK];
    snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
    int live = sys_open(again, O_RDONLY), to = image_of(st.st_ino);
    if (live >= 0 && to >= 0) {
        hold(fd, st.st_ino);
        _Atomic uint32_t *bits = bits_of(st.st_ino);
        off_t last = st.st_size / BLOCK;
        for (off_t w = 0; w <= last / 32 && w < BLOCKS / 32; w++) {
            uint32_t word = atomic_exchange(&bits[w], 0);
            for (int n = 0; word; n++, word >>= 1) {
                if (!(word & 1)) continue;
                off_t at = (w * 32 + n) * BLOCK;
                ssize_t got = pread(live, block, BLOCK, at);
                if (got > 0) sys_pwrite(to, block, (size_t)got, at);
            }
        }
        sys(SYS_ftruncate, to, st.st_size, 0, 0, 0, 0);
    }
    if (live >= 0) close(live);
    if (to >= 0) close(to);
}

/* A synchronous write: only its own bytes are durable, not those before it. */
static void durable_range(int fd, off_t at, const void *bytes, size_t len) {
    struct stat st;
    if (fstat(fd, &st) != 0) return;
    int to = image_of(st.st_ino);
    if (to < 0) return;
    hold(fd, st.st_ino);
    sys_pwrite(to, bytes, len, at);
    close(to);
}

static void durable_names(int fd, const char *dir) {
    struct stat st;
    char tmp[PATH_MAX], path[PATH_MAX], line[PATH_MAX];
    if (fstat(fd, &st) != 0) return;
    snprintf(path, sizeof path, "%s/d/%llu", image, (unsigned long long)st.st_ino);
    snprintf(tmp, sizeof tmp, "%s/d/.%llu.%d", image, (unsigned long long)st.st_ino, (int)getpid());
    int out = sys_open(tmp, O_WRONLY | O_CREAT | O_TRUNC);
    DIR *names = opendir(dir);
    if (out >= 0 && names) {
        struct dirent *e;
        while ((e = readdir(names))) {
            if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
            struct stat item;
            if (fstatat(dirfd(names), e->d_name, &item, AT_SYMLINK_NOFOLLOW) != 0) continue;
            int is_dir = S_ISDIR(item.st_mode);
            if (!is_dir && !S_ISREG(item.st_mode)) continue;
            if (!is_dir) {
                char to[PATH_MAX];
                snprintf(to, sizeof to, "%s/h/%llu", image, (unsigned long long)item.st_ino);
                sys(SYS_linkat, dirfd(names), (long)e->d_name, AT_FDCWD, (long)to, 0, 0);
            }
            int n = snprintf(line, sizeof line, "%llu %c %s\n", (unsigned long long)item.st_ino, is_dir ? 'd' : 'f', e->d_name);
            sys_write(out, line, (size_t)n);
        }
        sys(SYS_renameat, AT_FDCWD, (long)tmp, AT_FDCWD, (long)path, 0, 0);
    }
    if (names) closedir(names);
    if (out >= 0) close(out);
}

static int barrier(const char *call, int fd, long number) {
    char path[PATH_MAX];
    if (!ours(fd, path)) return (int)sys(number, fd, 0, 0, 0, 0, 0);
    struct stat st;
    int is_dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    if (is_dir) call = "dirsync";
    if (point(call, path) == FAIL) return -1;
    if (lies(call, path)) return 0;
    /* The drive is not asked: the image says what it would hold. */
    if (is_dir) durable_names(fd, path); else durable(fd);
    return 0;
}

int fsync(int fd) { return barrier("fsync", fd, SYS_fsync); }
int fdatasync(int fd) { return barrier("fdatasync", fd, SYS_fdatasync); }

int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags) {
    char path[PATH_MAX];
    if (!ours(fd, path)) return (int)sys(SYS_sync_file_range, fd, at, len, flags, 0, 0);
    return point("sync_file_range", path) == FAIL ? -1 : 0;
}

/* One positioned write, synchronous or not. */
static ssize_t write_at(int fd, const void *bytes, size_t len, off_t at, int dsync, const char *path) {
    enum fault fault = point(dsync ? "dsync" : "write", path);
    if (fault == FAIL) return -1;
    if (fault == HALF || fault == SHORT) len = len > 1 ? len / 2 : len;
    ssize_t n = sys_pwrite(fd, bytes, len, at);
    if (n > 0) {
        dirty(fd, at, (size_t)n);
        if (dsync && fault != HALF && !lies("dsync", path)) durable_range(fd, at, bytes, (size_t)n);
    }
    if (fault == HALF) { kill(0, SIGKILL); for (;;) pause(); }
    return n;
}

static int is_dsync(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_DSYNC);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
    char path[PATH_MAX];
    if (!ours(fd, path)) return sys_pwrite(fd, bytes, len, at);
    return write_at(fd, bytes, len, at, is_dsync(fd), path);
}
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { return pwrite64(fd, bytes, len, at); }

ssize_t pwritev64v2(int fd, const struct iovec *v, int count, off64_t at, int flags) {
    char path[PATH_MAX];
    if (at < 0 || count != 1 || !ours(fd, path)) return sys(SYS_pwritev2, fd, (long)v, count, at, 0, flags);
    return write_at(fd, v->iov_base, v->iov_len, at, (flags & RWF_DSYNC) != 0 || is_dsync(fd), path);
}
ssize_t pwritev2(int fd, const struct iovec *v, int count, off_t at, int flags) { return pwritev64v2(fd, v, count, at, flags); }

ssize_t write(int fd, const void *bytes, size_t len) {
    char path[PATH_MAX];
    if (!ours(fd, path)) return sys_write(fd, bytes, len);
    enum fault fault = point("write", path);
    if (fault == FAIL) return -1;
    if (fault == HALF || fault == SHORT) len = len > 1 ? len / 2 : len;
    ssize_t n = sys_write(fd, bytes, len);
    if (n > 0) {
        /* Where the descriptor stands now, also with O_APPEND. */
        off_t end = lseek(fd, 0, SEEK_CUR);
        if (end >= n) dirty(fd, end - n, (size_t)n);
    }
    if (fault == HALF) { kill(0, SIGKILL); for (;;) pause(); }
    return n;
}

int ftruncate64(int fd, off64_t len) {
    char path[PATH_MAX];
    struct stat st;
    if (!ours(fd, path)) return (int)sys(SYS_ftruncate, fd, len, 0, 0, 0, 0);
    if (point("truncate", path) == FAIL) return -1;
    off_t before = fstat(fd, &st) == 0 ? st.st_size : 0;
    int r = (int)sys(SYS_ftruncate, fd, len, 0, 0, 0, 0);
    /* What is cut off and grown again later reads as zeros. */
    off_t low = before < len ? before : len, high = before < len ? len : before;
    if (r == 0 && high > low) dirty(fd, low, (size_t)(high - low));
    return r;
}
int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }

int rename(const char *from, const char *to) {
    if (below_root(to) && point("rename", to) == FAIL) return -1;
    return (int)sys(SYS_renameat, AT_FDCWD, (long)from, AT_FDCWD, (long)to, 0, 0);
}

int unlink(const char *path) {
    if (below_root(path) && point("unlink", path) == FAIL) return -1;
    return (int)sys(SYS_unlinkat, AT_FDCWD, (long)path, 0, 0, 0, 0);
}

int mkdir(const char *path, mode_t mode) {
    if (below_root(path) && point("mkdir", path) == FAIL) return -1;
    return (int)sys(SYS_mkdirat, AT_FDCWD, (long)path, mode, 0, 0, 0);
}

/* Only a file that is not there yet is a point: a failed open of one that is there would be a failed read. */
int open64(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list more;
        va_start(more, flags);
        mode = va_arg(more, mode_t);
        va_end(more);
    }
    int held = -1;
    if (root && (flags & (O_CREAT | O_TRUNC)) && below_root(path)) {
        struct stat st;
        if (fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            if ((flags & O_CREAT) && point("create", path) == FAIL) return -1;
        } else if ((flags & O_TRUNC) && st.st_size > 0) {
            held = (int)st.st_size;
        }
    }
    int fd = (int)sys(SYS_openat, AT_FDCWD, (long)path, flags, mode, 0, 0);
    if (fd >= 0 && held > 0) dirty(fd, 0, (size_t)held);
    return fd;
}
int open(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list more;
        va_start(more, flags);
        mode = va_arg(more, mode_t);
        va_end(more);
    }
    return open64(path, flags, mode);
}
