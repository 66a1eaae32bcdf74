/* SQL in pieces; arrays and vectors in PostgreSQL's binary forms; keys. */
#include <arpa/inet.h>
#include <endian.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "store/blank.h"
#include "store/pg_parts.h"

/* --- names --- */

void pg_append_name(str *sql, const char *name) {
  str_append_quoted(sql, name, '"');
}

/* E'..' with doubled backslashes means the same whatever standard_conforming_strings says. */
void pg_append_string(str *sql, const char *text) {
  str_append_text(sql, "E'");
  for (; *text; text++) {
    if (*text == '\'' || *text == '\\') str_append_char(sql, *text);
    str_append_char(sql, *text);
  }
  str_append_char(sql, '\'');
}

void pg_append_state(str *sql, const pg_store *s, const char *name) {
  pg_append_name(sql, s->state);
  str_append_char(sql, '.');
  pg_append_name(sql, name);
}

void pg_append_column(str *sql, const pg_store *s, const char *column) {
  pg_append_name(sql, s->table);
  str_append_char(sql, '.');
  pg_append_name(sql, column);
}

void pg_append_has_vector(str *sql, const pg_store *s) {
  pg_append_column(sql, s, s->vector_column);
  str_append_text(sql, " IS NOT NULL");
}

const char *pg_alias(const pg_store *s, const char *alias) {
  return strcmp(s->table, alias) == 0 ? "vecmill_a" : alias;
}

void pg_append_keys(str *sql, const pg_store *s) {
  for (size_t i = 0; i < s->n_keys; i++) {
    if (i > 0) str_append_text(sql, ", ");
    pg_append_column(sql, s, s->keys[i].name);
  }
}

void pg_append_key_texts(str *sql, const pg_store *s) {
  for (size_t i = 0; i < s->n_keys; i++) {
    if (i > 0) str_append_text(sql, ", ");
    pg_append_column(sql, s, s->keys[i].name);
    str_append_text(sql, "::text");
  }
}

void pg_append_key_array(str *sql, const pg_store *s) {
  str_append_text(sql, "ARRAY[");
  pg_append_key_texts(sql, s);
  str_append_char(sql, ']');
}

/* Of an index's row of 2704 bytes (BTMaxItemSize, pages of 8 KiB): less the row's head and
 * column_id, an array's head, and the head and alignment of each element. */
#define MOST_KEY_BYTES(n) (2656 - 8 * (n))
/* Of a key that is too long, what is left to be read: 4 bytes each, and 32 for each part's md5. */
#define N_LEFT_CHARACTERS(n) ((n) <= 16 ? 480 / (n) : 320 / (n))
_Static_assert(PG_MAX_KEYS *(4 * N_LEFT_CHARACTERS(PG_MAX_KEYS) + 32) <=
                       MOST_KEY_BYTES(PG_MAX_KEYS + 1) &&
                   16 * (4 * N_LEFT_CHARACTERS(16) + 32) <= MOST_KEY_BYTES(16 + 1),
               "the index takes what is left of a long key");

/* BEFOREpartAFTER of each part of the key, with BETWEEN. */
static void append_parts(str *sql, const pg_store *s, const char *alias, const char *before,
                         const char *after, const char *between) {
  for (size_t i = 0; i < s->n_keys; i++) {
    str_append_format(sql, "%s%s", i ? between : "", before);
    if (alias) str_append_format(sql, "%sk%zu", alias, i);
    else pg_append_column(sql, s, s->keys[i].name);
    str_append_format(sql, "%s%s", alias ? "" : "::text", after);
  }
}

void pg_append_record_key(str *sql, const pg_store *s, const char *alias) {
  char after_left[24];
  int n = (int)s->n_keys;
  snprintf(after_left, sizeof after_left, ", %d)", N_LEFT_CHARACTERS(n));
  str_append_char(sql, '(');
  if (s->long_keys) {
    str_append_text(sql, "CASE WHEN ");
    append_parts(sql, s, alias, "octet_length(", ")", " + ");
    str_append_format(sql, " > %d THEN ARRAY[", MOST_KEY_BYTES(n));
    append_parts(sql, s, alias, "left(", after_left, ", ");
    str_append_text(sql, ", ");
    append_parts(sql, s, alias, "md5(", ")", " || ");
    str_append_text(sql, "] ELSE ");
  }
  str_append_text(sql, "ARRAY[");
  append_parts(sql, s, alias, "", "", ", ");
  str_append_format(sql, "]%s)", s->long_keys ? " END" : "");
  if (!alias) str_append_text(sql, " COLLATE pg_catalog.\"default\"");
}

vecmill_status pg_key_column_init(pg_key_column *column, const char *name, const char *type,
                                  const char *collation, vecmill_error *err) {
  *column = (pg_key_column){
      .name = mem_strdup(name), .type = mem_strdup(type), .collation = mem_strdup(collation)};
  return column->name && column->type && column->collation ? VECMILL_OK
                                                           : err_set_memory(err, name, 64);
}

void pg_key_column_fini(pg_key_column *column) {
  mem_free(column->name);
  mem_free(column->type);
  mem_free(column->collation);
}

void pg_append_type(str *sql, const pg_key_column *column) {
  str_append_text(sql, column->type);
  if (*column->collation) str_append_format(sql, " COLLATE %s", column->collation);
}

void pg_append_compare(str *sql, const pg_store *s, const char *comparison, const char *array) {
  str_append_text(sql, "(");
  pg_append_keys(sql, s);
  str_append_format(sql, ") %s (", comparison);
  for (size_t i = 0; i < s->n_keys; i++) {
    str_append_format(sql, "%s(%s)[%zu]::", i > 0 ? ", " : "", array, i + 1);
    pg_append_type(sql, &s->keys[i]);
  }
  str_append_text(sql, ")");
}

void pg_append_considered(str *sql, const pg_store *s, const char *cut) {
  for (size_t i = 0; s->null_keys && i < s->n_keys; i++) {
    str_append_text(sql, " AND ");
    pg_append_column(sql, s, s->keys[i].name);
    str_append_text(sql, " IS NOT NULL");
  }
  if (s->cut.n) {
    str_append_text(sql, " AND ");
    pg_append_compare(sql, s, "<=", cut);
  } else if (s->knows_cut) { /* there was no row */
    str_append_text(sql, " AND false");
  }
  if (s->where) str_append_format(sql, " AND (%s\n)", s->where);
}

/* --- arrays --- */

static void append_int32(str *out, int32_t value) {
  uint32_t wire = htonl((uint32_t)value);
  str_append(out, &wire, sizeof wire);
}

void pg_array_begin(str *array, Oid element, size_t n) {
  append_int32(array, n > 0); /* dimensions */
  append_int32(array, 1);     /* there may be NULLs */
  append_int32(array, (int32_t)element);
  if (n == 0) return;
  append_int32(array, (int32_t)n);
  append_int32(array, 1); /* the first one's index */
}

void pg_array_add(str *array, const void *bytes, size_t n) {
  append_int32(array, (int32_t)n);
  str_append(array, bytes, n);
}

void pg_array_add_vector(str *array, const pg_store *s, const float *vector, size_t n) {
  append_int32(array, (int32_t)pg_vector_bytes(s, n));
  pg_append_vector(array, s, vector, n);
}

void pg_array_add_null(str *array) {
  append_int32(array, -1);
}

/* --- vectors --- */

/* To the nearest, ties to even (IEEE 754 binary16); infinity where it does not fit. */
static uint16_t half_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
  uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude >= 0x477FF000) return sign | 0x7C00; /* 65520 and more round to infinity */
  if (magnitude < 0x38800000) {                      /* below 2^-14: a subnormal */
    float scaled = fabsf(value) * 0x1p24f;           /* in units of 2^-24 */
    return sign | (uint16_t)nearbyintf(scaled);
  }
  uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1);
  return sign | (uint16_t)((rounded - 0x38000000) >> 13);
}

static float float_of_half(uint16_t half) {
  int exponent = half >> 10 & 31, mantissa = half & 1023;
  float magnitude =
      exponent ? ldexpf((float)(1024 + mantissa), exponent - 25) : ldexpf((float)mantissa, -24);
  return half & 0x8000 ? -magnitude : magnitude;
}

static bool put_floats(char *to, const float *vector, size_t n) {
  bool good = true;
  for (size_t i = 0; i < n; i++) {
    uint32_t bits;
    memcpy(&bits, &vector[i], sizeof bits);
    good &= (bits & 0x7F800000) != 0x7F800000;
    bits = htonl(bits);
    memcpy(to + i * sizeof bits, &bits, sizeof bits);
  }
  return good;
}

static bool put_halves(char *to, const float *vector, size_t n) {
  bool good = true;
  for (size_t i = 0; i < n; i++) {
    uint16_t half = half_of(vector[i]), wire = htons(half);
    good &= (half & 0x7C00) != 0x7C00;
    memcpy(to + i * sizeof wire, &wire, sizeof wire);
  }
  return good;
}

/* int16 dimension, int16 0, then each number big-endian (vector_recv in pgvector's vector.c). */
bool pg_append_vector(str *out, const pg_store *s, const float *vector, size_t n) {
  uint16_t head[2] = {htons((uint16_t)n), 0};
  size_t n_bytes = n * (s->is_half ? sizeof(uint16_t) : sizeof(uint32_t));
  str_append(out, head, sizeof head);
  if (!str_reserve(out, n_bytes)) return true; /* `failed` says it */
  char *to = out->data + out->n;
  bool good = s->is_half ? put_halves(to, vector, n) : put_floats(to, vector, n);
  out->n += n_bytes;
  out->data[out->n] = '\0';
  return good;
}

size_t pg_vector_bytes(const pg_store *s, size_t n) {
  return 4 + n * (s->is_half ? 2 : 4);
}

bool pg_read_vector(const pg_store *s, const void *bytes, size_t n_bytes, float *out, size_t n) {
  const unsigned char *at = bytes;
  size_t size = s->is_half ? 2 : 4;
  if (n_bytes != 4 + n * size || (size_t)(at[0] << 8 | at[1]) != n) return false;
  at += 4;
  for (size_t i = 0; i < n; i++, at += size) {
    if (s->is_half) {
      out[i] = float_of_half((uint16_t)(at[0] << 8 | at[1]));
    } else {
      uint32_t bits;
      memcpy(&bits, at, sizeof bits);
      bits = ntohl(bits);
      memcpy(&out[i], &bits, sizeof bits);
    }
  }
  return true;
}

/* --- keys --- */

void pg_key_append(str *key, const PGresult *result, int row, int first, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint32_t n_bytes = (uint32_t)PQgetlength(result, row, first + (int)i);
    str_append(key, &n_bytes, sizeof n_bytes);
    str_append(key, PQgetvalue(result, row, first + (int)i), n_bytes);
  }
}

/* The part that *at stands on; goes on to the next. NULL at the end. */
static const char *next_part(const char **at, const char *end, size_t *n_out) {
  uint32_t n;
  if (*at >= end) return NULL;
  memcpy(&n, *at, sizeof n);
  const char *part = *at + sizeof n;
  *at = part + n;
  *n_out = n;
  return part;
}

const char *pg_key_part(const void *key, size_t n_key_bytes, size_t index, size_t *n_out) {
  const char *at = key, *end = at + n_key_bytes, *part;
  while ((part = next_part(&at, end, n_out)) != NULL && index > 0) index--;
  return part;
}

#define TEXT_OID 25 /* pg_type.h; part of the protocol's frozen numbers */

void pg_key_array(str *array, const void *key, size_t n_key_bytes) {
  const char *at = key, *end = at + n_key_bytes, *part;
  size_t n = 0, n_part;
  while (next_part(&at, end, &n_part)) n++;
  pg_array_begin(array, TEXT_OID, n);
  at = key;
  while ((part = next_part(&at, end, &n_part)) != NULL) pg_array_add(array, part, n_part);
}

static pg_key_form form_of(const pg_store *s, size_t i) {
  return i < s->n_keys ? s->keys[i].form : PG_KEY_TEXT;
}

/* As the server wrote it, which is JSON's way too. JSON has no infinity, but numbers that are read
 * as one; and nothing for NaN. */
static void append_json_number(str *json, const char *number, size_t n) {
  bool minus = n > 0 && number[0] == '-';
  if (n > minus && number[minus] == 'I') str_append_text(json, minus ? "-9e999" : "9e999");
  else if (n > 0 && number[0] == 'N') str_append_text(json, "\"NaN\"");
  else str_append(json, number, n);
}

/* Bytes that are no text to JSON, as SQL would say them. */
static void append_json_bytes(str *json, const char *bytes, size_t n) {
  str_append_text(json, "\"convert_from('\\\\x");
  for (size_t i = 0; i < n; i++) str_append_format(json, "%02x", (unsigned char)bytes[i]);
  str_append_text(json, "', 'SQL_ASCII')\"");
}

void pg_key_json(const store *base, const void *key, size_t n_key_bytes, str *json_out) {
  const pg_store *s = (const pg_store *)base;
  const char *at = key, *end = at + n_key_bytes, *part;
  size_t n, i = 0;
  if (s->n_keys > 1) str_append_char(json_out, '[');
  for (; (part = next_part(&at, end, &n)) != NULL; i++) {
    if (i > 0) str_append_char(json_out, ',');
    if (form_of(s, i) == PG_KEY_NUMBER) append_json_number(json_out, part, n);
    else if (form_of(s, i) == PG_KEY_BOOLEAN) str_append(json_out, part, n);
    else if (s->encoding == PG_ENCODING_NONE && !store_is_utf8(part, n))
      append_json_bytes(json_out, part, n);
    else str_append_json(json_out, part, n);
  }
  if (s->n_keys > 1) str_append_char(json_out, ']');
}

/* A number as the server writes it: "-12", "0.50", "1.5e-07", "Infinity", "NaN". */
typedef struct decimal {
  int class;      /* -2 -infinity, -1 less than 0, 0, 1 more than 0, 2 infinity, 3 NaN, as sorted */
  long magnitude; /* of ten, of the first digit that is not 0 */
  const char *at, *end; /* from that digit on, perhaps with a point */
} decimal;

static decimal decimal_of(const char *text, size_t n) {
  const char *end = text + n, *e = memchr(text, 'e', n);
  int sign = n > 0 && *text == '-' ? -1 : 1;
  decimal d = {.at = sign < 0 ? text + 1 : text, .end = e ? e : end};
  if (d.at < end && *d.at == 'N') return (decimal){.class = 3};
  if (d.at < end && *d.at == 'I') return (decimal){.class = 2 * sign};
  const char *point = memchr(d.at, '.', (size_t)(d.end - d.at));
  while (d.at < d.end && (*d.at == '0' || *d.at == '.')) d.at++;
  if (d.at == d.end) return (decimal){0};
  d.class = sign;
  if (!point) point = d.end;
  d.magnitude = point - d.at - (d.at < point);
  long exponent = 0; /* of three digits at most, if it comes from PostgreSQL */
  for (const char *c = e ? e + 2 : end; c < end && exponent < 100000; c++)
    if (*c >= '0' && *c <= '9') exponent = 10 * exponent + (*c - '0');
  d.magnitude += e && e + 1 < end && e[1] == '-' ? -exponent : exponent;
  return d;
}

/* The next digit; 0 where no more are written. */
static char next_digit(decimal *d) {
  if (d->at < d->end && *d->at == '.') d->at++;
  return d->at < d->end ? *d->at++ : '0';
}

static int compare_numbers(const char *text_a, size_t n_a, const char *text_b, size_t n_b) {
  decimal a = decimal_of(text_a, n_a), b = decimal_of(text_b, n_b);
  if (a.class != b.class) return a.class - b.class;
  int order = (a.magnitude > b.magnitude) - (a.magnitude < b.magnitude);
  while (order == 0 && (a.at < a.end || b.at < b.end)) order = next_digit(&a) - next_digit(&b);
  return a.class < 0 ? -order : order;
}

int pg_key_compare(const store *base, const void *a, size_t n_a, const void *b, size_t n_b) {
  const pg_store *s = (const pg_store *)base;
  const char *at_a = a, *end_a = at_a + n_a, *at_b = b, *end_b = at_b + n_b, *part_a, *part_b;
  size_t n_part_a, n_part_b;
  for (size_t i = 0; (part_a = next_part(&at_a, end_a, &n_part_a)) != NULL &&
                     (part_b = next_part(&at_b, end_b, &n_part_b)) != NULL;
       i++) {
    size_t n = n_part_a < n_part_b ? n_part_a : n_part_b;
    bool are_numbers = form_of(s, i) == PG_KEY_NUMBER;
    int order = are_numbers ? compare_numbers(part_a, n_part_a, part_b, n_part_b)
                            : memcmp(part_a, part_b, n);
    if (order == 0 && !are_numbers) order = (n_part_a > n_part_b) - (n_part_a < n_part_b);
    if (order) return order;
  }
  return 0;
}
