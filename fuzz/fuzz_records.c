/* tools/vecmill: lines of any bytes as JSON records, written out again with a vector. What comes
 * out is an object a record, with the text that came in and the vector. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_file.h"
#include "output.h"
#include "records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void check_line(const char *line, size_t n, const record *one) {
  json_t *object = json_loadb(line, n, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
  const json_t *text = json_object_get(object, "text");
  const json_t *vector = json_object_get(object, "embedding");
  if (!text || json_string_length(text) != one->n_text_bytes ||
      memcmp(json_string_value(text), one->text, one->n_text_bytes) != 0 ||
      json_array_size(vector) != 2 || json_real_value(json_array_get(vector, 1)) != -2.5)
    abort();
  json_decref(object);
}

static void write_and_check(const record *one) {
  static const float vector[2] = {0.1f, -2.5f};
  char *line = NULL;
  size_t n = 0;
  vecmill_error error = {0};
  output o = {.file = open_memstream(&line, &n), .dimension = 2};
  if (!o.file || output_write(&o, one, vector, &error) != VECMILL_OK) abort();
  fclose(o.file);
  check_line(line, n, one);
  free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  for (int is_jsonl = 0; is_jsonl < 2; is_jsonl++) {
    records input;
    record one = {0};
    bool is_end = false;
    vecmill_error error = {0};
    if (records_open(&input, fuzz_file(data, n_bytes), is_jsonl, &error) != VECMILL_OK) abort();
    while (records_next(&input, &one, &is_end, &error) == VECMILL_OK && !is_end)
      write_and_check(&one);
    if (!is_end && (error.status != VECMILL_ERROR_FORMAT || !error.text[0])) abort();
    record_fini(&one);
    records_close(&input);
  }
  return 0;
}
