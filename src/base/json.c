#include "base/json.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

/* Numbers beyond 64 bits (model_max_length is 1000000000000000019884624838656 in many published
 * models) become reals, and in such a file all the others too: json_get_int takes both. */
static json_t *load(const char *data, size_t n_bytes, json_error_t *why) {
  json_t *root = json_loadb(data, n_bytes, JSON_ALLOW_NUL, why);
  if (root || json_error_code(why) != json_error_numeric_overflow) return root;
  return json_loadb(data, n_bytes, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, why);
}

vecmill_status json_read_file(const char *path, size_t max_bytes, json_t **root_out,
                              vecmill_error *err) {
  char *data;
  size_t n_bytes;
  vecmill_status status = file_read(path, max_bytes, &data, &n_bytes, err);
  if (status != VECMILL_OK) return status;
  json_error_t why;
  bool has_mark = n_bytes >= 3 && memcmp(data, "\xEF\xBB\xBF", 3) == 0; /* jansson refuses it */
  *root_out = has_mark ? load(data + 3, n_bytes - 3, &why) : load(data, n_bytes, &why);
  mem_free(data);
  if (*root_out) return VECMILL_OK;
  if (json_error_code(&why) == json_error_out_of_memory) return err_set_memory(err, path, n_bytes);
  return err_set(err, VECMILL_ERROR_FORMAT, "%s: not valid JSON: line %d column %d: %s", path,
                 why.line, why.column, why.text);
}

/* The member, or NULL when it is missing or null. */
static const json_t *member(const json_t *object, const char *name) {
  const json_t *value = json_object_get(object, name);
  return json_is_null(value) ? NULL : value;
}

static vecmill_status wrong_type(const char *where, const char *name, const char *wanted,
                                 vecmill_error *err) {
  return err_set(err, VECMILL_ERROR_FORMAT, "%s: \"%s\" is not %s", where, name, wanted);
}

vecmill_status json_get_bool(const json_t *object, const char *where, const char *name,
                             bool fallback, bool *value_out, vecmill_error *err) {
  const json_t *value = member(object, name);
  if (value && !json_is_boolean(value)) return wrong_type(where, name, "true or false", err);
  *value_out = value ? json_is_true(value) : fallback;
  return VECMILL_OK;
}

vecmill_status json_get_int(const json_t *object, const char *where, const char *name, int64_t min,
                            int64_t max, int64_t fallback, int64_t *value_out, vecmill_error *err) {
  const json_t *value = member(object, name);
  if (!value) {
    *value_out = fallback;
    return VECMILL_OK;
  }
  double real = json_number_value(value);
  if (!json_is_number(value) || real != floor(real))
    return wrong_type(where, name, "a whole number", err);
  if (real < (double)min || real > (double)max)
    return err_set(err, VECMILL_ERROR_FORMAT, "%s: \"%s\" is %.0f, outside %lld to %lld", where,
                   name, real, (long long)min, (long long)max);
  *value_out = json_is_integer(value) ? json_integer_value(value) : (int64_t)real;
  return VECMILL_OK;
}

vecmill_status json_get_real(const json_t *object, const char *where, const char *name,
                             double fallback, double *value_out, vecmill_error *err) {
  const json_t *value = member(object, name);
  if (value && !json_is_number(value)) return wrong_type(where, name, "a number", err);
  *value_out = value ? json_number_value(value) : fallback;
  return VECMILL_OK;
}

vecmill_status json_get_string(const json_t *object, const char *where, const char *name,
                               const char *fallback, const char **value_out, vecmill_error *err) {
  const json_t *value = member(object, name);
  if (value && !json_is_string(value)) return wrong_type(where, name, "a string", err);
  *value_out = value ? json_string_value(value) : fallback;
  return VECMILL_OK;
}
