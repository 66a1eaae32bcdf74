/*
 * See whole_file.h. Where the file system can, the file has no name until it is complete
 * (O_TMPFILE), so that even kill -9 leaves nothing behind; elsewhere it has a temporary one beside
 * its own.
 */
#include "whole_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_NAMES 100 /* tried before giving up */
#define MAX_LINKS 40  /* as the kernel */

static vecmill_status fail(const char *path, vecmill_error *error) {
  error->status = VECMILL_ERROR_IO;
  snprintf(error->text, sizeof error->text, "cannot write %s: %s", path, strerror(errno));
  return VECMILL_ERROR_IO;
}

static void clear(whole_file *w) {
  if (w->file) fclose(w->file);
  free(w->path);
  free(w->temporary);
  *w = (whole_file){0};
}

static mode_t new_file_mode(void) {
  mode_t mask = umask(0);
  umask(mask);
  return 0666 & ~mask;
}

/* A descriptor to write to, in the folder where the file will stand. */
static int open_unfinished(whole_file *w) {
  char *copy = strdup(w->path);
  if (!copy) return -1;
  int fd = open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  free(copy);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
  if (asprintf(&w->temporary, "%s.XXXXXX", w->path) < 0) {
    w->temporary = NULL;
    return -1;
  }
  return mkstemp(w->temporary);
}

/* Where a name leads, though nothing may stand there yet. NULL: errno says why. */
static char *follow_links(const char *name) {
  char *path = strdup(name), target[PATH_MAX];
  for (unsigned i = 0; path && i < MAX_LINKS; i++) {
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0) return path; /* no link, or nothing */
    target[n] = '\0';
    char *slash = *target == '/' ? NULL : strrchr(path, '/'), *next = NULL;
    int n_folder = slash ? (int)(slash + 1 - path) : 0;
    if (asprintf(&next, "%.*s%s", n_folder, path, target) < 0) next = NULL;
    free(path);
    path = next;
  }
  if (path) errno = ELOOP;
  free(path);
  return NULL;
}

vecmill_status whole_file_open(whole_file *w, const char *path, vecmill_error *error) {
  struct stat there;
  bool exists = stat(path, &there) == 0;
  *w = (whole_file){.is_direct = exists && !S_ISREG(there.st_mode)};
  w->path = w->is_direct ? strdup(path) : follow_links(path);
  int fd = -1;
  /* a file that may not be written may not be replaced either */
  bool may_write = w->path && (!exists || access(path, W_OK) == 0);
  if (may_write) fd = w->is_direct ? open(path, O_WRONLY | O_CLOEXEC) : open_unfinished(w);
  if (fd >= 0 && !w->is_direct) fchmod(fd, exists ? there.st_mode & 0777 : new_file_mode());
  if (fd >= 0 && exists && geteuid() == 0 && fchown(fd, there.st_uid, there.st_gid) != 0)
    errno = 0; /* a file system without owners: root's then */
  w->file = fd >= 0 ? fdopen(fd, w->is_direct ? "w" : "w+") : NULL;
  if (w->file) return VECMILL_OK;
  vecmill_status status = fail(path, error);
  if (fd >= 0) close(fd);
  if (fd >= 0 && w->temporary) unlink(w->temporary);
  clear(w);
  return status;
}

/* Gives the nameless file a name beside its own: a link cannot take the place of a file, a rename
 * can. */
static bool name_it(whole_file *w) {
  char from[64];
  snprintf(from, sizeof from, "/proc/self/fd/%d", fileno(w->file));
  for (unsigned i = 0; i < MAX_NAMES; i++) {
    if (asprintf(&w->temporary, "%s.%ld-%u", w->path, (long)getpid(), i) < 0) break;
    if (linkat(AT_FDCWD, from, AT_FDCWD, w->temporary, AT_SYMLINK_FOLLOW) == 0) return true;
    free(w->temporary);
    if (errno != EEXIST) break;
  }
  w->temporary = NULL;
  return false;
}

vecmill_status whole_file_close(whole_file *w, vecmill_status status, vecmill_error *error) {
  if (!w->file) return status;
  bool ok = fflush(w->file) == 0;
  if (status == VECMILL_OK && !w->is_direct)
    ok = ok && fsync(fileno(w->file)) == 0 && (w->temporary || name_it(w)) &&
         rename(w->temporary, w->path) == 0;
  if (status == VECMILL_OK && !ok) status = fail(w->path, error);
  if (status != VECMILL_OK && w->temporary) unlink(w->temporary);
  clear(w);
  return status;
}
