/*
 * model/safetensors.h: an index and two shards that hold any bytes are a clear error, or tensors
 * that can be read. The input is the index, a NUL, the first shard's length in two bytes, both
 * shards.
 */
#include <string.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* In a folder of this process's own, in the working folder. */
static const char *write_file(const char *name, const uint8_t *data, size_t n) {
  static char folder[64];
  char path[128];
  if (!folder[0] && !mkdtemp(strcpy(folder, "shards-XXXXXX"))) abort();
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "w");
  if (!file || fwrite(data, 1, n, file) != n || fclose(file) != 0) abort();
  return folder;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  const uint8_t *nul = n_bytes ? memchr(data, 0, n_bytes) : NULL;
  size_t n_index = nul ? (size_t)(nul - data) : n_bytes, rest = n_bytes - n_index;
  size_t n_first = rest >= 3 ? (size_t)nul[1] + 256u * nul[2] : 0;
  size_t n_shards = rest >= 3 ? rest - 3 : 0;
  const uint8_t *shards = rest >= 3 ? nul + 3 : data;
  if (n_first > n_shards) n_first = n_shards;
  write_file("a.safetensors", shards, n_first);
  write_file("b.safetensors", shards + n_first, n_shards - n_first);
  st_set *set = NULL;
  vecmill_error err = {0};
  if (st_open(write_file("model.safetensors.index.json", data, n_index), &set, &err) !=
      VECMILL_OK) {
    if (set || err.status == VECMILL_OK || !err.text[0] || strchr(err.text, '\n')) abort();
    return 0;
  }
  const st_tensor *t = st_find(set, "w");
  float *values = t && t->type != ST_OTHER ? malloc(t->n_elements * sizeof *values + 1) : NULL;
  if (values) st_read_f32(t, 0, t->n_elements, values);
  free(values);
  st_close(&set);
  return 0;
}
