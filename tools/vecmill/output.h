/* Vectors out: JSON lines or a NumPy array; a named file appears whole or not at all. */
#ifndef TOOLS_OUTPUT_H
#define TOOLS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <vecmill/status.h>

#include "records.h"
#include "whole_file.h"

typedef struct output {
  FILE *file;       /* that of `whole`, standard output, or one to be copied there at the end */
  whole_file whole; /* closed: standard output */
  bool is_npy;
  size_t dimension, n_written;
} output;

/* path NULL or "-": standard output. Errors: IO, MEMORY; then there is nothing to close. */
vecmill_status output_open(output *o, const char *path, bool is_npy, size_t dimension,
                           vecmill_error *error);

/* vector NULL: the record failed; JSON gets "embedding": null, npy a row of NaN. */
vecmill_status output_write(output *o, const record *one, const float *vector,
                            vecmill_error *error);

/* Completes the file if `status` is VECMILL_OK, else leaves none. Returns `status` or what went
 * wrong here. */
vecmill_status output_close(output *o, vecmill_status status, vecmill_error *error);

#endif
