/* Keys of rows as bytes: read, bound, compared, printed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/blank.h"
#include "store/sqlite_parts.h"

static void append_number(str *key, char type, const void *eight_bytes) {
  str_append_char(key, type);
  str_append(key, eight_bytes, 8);
}

static void append_bytes(str *key, char type, const void *bytes, uint32_t n) {
  str_append_char(key, type);
  str_append(key, &n, sizeof n);
  str_append(key, bytes ? bytes : "", n);
}

void key_append_columns(str *key, sqlite3_stmt *statement, int first, size_t n) {
  for (int column = first; column < first + (int)n; column++) {
    int type = sqlite3_column_type(statement, column);
    sqlite3_int64 integer = sqlite3_column_int64(statement, column);
    double real = sqlite3_column_double(statement, column);
    if (type == SQLITE_INTEGER) append_number(key, 'i', &integer);
    else if (type == SQLITE_FLOAT) append_number(key, 'r', &real);
    else if (type == SQLITE_NULL) str_append_char(key, 'n');
    else {
      const void *bytes = type == SQLITE_TEXT ? (const void *)sqlite3_column_text(statement, column)
                                              : sqlite3_column_blob(statement, column);
      append_bytes(key, type == SQLITE_TEXT ? 't' : 'b', bytes,
                   (uint32_t)sqlite3_column_bytes(statement, column));
    }
  }
}

void key_append_value(str *key, sqlite3_value *value) {
  int type = sqlite3_value_type(value);
  sqlite3_int64 integer = sqlite3_value_int64(value);
  double real = sqlite3_value_double(value);
  if (type == SQLITE_INTEGER) append_number(key, 'i', &integer);
  else if (type == SQLITE_FLOAT) append_number(key, 'r', &real);
  else if (type == SQLITE_NULL) str_append_char(key, 'n');
  else {
    const void *bytes =
        type == SQLITE_TEXT ? (const void *)sqlite3_value_text(value) : sqlite3_value_blob(value);
    append_bytes(key, type == SQLITE_TEXT ? 't' : 'b', bytes, (uint32_t)sqlite3_value_bytes(value));
  }
}

/* One column of a key. */
typedef struct key_part {
  char type;
  sqlite3_int64 integer;
  double real;
  const char *bytes;
  uint32_t n;
} key_part;

/* Takes the next part from *at; false at the end. */
static bool next_part(const char **at, const char *end, key_part *part_out) {
  if (*at >= end) return false;
  *part_out = (key_part){.type = *(*at)++};
  if (part_out->type == 'i') memcpy(&part_out->integer, *at, 8);
  if (part_out->type == 'r') memcpy(&part_out->real, *at, 8);
  if (part_out->type == 'i' || part_out->type == 'r') *at += 8;
  if (part_out->type == 't' || part_out->type == 'b') {
    memcpy(&part_out->n, *at, 4);
    part_out->bytes = *at + 4;
    *at += 4 + part_out->n;
  }
  return true;
}

void key_bind(sqlite3_stmt *statement, char prefix, const void *key, size_t n_bytes) {
  if (n_bytes == 0) return; /* no key: before the first row */
  const char *at = key, *end = at + n_bytes;
  key_part part;
  for (int i = 0; next_part(&at, end, &part); i++) {
    char name[16];
    sqlite3_snprintf(sizeof name, name, ":%c%d", prefix, i);
    int index = sqlite3_bind_parameter_index(statement, name);
    if (index == 0) continue;
    if (part.type == 'i') sqlite3_bind_int64(statement, index, part.integer);
    else if (part.type == 'r') sqlite3_bind_double(statement, index, part.real);
    else if (part.type == 't')
      sqlite3_bind_text(statement, index, part.bytes, (int)part.n, SQLITE_STATIC);
    else if (part.type == 'b')
      sqlite3_bind_blob(statement, index, part.bytes, (int)part.n, SQLITE_STATIC);
    else sqlite3_bind_null(statement, index);
  }
}

/* JSON has no bytes: they are written as SQL's literals, those of text as CAST(x'..' AS TEXT). */
static void append_json_bytes(str *json, const key_part *part) {
  str_append_text(json, part->type == 't' ? "\"CAST(x'" : "\"x'");
  for (uint32_t i = 0; i < part->n; i++)
    str_append_format(json, "%02x", (unsigned char)part->bytes[i]);
  str_append_text(json, part->type == 't' ? "' AS TEXT)\"" : "'\"");
}

/* Whether a text can be written as it is: not if it would read as another key's bytes. */
static bool is_plain(const key_part *part) {
  static const char *const literals[] = {"x'", "CAST(x'"};
  for (size_t i = 0; i < 2; i++) {
    size_t n = strlen(literals[i]);
    if (part->n >= n && memcmp(part->bytes, literals[i], n) == 0) return false;
  }
  return store_is_utf8(part->bytes, part->n);
}

/* The shortest of 15 to 17 digits that is the same number (SQLite's own printf is not exact in the
 * last ones), with a point whatever the locale has. */
static void append_json_real(str *json, double real) {
  char digits[64];
  /* JSON has no infinity, but numbers that are read as one. */
  if (isinf(real)) str_append_text(json, real < 0 ? "-9e999" : "9e999");
  if (!isfinite(real)) return; /* SQLite stores no NaN */
  for (int n = 15; n <= 17; n++) {
    snprintf(digits, sizeof digits, "%.*g", n, real);
    if (strtod(digits, NULL) == real) break;
  }
  bool is_integer = true;
  for (const char *c = digits; *c; c++) {
    bool plain = strchr("0123456789+-e", *c) != NULL;
    if (plain) str_append_char(json, *c);
    else if (is_integer) str_append_char(json, '.'); /* of a locale's separator the first byte */
    is_integer = is_integer && plain && *c != 'e';
  }
  if (is_integer) str_append_text(json, ".0");
}

static void append_json_part(str *json, const key_part *part) {
  switch (part->type) {
    case 'i': str_append_format(json, "%lld", (long long)part->integer); break;
    case 'r': append_json_real(json, part->real); break;
    case 't':
      if (is_plain(part)) str_append_json(json, part->bytes, part->n);
      else append_json_bytes(json, part);
      break;
    case 'b': append_json_bytes(json, part); break;
    default: str_append_text(json, "null");
  }
}

void key_append_json(str *json, const void *key, size_t n_bytes) {
  const char *at = key, *end = at + n_bytes;
  key_part part;
  bool one = next_part(&at, end, &part) && at == end;
  if (!one) str_append_char(json, '[');
  at = key;
  for (int i = 0; next_part(&at, end, &part); i++) {
    if (i > 0) str_append_char(json, ',');
    append_json_part(json, &part);
  }
  if (!one) str_append_char(json, ']');
}

/* SQLite's order of storage classes: NULL, numbers, text, blobs. */
static int rank_of(char type) {
  return type == 'n' ? 0 : type == 't' ? 2 : type == 'b' ? 3 : 1;
}

static int compare_parts(const key_part *a, const key_part *b) {
  if (rank_of(a->type) != rank_of(b->type)) return rank_of(a->type) - rank_of(b->type);
  if (a->type == 'i' && b->type == 'i')
    return (a->integer > b->integer) - (a->integer < b->integer);
  if (rank_of(a->type) == 1) {
    double x = a->type == 'i' ? (double)a->integer : a->real;
    double y = b->type == 'i' ? (double)b->integer : b->real;
    return (x > y) - (x < y);
  }
  uint32_t n = a->n < b->n ? a->n : b->n;
  int order = n ? memcmp(a->bytes, b->bytes, n) : 0;
  return order ? order : (a->n > b->n) - (a->n < b->n);
}

int key_compare(const void *a, size_t n_a, const void *b, size_t n_b) {
  const char *at_a = a, *end_a = at_a + n_a, *at_b = b, *end_b = at_b + n_b;
  key_part part_a, part_b;
  while (next_part(&at_a, end_a, &part_a) && next_part(&at_b, end_b, &part_b)) {
    int order = compare_parts(&part_a, &part_b);
    if (order) return order;
  }
  return 0;
}
