/*
 * Databases of any encoding. What goes over a connection is UTF-8, which the server makes of its
 * own; but for SQL_ASCII, where it knows of no encoding: there bytes come and go as they are.
 */
#include <string.h>

#include "base/mem.h"
#include "store/pg_parts.h"

vecmill_status pg_settle_encoding(pg_store *s, vecmill_error *err) {
  pg_connection *c = &s->connections[PG_READER];
  const char *encoding = PQparameterStatus(c->conn, "server_encoding");
  bool is_ascii = encoding && strcmp(encoding, "SQL_ASCII") == 0;
  s->encoding = is_ascii                                    ? PG_ENCODING_NONE
                : encoding && strcmp(encoding, "UTF8") != 0 ? PG_ENCODING_OTHER
                                                            : PG_ENCODING_UTF8;
  for (size_t i = 0; is_ascii && s->keywords[i]; i++) {
    if (strcmp(s->keywords[i], "client_encoding") != 0) continue;
    char *value = mem_strdup(encoding);
    if (!value) return err_set_memory(err, "PostgreSQL", 16);
    mem_free(s->values[i]);
    s->values[i] = value;
  }
  if (is_ascii) { /* said at the start of a connection, it holds through pgbouncer too */
    PQfinish(c->conn);
    c->conn = NULL;
  }
  return VECMILL_OK;
}

/* Any number of characters of Unicode's White_Space property in UTF-8, in hexadecimal. */
#define SPACES "^(?:09|0a|0b|0c|0d|20|c285|c2a0|e19a80|e280(?:8[0-9a]|a8|a9|af)|e2819f|e38080)*$"

/* A column's text where characters of ours need not exist in the database's encoding: by its bytes
 * in UTF-8, if the first character can be a space. */
static void append_blank_bytes(str *sql, const pg_store *s, const char *text) {
  if (s->encoding == PG_ENCODING_NONE)
    str_append_format(sql, "ascii(%s) IN (0, 9, 10, 11, 12, 13, 32, 194, 225, 226, 227)", text);
  else
    str_append_format(sql, "encode(convert_to(left(%s, 1), 'UTF8'), 'hex') ~ '" SPACES "'", text);
  str_append_format(sql, " AND encode(convert_to(%s, '%s'), 'hex') ~ '" SPACES "'", text,
                    s->encoding == PG_ENCODING_NONE ? "SQL_ASCII" : "UTF8");
}

/* The characters are written out: \s follows the database's locale. Most texts begin with a visible
 * character of ASCII: no need to look through them. E'..', as pg_append_string has it. */
static void append_blank_characters(str *sql, const char *text) {
  str_append_format(
      sql,
      "ascii(%s) NOT BETWEEN 33 AND 126 AND ltrim(%s, "
      "E'\\u0009\\u000A\\u000B\\u000C\\u000D\\u0020\\u0085\\u00A0\\u1680\\u2000\\u2001"
      "\\u2002\\u2003\\u2004\\u2005\\u2006\\u2007\\u2008\\u2009\\u200A\\u2028\\u2029"
      "\\u202F\\u205F\\u3000') = ''",
      text, text);
}

void pg_append_blank(str *sql, const pg_store *s) {
  str column = {0};
  pg_append_column(&column, s, s->text_column);
  if (column.failed) sql->failed = true;
  else pg_append_blank_text(sql, s, column.data);
  str_fini(&column);
}

void pg_append_blank_text(str *sql, const pg_store *s, const char *column) {
  str text = {0};
  str_append_format(sql, "(%s IS NULL OR ", column);
  str_append_text(&text, column);
  /* to other collations some characters that are no spaces may be nothing */
  str_append_text(&text, "::text COLLATE pg_catalog.\"C\"");
  if (text.failed) sql->failed = true;
  else if (s->encoding == PG_ENCODING_UTF8) append_blank_characters(sql, text.data);
  else append_blank_bytes(sql, s, text.data);
  str_append_char(sql, ')');
  str_fini(&text);
}
