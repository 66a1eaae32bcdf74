/*
 * Tensors of a model directory: model.safetensors, or the shards that
 * model.safetensors.index.json names. Mapped read-only; nothing is copied.
 *
 * The format (huggingface/safetensors, README "Format"): u64 little-endian
 * length of a JSON header, the header, the data. Everything the header claims is
 * checked before a tensor is given out: types, shapes, sizes, no hole, no overlap.
 */
#ifndef MODEL_SAFETENSORS_H
#define MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/file.h"

#define ST_MAX_DIMS 8

enum st_type { ST_F32, ST_F16, ST_BF16, ST_OTHER };

typedef struct st_tensor {
  char *name;
  enum st_type type;
  size_t n_dims, dims[ST_MAX_DIMS];
  size_t n_elements;
  size_t offset, n_bytes; /* inside the file */
  const file_map *map;    /* of the file that holds it */
} st_tensor;

typedef struct st_set st_set;

/* Errors: NOT_FOUND (no such file), FORMAT (damaged or lying), MEMORY, IO. */
vecmill_status st_open(const char *directory, st_set **set_out, vecmill_error *err);
/* One file alone, for N_Dense folders and tests. */
vecmill_status st_open_file(const char *path, st_set **set_out, vecmill_error *err);
void st_close(st_set **set);

/* NULL when there is none of that name. Borrowed. */
const st_tensor *st_find(const st_set *set, const char *name);

/* Elements [first, first + n) as float32; the type is not ST_OTHER. Exact. */
void st_read_f32(const st_tensor *tensor, size_t first, size_t n, float *dst);

/* The tensor's bytes as float32 where they lie, NULL when they are of another type or not aligned.
 */
const float *st_f32_in_place(const st_tensor *tensor);

/* Gives the pages of a tensor that was copied back to the system. */
void st_release(const st_tensor *tensor);

#endif
