/* A file that appears whole or not at all, whatever ends the process before. */
#ifndef TOOLS_WHOLE_FILE_H
#define TOOLS_WHOLE_FILE_H

#include <stdbool.h>
#include <stdio.h>

#include <vecmill/status.h>

/* zeroed: closed */
typedef struct whole_file {
  FILE *file;      /* to be written; can be read back and seeked unless is_direct */
  char *path;      /* where it will stand: links are followed */
  char *temporary; /* NULL: it has no name yet */
  bool is_direct;  /* path is a device or a pipe: written as it comes */
} whole_file;

/* An existing file keeps its mode. Errors: IO, MEMORY; then there is nothing to close. */
vecmill_status whole_file_open(whole_file *w, const char *path, vecmill_error *error);

/* On the disk and under its name if `status` is VECMILL_OK, else no trace of it. Returns `status`,
 * or IO. */
vecmill_status whole_file_close(whole_file *w, vecmill_status status, vecmill_error *error);

#endif
