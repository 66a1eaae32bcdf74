/*
 * Ids for scripts/parity_ids.py and for timing: no test by itself.
 *
 * usage: tokenize_tool TOKENIZER_JSON [MAX_TOKENS] < frames > ids
 * A frame is a little-endian u32 length and that many bytes; the answer to it
 * is a little-endian u32 count and that many little-endian i32 ids.
 * usage: tokenize_tool --time TOKENIZER_JSON LINES_FILE
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "text/tokenizer.h"

static int fail(const vecmill_error *err) {
  fprintf(stderr, "tokenize_tool: %s\n", err->text);
  return 1;
}

static int answer_frames(const tokenizer *tok, tok_scratch *scratch, size_t max_tokens,
                         vecmill_error *err) {
  uint32_t n;
  char *text = NULL;
  while (fread(&n, sizeof n, 1, stdin) == 1) {
    tok_result r;
    char *grown = realloc(text, n + 1u);
    if (!grown || fread(text = grown, 1, n, stdin) != n) break;
    if (tok_encode(tok, scratch, text, n, max_tokens, &r, err) != VECMILL_OK) break;
    uint32_t n_ids = (uint32_t)r.n_ids;
    fwrite(&n_ids, sizeof n_ids, 1, stdout);
    fwrite(r.ids, sizeof *r.ids, r.n_ids, stdout);
  }
  free(text);
  return err->status || !feof(stdin) ? fail(err) : 0;
}

static int time_lines(const char *tokenizer_path, const char *path, vecmill_error *err) {
  tokenizer *tok;
  tok_scratch *scratch;
  file_map map;
  uint64_t start = clock_now_ns();
  if (tok_open(tokenizer_path, &tok, err) != VECMILL_OK) return fail(err);
  printf("open: %.2f ms\n", (double)(clock_now_ns() - start) / 1e6);
  if (tok_scratch_open(tok, &scratch, err) != VECMILL_OK) return fail(err);
  if (file_map_open(path, &map, err) != VECMILL_OK) return fail(err);
  for (int round = 0; round < 7; round++) {
    size_t n_texts = 0, n_ids = 0;
    const char *p = (const char *)map.data, *end = p + map.n_bytes;
    start = clock_thread_cpu_ns();
    while (p < end) {
      const char *stop = memchr(p, '\n', (size_t)(end - p));
      if (!stop) stop = end;
      tok_result r;
      if (tok_encode(tok, scratch, p, (size_t)(stop - p), SIZE_MAX, &r, err) != VECMILL_OK)
        return fail(err);
      n_ids += r.n_ids;
      n_texts++;
      p = stop + 1;
    }
    double s = (double)(clock_thread_cpu_ns() - start) / 1e9;
    printf("%zu texts, %zu ids: %.0f texts/s, %.1f MB/s\n", n_texts, n_ids, (double)n_texts / s,
           (double)map.n_bytes / 1e6 / s);
  }
  file_map_close(&map);
  tok_scratch_close(&scratch);
  tok_close(&tok);
  return 0;
}

int main(int argc, char **argv) {
  vecmill_error err = {0};
  tokenizer *tok;
  tok_scratch *scratch;
  if (argc == 4 && !strcmp(argv[1], "--time")) return time_lines(argv[2], argv[3], &err);
  if (argc != 2 && argc != 3) {
    fprintf(stderr, "usage: tokenize_tool TOKENIZER_JSON [MAX_TOKENS]\n");
    return 2;
  }
  size_t max_tokens = argc == 3 ? strtoull(argv[2], NULL, 10) : SIZE_MAX;
  if (tok_open(argv[1], &tok, &err) != VECMILL_OK) return fail(&err);
  int rc = tok_scratch_open(tok, &scratch, &err) == VECMILL_OK
               ? answer_frames(tok, scratch, max_tokens, &err)
               : fail(&err);
  tok_scratch_close(&scratch);
  tok_close(&tok);
  return rc;
}
