/* Makes writing calls fail for files whose path contains $FAILING_IO_FILE: those from number $FAILING_IO_FROM to number
 * $FAILING_IO_TO, counted from one, with the error $FAILING_IO_ERROR. Prints the number of calls at the end.
 * Loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static int fails(int file) {
    char link[64], path[4096];
    const char *wanted = getenv("FAILING_IO_FILE");
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!wanted || length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, wanted)) return 0;
    long call = atomic_fetch_add(&calls, 1) + 1;
    if (call < number("FAILING_IO_FROM") || call > number("FAILING_IO_TO")) return 0;
    errno = (int)number("FAILING_IO_ERROR");
    return 1;
}

#define FAILING(result, name, parameters, arguments)            \
    result name parameters {                                    \
        static result(*real) parameters;                        \
        if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name); \
        return fails(file) ? -1 : real arguments;               \
    }

FAILING(ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
FAILING(ssize_t, pwrite, (int file, const void *data, size_t size, off_t place), (file, data, size, place))
FAILING(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t place), (file, data, size, place))
FAILING(int, fsync, (int file), (file))
FAILING(int, fdatasync, (int file), (file))
FAILING(int, ftruncate, (int file, off_t size), (file, size))
FAILING(int, ftruncate64, (int file, off64_t size), (file, size))

__attribute__((destructor)) static void print(void) { fprintf(stderr, "calls %ld\n", (long)calls); }
