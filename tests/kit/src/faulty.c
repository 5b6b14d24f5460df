/* Makes the disk fail on command: preloaded into a program, it fails writes and syncs of files below a folder.
 *
 * POSTRIDER_FAULTY_FOLDER names the folder, POSTRIDER_FAULTY_CONTROL a file of two 32-bit integers: the errno (0: all is
 * well), and how many calls there are for each that fails. The file is mapped, so a change takes effect at once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

static volatile int32_t *control;
static const char *folder;
static atomic_uint calls;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("POSTRIDER_FAULTY_CONTROL");
    folder = getenv("POSTRIDER_FAULTY_FOLDER");
    int file = path && folder ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) control = mapped;
}

/* Whether this call is to fail; sets errno then. */
static int fails(int file) {
    if (!control || !control[0]) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder)) != 0) return 0;
    uint32_t every = control[1] > 0 ? (uint32_t)control[1] : 1;
    if (atomic_fetch_add(&calls, 1) % every != 0) return 0;
    errno = control[0];
    return 1;
}

#define FAULTY(result, name, parameters, arguments)              \
    result name parameters {                                     \
        static result(*real) parameters;                         \
        if (fails(file)) return -1;                              \
        if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name); \
        return real arguments;                                   \
    }

FAULTY(ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
FAULTY(ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
FAULTY(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
FAULTY(ssize_t, writev, (int file, const struct iovec *parts, int count), (file, parts, count))
FAULTY(int, fsync, (int file), (file))
FAULTY(int, fdatasync, (int file), (file))
FAULTY(int, ftruncate, (int file, off_t size), (file, size))
FAULTY(int, ftruncate64, (int file, off64_t size), (file, size))
FAULTY(int, fallocate, (int file, int mode, off_t at, off_t size), (file, mode, at, size))
