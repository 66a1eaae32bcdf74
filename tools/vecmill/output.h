/* Vectors out: JSON lines or a NumPy array; a named file appears whole or not at all. */
#ifndef TOOLS_OUTPUT_H
#define TOOLS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <vecmill/status.h>

#include "records.h"

typedef struct output {
  FILE *file;
  const char *path; /* NULL: standard output */
  char *temporary;  /* beside path, renamed at the end */
  bool is_npy;
  size_t dimension, n_written;
} output;

vecmill_status output_open(output *o, const char *path, bool is_npy, size_t dimension, vecmill_error *error);

/* vector NULL: the record failed; JSON gets "embedding": null, npy a row of NaN. */
vecmill_status output_write(output *o, const record *one, const float *vector, vecmill_error *error);

/* Completes the file if `status` is VECMILL_OK, else leaves none. Returns `status` or what went wrong here. */
vecmill_status output_close(output *o, vecmill_status status, vecmill_error *error);

#endif
