#include "output.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

/* Room for any count; a multiple of 64, as NumPy's description asks. */
#define NPY_HEADER_BYTES 128

static const char *name_of(const output *o) {
  return o->whole.path ? o->whole.path : "standard output";
}

static vecmill_status fail(vecmill_error *error, const char *what, const char *name) {
  error->status = VECMILL_ERROR_IO;
  snprintf(error->text, sizeof error->text, "cannot %s %s: %s", what, name, strerror(errno));
  return VECMILL_ERROR_IO;
}

/* --- npy --- */

/* NumPy's .npy format 1.0 (numpy.lib.format): magic, version, header length, a Python literal
 * padded by spaces. */
static bool write_npy_header(output *o) {
  char header[NPY_HEADER_BYTES + 1];
  memset(header, ' ', sizeof header);
  memcpy(header, "\x93NUMPY\x01\x00", 8);
  header[8] = NPY_HEADER_BYTES - 10;
  header[9] = 0;
  int n = snprintf(header + 10, sizeof header - 10,
                   "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", o->n_written,
                   o->dimension);
  header[10 + n] = ' ';
  header[NPY_HEADER_BYTES - 1] = '\n';
  return fwrite(header, 1, NPY_HEADER_BYTES, o->file) == NPY_HEADER_BYTES;
}

static void write_row(output *o, const float *vector) {
  for (size_t i = 0; !vector && i < o->dimension; i++) {
    float nothing = NAN;
    fwrite(&nothing, sizeof nothing, 1, o->file);
  }
  if (vector) fwrite(vector, sizeof *vector, o->dimension, o->file);
}

/* --- JSON --- */

static void write_string(FILE *file, const char *text, size_t n) {
  json_t *string = json_stringn(text, n);
  char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
  fputs(quoted ? quoted : "null", file); /* null: no memory; the text is UTF-8 */
  free(quoted);
  json_decref(string);
}

/* From inside an object that was parsed before: the comma or brace that ends the member at p. */
static const char *member_end(const char *p) {
  int depth = 0;
  for (bool in_string = false;; p++) {
    if (in_string) {
      if (*p == '\\') p++;
      else if (*p == '"') in_string = false;
    } else if (*p == '"') {
      in_string = true;
    } else if (*p == '{' || *p == '[') {
      depth++;
    } else if (depth == 0 && (*p == ',' || *p == '}')) {
      return p;
    } else if (*p == '}' || *p == ']') {
      depth--;
    }
  }
}

/* Whether the member's name, however it is escaped, is this. */
static bool is_named(const char *member, const char *end, const char *name) {
  json_t *key =
      json_loadb(member, (size_t)(end - member), JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, NULL);
  bool is_it = key && strcmp(json_string_value(key), name) == 0;
  json_decref(key);
  return is_it;
}

/* The record's own object, as it was written and open at its end, without the "embedding" that came
 * in. */
static void write_fields(output *o, const record *one) {
  if (!one->decoded) {
    fputs("{\"text\": ", o->file);
    write_string(o->file, one->text, one->n_text_bytes);
    return;
  }
  const char *p = strchr(one->line, '{');
  for (bool is_first = true; *p != '}';) {
    const char *member = p + 1, *name = strchr(member, '"');
    p = member_end(member);
    if (is_named(name, p, "embedding")) continue;
    fputc(is_first ? '{' : ',', o->file);
    fwrite(member, 1, (size_t)(p - member), o->file);
    is_first = false;
  }
}

static void write_json(output *o, const record *one, const float *vector) {
  write_fields(o, one);
  fputs(", \"embedding\": ", o->file);
  if (!vector) fputs("null", o->file);
  for (size_t i = 0; vector && i < o->dimension; i++)
    fprintf(o->file, "%s%.9g", i ? ", " : "[", (double)vector[i]);
  fputs(vector ? "]}\n" : "}\n", o->file);
}

/* --- the file --- */

vecmill_status output_open(output *o, const char *path, bool is_npy, size_t dimension,
                           vecmill_error *error) {
  *o = (output){.is_npy = is_npy, .dimension = dimension};
  bool is_file = path && strcmp(path, "-") != 0;
  vecmill_status status = is_file ? whole_file_open(&o->whole, path, error) : VECMILL_OK;
  if (status != VECMILL_OK) return status;
  o->file = is_file ? o->whole.file : stdout;
  if (!is_npy) return VECMILL_OK;
  /* the count stands in the header: what cannot be seeked has to wait for it */
  if (!is_file || o->whole.is_direct) o->file = tmpfile();
  if (o->file && write_npy_header(o)) return VECMILL_OK;
  status = fail(error, "write", o->file ? name_of(o) : "a temporary file");
  return output_close(o, status, error);
}

vecmill_status output_write(output *o, const record *one, const float *vector,
                            vecmill_error *error) {
  if (o->is_npy) write_row(o, vector);
  else write_json(o, one, vector);
  o->n_written++;
  return ferror(o->file) ? fail(error, "write", name_of(o)) : VECMILL_OK;
}

static vecmill_status copy(FILE *from, FILE *to, const char *name, vecmill_error *error) {
  char buffer[1 << 16];
  rewind(from);
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, from)) > 0;)
    if (fwrite(buffer, 1, n, to) != n) return fail(error, "write", name);
  return ferror(from) ? fail(error, "read back", "a temporary file") : VECMILL_OK;
}

vecmill_status output_close(output *o, vecmill_status status, vecmill_error *error) {
  FILE *final = o->whole.file ? o->whole.file : stdout;
  if (status == VECMILL_OK && o->is_npy &&
      (fseek(o->file, 0, SEEK_SET) != 0 || !write_npy_header(o) || fflush(o->file) != 0))
    status = fail(error, "write", name_of(o));
  if (status == VECMILL_OK && o->file != final) status = copy(o->file, final, name_of(o), error);
  if (status == VECMILL_OK) status = command_flush(final, name_of(o), error);
  if (o->file && o->file != final) fclose(o->file);
  return whole_file_close(&o->whole, status, error);
}
