/* model/safetensors.h: any bytes are a clear error, or tensors that lie inside the file. */
#include <string.h>

#include "fuzz_file.h"
#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* Reads all of a tensor that the engine could use: the sanitizer sees what lies outside. */
static void read_tensor(const st_tensor *t) {
  if (t->type == ST_OTHER || t->n_elements > 1u << 20) return;
  float *values = malloc(t->n_elements * sizeof *values + 1);
  if (!values) return;
  st_read_f32(t, 0, t->n_elements, values);
  free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  static const char *const names[] = {"w", "a", "embeddings.word_embeddings.weight", ""};
  st_set *set = NULL;
  vecmill_error err = {0};
  if (st_open_file(fuzz_file(data, n_bytes), &set, &err) != VECMILL_OK) {
    if (set || err.status == VECMILL_OK || !err.text[0] || strchr(err.text, '\n')) abort();
    return 0;
  }
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    const st_tensor *t = st_find(set, names[i]);
    if (!t) continue;
    size_t n_elements = 1;
    for (size_t d = 0; d < t->n_dims; d++) n_elements *= t->dims[d];
    if (n_elements != t->n_elements || t->offset + t->n_bytes > n_bytes) abort();
    read_tensor(t);
  }
  st_close(&set);
  return 0;
}
