/* Files: mapped, read whole, or replaced whole. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* A file mapped read-only. `data` is NULL when the file is empty. */
typedef struct file_map {
  const uint8_t *data;
  size_t n_bytes;
} file_map;

/* A file that shrinks while it is mapped would raise SIGBUS: models are written once and renamed
 * into place. */
vecmill_status file_map_open(const char *path, file_map *map_out, vecmill_error *err);
void file_map_close(file_map *map); /* idempotent; clears *map */

/* Gives the pages that lie wholly inside [offset, offset + n_bytes) back to the system; they can be
 * read again. */
void file_map_release(const file_map *map, size_t offset, size_t n_bytes);

/*
 * The whole file, NUL-terminated (the NUL is not counted). More than `max_bytes`
 * is VECMILL_ERROR_FORMAT. Freed by mem_free.
 */
vecmill_status file_read(const char *path, size_t max_bytes, char **data_out, size_t *n_bytes_out,
                         vecmill_error *err);

/* Written to a temporary file beside `path`, fsynced, renamed over it, folder fsynced. */
vecmill_status file_replace(const char *path, const void *data, size_t n_bytes, vecmill_error *err);

bool file_exists(const char *path); /* anything */
bool file_is_folder(const char *path);

/* mkdir -p. */
vecmill_status file_make_folders(const char *path, vecmill_error *err);

/* "folder/name" in a new string (mem_free), NULL when memory is out. */
char *file_join(const char *folder, const char *name);

#endif
