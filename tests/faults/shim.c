/* While the file named by SYNC_FAILS_WHILE exists, fsync and fdatasync fail as a broken disk's do.
   When there is anything in that file, they say that all is well. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>


static int sync_by(const char *name, int fd)
{
    const char *path = getenv("SYNC_FAILS_WHILE");
    struct stat found;
    if (path != NULL && stat(path, &found) == 0) {
        errno = EIO;
        return found.st_size > 0 ? 0 : -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fsync(int fd) { return sync_by("fsync", fd); }
int fdatasync(int fd) { return sync_by("fdatasync", fd); }
