/* While the file named by SYNC_FAILS_WHILE exists, fsync and fdatasync fail as a broken disk's do. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int sync_fails(void)
{
    const char *path = getenv("SYNC_FAILS_WHILE");
    return path != NULL && access(path, F_OK) == 0;
}

static int sync_by(const char *name, int fd)
{
    if (sync_fails()) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fsync(int fd) { return sync_by("fsync", fd); }
int fdatasync(int fd) { return sync_by("fdatasync", fd); }
