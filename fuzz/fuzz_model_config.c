/*
 * model/model_config.h: a model directory whose files hold any bytes is a clear error, or a
 * configuration that the encoder can follow. The input is the files one after the other, each ended
 * by a NUL.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "model/model_config.h"

#define N_FILES (sizeof files / sizeof *files)

static const char *const files[] = {
    "config.json",           "modules.json",
    "1_Pooling/config.json", "sentence_bert_config.json",
    "tokenizer_config.json", "config_sentence_transformers.json",
    "2_Dense/config.json",   "3_Normalize/config.json",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* A folder of this process's own, in the working folder. */
static const char *folder(void) {
  static char path[64];
  if (path[0]) return path;
  strcpy(path, "model_config-XXXXXX");
  char sub[128];
  if (!mkdtemp(path)) abort();
  for (const char *const *name = (const char *const[]){"1_Pooling", "2_Dense", "3_Normalize", NULL};
       *name; name++) {
    snprintf(sub, sizeof sub, "%s/%s", path, *name);
    if (mkdir(sub, 0700) != 0) abort();
  }
  return path;
}

/* An empty piece is a file that is not there. */
static void write_piece(size_t i, const uint8_t *piece, size_t n) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", folder(), files[i]);
  if (n == 0) {
    remove(path);
    return;
  }
  FILE *file = fopen(path, "w");
  if (!file || fwrite(piece, 1, n, file) != n || fclose(file) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  for (size_t i = 0, at = 0; i < N_FILES; i++) {
    const uint8_t *end = at < n_bytes ? memchr(data + at, 0, n_bytes - at) : NULL;
    size_t n = end ? (size_t)(end - data) - at : n_bytes - at;
    write_piece(i, data + at, n);
    at = end ? at + n + 1 : n_bytes;
  }
  model_config c;
  vecmill_error err = {0};
  if (model_config_read(folder(), &c, &err) != VECMILL_OK) {
    if (err.status == VECMILL_OK || !err.text[0] || strchr(err.text, '\n')) abort();
    return 0;
  }
  if (c.hidden == 0 || c.n_heads == 0 || c.hidden % c.n_heads != 0 || c.dimension == 0 ||
      c.n_modules == 0 || c.max_tokens > c.max_positions || c.modules[0].n_pooling == 0 ||
      c.modules[0].n_pooling > POOL_N)
    abort();
  model_config_fini(&c);
  return 0;
}
