#include "output.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "command.h"

#define NPY_HEADER_BYTES 128 /* room for any count; a multiple of 64, as NumPy's format description asks */

static vecmill_status fail(vecmill_error *error, const char *what, const char *path) {
  error->status = VECMILL_ERROR_IO;
  snprintf(error->text, sizeof error->text, "cannot %s %s: %s", what, path ? path : "standard output", strerror(errno));
  return VECMILL_ERROR_IO;
}

/* NumPy's .npy format 1.0 (numpy.lib.format): magic, version, header length, a Python literal padded by spaces. */
static bool write_npy_header(output *o) {
  char header[NPY_HEADER_BYTES + 1];
  memset(header, ' ', sizeof header);
  memcpy(header, "\x93NUMPY\x01\x00", 8);
  header[8] = NPY_HEADER_BYTES - 10;
  header[9] = 0;
  int n = snprintf(header + 10, sizeof header - 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }",
                   o->n_written, o->dimension);
  header[10 + n] = ' ';
  header[NPY_HEADER_BYTES - 1] = '\n';
  return fwrite(header, 1, NPY_HEADER_BYTES, o->file) == NPY_HEADER_BYTES;
}

vecmill_status output_open(output *o, const char *path, bool is_npy, size_t dimension, vecmill_error *error) {
  *o = (output){.path = path && strcmp(path, "-") != 0 ? path : NULL, .is_npy = is_npy, .dimension = dimension};
  if (o->path) {
    size_t n = strlen(path) + 8;
    o->temporary = malloc(n);
    if (!o->temporary) return fail(error, "write", path);
    snprintf(o->temporary, n, "%s.XXXXXX", path);
    int fd = mkstemp(o->temporary);
    o->file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (fd >= 0) fchmod(fd, 0644);
    if (!o->file) {
      vecmill_status status = fail(error, "write", path);
      free(o->temporary);
      return status;
    }
  } else {
    o->file = is_npy ? tmpfile() : stdout; /* the count stands in the header: a pipe has to wait for it */
    if (!o->file) return fail(error, "make a temporary file for", NULL);
  }
  if (is_npy && !write_npy_header(o)) return fail(error, "write", o->path);
  return VECMILL_OK;
}

static void write_string(FILE *file, const char *text, size_t n) {
  json_t *string = json_stringn(text, n);
  char *quoted = NULL;
  if (!string) {
    /* Not UTF-8: said as U+FFFD would take a repair that the library does for itself; the bytes are left out. */
    fputs("null", file);
    return;
  }
  quoted = json_dumps(string, JSON_ENCODE_ANY);
  fputs(quoted ? quoted : "null", file);
  free(quoted);
  json_decref(string);
}

/* The record's own object, open at its end; a field "embedding" that came in is replaced. */
static void write_fields(output *o, const record *one) {
  if (!one->decoded) {
    fputs("{\"text\": ", o->file);
    write_string(o->file, one->text, one->n_text_bytes);
    return;
  }
  size_t n = one->n_line_bytes;
  if (one->has_embedding) {
    json_t *root = json_loadb(one->line, n, JSON_ALLOW_NUL, NULL);
    json_object_del(root, "embedding");
    char *fields = root ? json_dumps(root, JSON_REAL_PRECISION(17)) : NULL;
    if (fields) fwrite(fields, 1, strlen(fields) - 1, o->file);
    free(fields);
    json_decref(root);
    return;
  }
  while (n > 0 && one->line[n - 1] != '}') n--;
  fwrite(one->line, 1, n - 1, o->file);
}

static void write_json(output *o, const record *one, const float *vector) {
  write_fields(o, one);
  fputs(", \"embedding\": ", o->file);
  if (!vector) fputs("null", o->file);
  for (size_t i = 0; vector && i < o->dimension; i++) fprintf(o->file, "%s%.9g", i ? ", " : "[", (double)vector[i]);
  fputs(vector ? "]}\n" : "}\n", o->file);
}

static void write_row(output *o, const float *vector) {
  for (size_t i = 0; !vector && i < o->dimension; i++) {
    float nothing = NAN;
    fwrite(&nothing, sizeof nothing, 1, o->file);
  }
  if (vector) fwrite(vector, sizeof *vector, o->dimension, o->file);
}

vecmill_status output_write(output *o, const record *one, const float *vector, vecmill_error *error) {
  if (o->is_npy) write_row(o, vector);
  else write_json(o, one, vector);
  o->n_written++;
  return ferror(o->file) ? fail(error, "write", o->path) : VECMILL_OK;
}

static vecmill_status copy_to_stdout(FILE *from, vecmill_error *error) {
  char buffer[1 << 16];
  rewind(from);
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, from)) > 0;)
    if (fwrite(buffer, 1, n, stdout) != n) return fail(error, "write", NULL);
  return ferror(from) ? fail(error, "read back", "a temporary file") : command_flush(stdout, "standard output", error);
}

vecmill_status output_close(output *o, vecmill_status status, vecmill_error *error) {
  if (status == VECMILL_OK && o->is_npy && (fseek(o->file, 0, SEEK_SET) != 0 || !write_npy_header(o)))
    status = fail(error, "write", o->path);
  if (status == VECMILL_OK) status = command_flush(o->file, o->path ? o->path : "standard output", error);
  if (status == VECMILL_OK && !o->path && o->is_npy) status = copy_to_stdout(o->file, error);
  if (status == VECMILL_OK && o->path && (fsync(fileno(o->file)) != 0 || rename(o->temporary, o->path) != 0))
    status = fail(error, "write", o->path);
  if (o->file != stdout) fclose(o->file);
  if (o->temporary && status != VECMILL_OK) unlink(o->temporary);
  free(o->temporary);
  return status;
}
