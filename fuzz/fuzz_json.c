/* base/json.h: any bytes as a configuration file, its members read as every type. */
#include <string.h>

#include "base/json.h"
#include "fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  static const char *const names[] = {"hidden_size", "layer_norm_eps", "model_type", "a"};
  json_t *root;
  vecmill_error err = {0};
  if (json_read_file(fuzz_file(data, n_bytes), 1 << 16, &root, &err) != VECMILL_OK) {
    if (err.status == VECMILL_OK || !err.text[0] || strchr(err.text, '\n')) abort();
    return 0;
  }
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    int64_t whole = 0;
    double real;
    bool yes;
    const char *text;
    if (json_get_int(root, "f", names[i], -5, 1000, 7, &whole, &err) == VECMILL_OK &&
        (whole < -5 || whole > 1000))
      abort();
    json_get_real(root, "f", names[i], 0, &real, &err);
    json_get_bool(root, "f", names[i], false, &yes, &err);
    json_get_string(root, "f", names[i], "", &text, &err);
  }
  json_decref(root);
  return 0;
}
