/* Fails or kills a program at its n-th change of files below a folder, to see what the next run makes of it. Loaded with
 * LD_PRELOAD.
 *
 *     INJECT_BELOW   a part of the paths that count
 *     INJECT_AT      the change that it happens at, from 1; 0 for none
 *     INJECT_HOW     kill (SIGKILL) | eio (EIO once) | full (ENOSPC once) | stays-full (ENOSPC from there on) | log (nothing)
 *     INJECT_TOLD    a file, elsewhere, that gets a line with what it happened to; with `log`, one for each change
 *
 * Changes are open (to make or empty a file), write, ftruncate, fsync, rename, link, unlink, rmdir, mkdir and utimens. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static long calls;

static int below(const char *path) {
    const char *part = getenv("INJECT_BELOW");
    return part && path && strstr(path, part) != NULL;
}

static const char *place(int descriptor, char path[4096]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, 4095);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

/* The path that a call with a folder's descriptor means. */
static const char *join(int folder, const char *name, char path[4096]) {
    if (name[0] == '/' || folder == AT_FDCWD) return name;
    place(folder, path);
    size_t length = strlen(path);
    snprintf(path + length, 4096 - length, "/%s", name);
    return path;
}

static void tell(const char *what, const char *path) {
    const char *told = getenv("INJECT_TOLD");
    if (!told) return;
    char line[8256];
    int length = snprintf(line, sizeof line, "%s %s\n", what, path);
    /* Not by way of what is replaced here. */
    int file = syscall(SYS_openat, AT_FDCWD, told, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (file < 0) return;
    syscall(SYS_write, file, line, length);
    syscall(SYS_close, file);
}

static int fails(const char *what, const char *path) {
    if (!below(path)) return 0;
    const char *at = getenv("INJECT_AT"), *how = getenv("INJECT_HOW");
    long call = __sync_add_and_fetch(&calls, 1), number = at ? atol(at) : 0;
    if (how && !strcmp(how, "log")) tell(what, path);
    if (!how || number < 1) return 0;
    int stays = !strcmp(how, "stays-full");
    if (call != number && !(stays && call > number)) return 0;
    if (call == number) tell(what, path);
    /* What only takes away needs no room. */
    int frees = !strcmp(what, "unlink") || !strcmp(what, "rmdir");
    if (stays && frees) return 0;
    if (!strcmp(how, "kill")) raise(SIGKILL);
    errno = strcmp(how, "eio") ? ENOSPC : EIO;
    return 1;
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))
#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & O_CREAT) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }
#define MAKES(flags) ((flags) & (O_CREAT | O_TRUNC))

int open(const char *path, int flags, ...) {
    MODE(flags)
    return MAKES(flags) && fails("open", path) ? -1 : REAL(int, open, const char *, int, ...)(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE(flags)
    return MAKES(flags) && fails("open", path) ? -1 : REAL(int, open64, const char *, int, ...)(path, flags, mode);
}
ssize_t write(int file, const void *data, size_t count) {
    char path[4096];
    return fails("write", place(file, path)) ? -1 : REAL(ssize_t, write, int, const void *, size_t)(file, data, count);
}
ssize_t writev(int file, const struct iovec *data, int count) {
    char path[4096];
    if (fails("write", place(file, path))) return -1;
    return REAL(ssize_t, writev, int, const struct iovec *, int)(file, data, count);
}
ssize_t pwrite64(int file, const void *data, size_t count, off64_t offset) {
    char path[4096];
    if (fails("write", place(file, path))) return -1;
    return REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t)(file, data, count, offset);
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t count, unsigned flags) {
    char path[4096];
    if (fails("write", place(out, path))) return -1;
    return REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned)(in, from, out, to, count, flags);
}
int ftruncate64(int file, off64_t size) {
    char path[4096];
    return fails("ftruncate", place(file, path)) ? -1 : REAL(int, ftruncate64, int, off64_t)(file, size);
}
int fsync(int file) {
    char path[4096];
    return fails("fsync", place(file, path)) ? -1 : REAL(int, fsync, int)(file);
}
int fdatasync(int file) {
    char path[4096];
    return fails("fsync", place(file, path)) ? -1 : REAL(int, fdatasync, int)(file);
}
int futimens(int file, const struct timespec times[2]) {
    char path[4096];
    return fails("utimens", place(file, path)) ? -1 : REAL(int, futimens, int, const struct timespec *)(file, times);
}
int rename(const char *from, const char *to) {
    char both[8192];
    snprintf(both, sizeof both, "%s\t%s", from, to);
    return fails("rename", both) ? -1 : REAL(int, rename, const char *, const char *)(from, to);
}
int link(const char *from, const char *to) {
    return fails("link", to) ? -1 : REAL(int, link, const char *, const char *)(from, to);
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    char path[4096];
    if (fails("link", join(b, to, path))) return -1;
    return REAL(int, linkat, int, const char *, int, const char *, int)(a, from, b, to, flags);
}
int unlink(const char *path) {
    return fails("unlink", path) ? -1 : REAL(int, unlink, const char *)(path);
}
int unlinkat(int folder, const char *name, int flags) {
    char path[4096];
    if (fails("unlink", join(folder, name, path))) return -1;
    return REAL(int, unlinkat, int, const char *, int)(folder, name, flags);
}
int rmdir(const char *path) {
    return fails("rmdir", path) ? -1 : REAL(int, rmdir, const char *)(path);
}
int mkdir(const char *path, mode_t mode) {
    return fails("mkdir", path) ? -1 : REAL(int, mkdir, const char *, mode_t)(path, mode);
}
