#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static vecmill_status open_regular(const char *path, int *fd_out, size_t *n_bytes_out,
                                   vecmill_error *err) {
  struct stat st;
  /* A pipe without a writer must not be waited for; a regular file does not mind. */
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return err_set_errno(err, errno, "cannot open", path);
  if (fstat(fd, &st) != 0) {
    int e = errno;
    close(fd);
    return err_set_errno(err, e, "cannot stat", path);
  }
  if (!S_ISREG(st.st_mode)) {
    close(fd);
    return err_set(err, VECMILL_ERROR_IO, "cannot read %s: not a regular file", path);
  }
  *fd_out = fd;
  *n_bytes_out = (size_t)st.st_size;
  return VECMILL_OK;
}

vecmill_status file_map_open(const char *path, file_map *map_out, vecmill_error *err) {
  int fd = -1;
  size_t n_bytes = 0;
  vecmill_status status = open_regular(path, &fd, &n_bytes, err);
  if (status != VECMILL_OK) return status;
  void *data = n_bytes ? mmap(NULL, n_bytes, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
  int e = errno;
  close(fd);
  if (data == MAP_FAILED) return err_set_errno(err, e, "cannot map", path);
  *map_out = (file_map){.data = data, .n_bytes = n_bytes};
  return VECMILL_OK;
}

void file_map_close(file_map *map) {
  if (map->data) munmap((void *)map->data, map->n_bytes);
  *map = (file_map){0};
}

void file_map_release(const file_map *map, size_t offset, size_t n_bytes) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  if (!map->data || offset > map->n_bytes || n_bytes > map->n_bytes - offset) return;
  size_t first = (offset + page - 1) / page * page, last = (offset + n_bytes) / page * page;
  if (first < last) madvise((void *)(map->data + first), last - first, MADV_DONTNEED);
}

vecmill_status file_read(const char *path, size_t max_bytes, char **data_out, size_t *n_bytes_out,
                         vecmill_error *err) {
  int fd = -1;
  size_t n_bytes = 0, n_read = 0;
  vecmill_status status = open_regular(path, &fd, &n_bytes, err);
  if (status != VECMILL_OK) return status;
  char *data = NULL;
  if (n_bytes > max_bytes) {
    status =
        err_set(err, VECMILL_ERROR_FORMAT, "cannot read %s: %zu bytes, more than the %zu allowed",
                path, n_bytes, max_bytes);
    goto done;
  }
  data = mem_realloc(NULL, n_bytes + 1, 1);
  if (!data) {
    status = err_set_memory(err, path, n_bytes);
    goto done;
  }
  while (n_read < n_bytes) {
    ssize_t n = read(fd, data + n_read, n_bytes - n_read);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      status = err_set_errno(err, errno, "cannot read", path);
      goto done;
    }
    if (n == 0) break; /* it shrank: what is there is the file now */
    n_read += (size_t)n;
  }
  data[n_read] = '\0';
  *data_out = data;
  *n_bytes_out = n_read;
  data = NULL;
done:
  mem_free(data);
  close(fd);
  return status;
}

static vecmill_status write_all(int fd, const char *data, size_t n_bytes) {
  while (n_bytes > 0) {
    ssize_t n = write(fd, data, n_bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return VECMILL_ERROR_IO;
    data += n;
    n_bytes -= (size_t)n;
  }
  return VECMILL_OK;
}

static vecmill_status sync_parent(const char *path) {
  const char *slash = strrchr(path, '/');
  char *folder =
      slash ? mem_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : mem_strdup(".");
  if (!folder) return VECMILL_ERROR_MEMORY;
  int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  mem_free(folder);
  if (fd < 0) return VECMILL_ERROR_IO;
  int failed = fsync(fd);
  close(fd);
  return failed ? VECMILL_ERROR_IO : VECMILL_OK;
}

vecmill_status file_replace(const char *path, const void *data, size_t n_bytes,
                            vecmill_error *err) {
  size_t n = strlen(path);
  char *temporary = mem_calloc(n + 32, 1);
  if (!temporary) return err_set_memory(err, path, n + 32);
  snprintf(temporary, n + 32, "%s.XXXXXX", path);
  int fd = mkostemp(temporary, O_CLOEXEC);
  if (fd < 0) {
    vecmill_status status = err_set_errno(err, errno, "cannot create a file beside", path);
    mem_free(temporary);
    return status;
  }
  fchmod(fd, 0644);
  bool ok = write_all(fd, data, n_bytes) == VECMILL_OK && fsync(fd) == 0;
  int e = errno;
  ok = close(fd) == 0 && ok;
  if (ok && rename(temporary, path) != 0) {
    e = errno;
    ok = false;
  }
  if (!ok) unlink(temporary);
  mem_free(temporary);
  if (!ok || sync_parent(path) != VECMILL_OK) return err_set_errno(err, e, "cannot write", path);
  return VECMILL_OK;
}

bool file_exists(const char *path) {
  return access(path, F_OK) == 0;
}

bool file_is_folder(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

vecmill_status file_make_folders(const char *path, vecmill_error *err) {
  char *copy = mem_strdup(path);
  if (!copy) return err_set_memory(err, path, strlen(path));
  vecmill_status status = VECMILL_OK;
  for (char *c = copy + 1; status == VECMILL_OK; c++) {
    if (*c != '/' && *c != '\0') continue;
    char end = *c;
    *c = '\0';
    if (mkdir(copy, 0777) != 0 && errno != EEXIST)
      status = err_set_errno(err, errno, "cannot make folder", copy);
    *c = end;
    if (end == '\0') break;
  }
  mem_free(copy);
  return status;
}

char *file_join(const char *folder, const char *name) {
  size_t n = strlen(folder) + strlen(name) + 2;
  char *path = mem_calloc(n, 1);
  if (path) snprintf(path, n, "%s/%s", folder, name);
  return path;
}
