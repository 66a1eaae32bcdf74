#include "store/table_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

/* FNV-1a over the folded name (SQLite's names ignore ASCII case) and its NUL. */
static uint64_t hash_name(uint64_t hash, const char *name) {
  do {
    unsigned char c = (unsigned char)*name;
    if (c >= 'A' && c <= 'Z') c = (unsigned char)(c + 32);
    hash = (hash ^ c) * 0x100000001B3u;
  } while (*name++);
  return hash;
}

static off_t offset_of(const char *table, const char *column) {
  return (off_t)(hash_name(hash_name(0xCBF29CE484222325u, table), column) >> 2);
}

/* Non-blocking. n_bytes 0: from `at` to the end of all offsets. */
static int lock_bytes(int fd, short type, off_t at, off_t n_bytes) {
  struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = n_bytes};
  return fcntl(fd, F_OFD_SETLK, &range);
}

/* Whether `path` still names the file behind fd: the last to leave may have removed it. */
static int still_there(int fd, const char *path) {
  struct stat by_fd, by_path;
  return fstat(fd, &by_fd) == 0 && stat(path, &by_path) == 0 && by_fd.st_dev == by_path.st_dev &&
         by_fd.st_ino == by_path.st_ino;
}

/* Who may write the database may take the lock, whoever's killed run left the file. Only its owner
 * and root can see to that; others find it done. */
static void like_database(int fd, const char *database_path) {
  struct stat database, lock;
  if (stat(database_path, &database) != 0 || fstat(fd, &lock) != 0) return;
  mode_t mode = (database.st_mode & 0666) | 0600;
  if ((lock.st_mode & 0777) != mode && fchmod(fd, mode) != 0) return;
  if (geteuid() == 0 && fchown(fd, database.st_uid, database.st_gid) != 0) return;
}

/* No right to open it is told as that: EACCES from the lock itself means that another holds it. */
static vecmill_status cannot_open(str *path, int failed, vecmill_error *err) {
  char reason[128];
  vecmill_status status =
      err_set(err, VECMILL_ERROR_IO,
              "cannot lock %s: %s (vecmill must be able to write to that file and to its folder)",
              path->data, strerror_r(failed, reason, sizeof reason));
  str_fini(path);
  return status;
}

static void append_path(str *path, const char *database_path) {
  char *real = realpath(database_path, NULL);
  str_append_text(path, real ? real : database_path);
  str_append_text(path, "-vecmill-lock");
  free(real);
}

vecmill_status table_lock_take(table_lock *lock, const char *database_path, const char *table,
                               const char *column, vecmill_error *err) {
  str path = {0};
  append_path(&path, database_path);
  if (path.failed) return err_set_memory(err, "lock", path.n);

  off_t at = offset_of(table, column);
  /* Tried a few times: the file may vanish under us, and who leaves holds every byte for a moment.
   */
  for (int n_busy = 0; n_busy < 5;) {
    int fd = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return cannot_open(&path, errno, err);
    like_database(fd, database_path);
    int failed = lock_bytes(fd, F_WRLCK, at, 1) < 0 ? errno : 0;
    if (!failed && still_there(fd, path.data)) {
      *lock = (table_lock){.fd = fd, .path = path.data};
      return VECMILL_OK;
    }
    close(fd);
    if (failed && failed != EAGAIN && failed != EACCES) {
      vecmill_status status = err_set_errno(err, failed, "cannot lock", path.data);
      str_fini(&path);
      return status;
    }
    if (failed) n_busy++;
    if (failed) clock_sleep_ms(10);
  }
  str_fini(&path);
  return err_set(err, VECMILL_ERROR_BUSY,
                 "table %s: another vecmill is working on its column %s (wait until it has "
                 "finished, or stop it)",
                 table, column);
}

void table_lock_drop(table_lock *lock) {
  if (lock->fd >= 0) {
    /* Having every byte means that nobody else is here; newcomers notice that the name is gone. */
    if (lock_bytes(lock->fd, F_WRLCK, 0, 0) == 0) unlink(lock->path);
    close(lock->fd);
  }
  mem_free(lock->path);
  *lock = (table_lock){.fd = -1};
}

bool table_lock_is_held(const char *database_path, const char *table, const char *column) {
  struct flock range = {
      .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = offset_of(table, column), .l_len = 1};
  str path = {0};
  append_path(&path, database_path);
  int fd = path.failed ? -1 : open(path.data, O_RDONLY | O_CLOEXEC);
  bool held = fd >= 0 && fcntl(fd, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
  if (fd >= 0) close(fd);
  str_fini(&path);
  return held;
}
