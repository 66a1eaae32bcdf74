/* Records of text from a file or a pipe: one a line, plain or JSON. */
#ifndef TOOLS_RECORDS_H
#define TOOLS_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <vecmill/status.h>

typedef struct records {
  FILE *file;
  const char *name; /* for messages */
  bool is_jsonl;
  size_t n_lines;    /* read so far */
  size_t n_repaired; /* of them, those with ill-formed UTF-8 */
} records;

/* One record. `line` owns the memory; `text` lies in it or, for JSON, in `decoded`. Both are
 * well-formed UTF-8. */
typedef struct record {
  char *line;
  size_t n_line_bytes, n_line_room;
  char *decoded;
  const char *text;
  size_t n_text_bytes;
} record;

/* path NULL or "-": standard input. */
vecmill_status records_open(records *r, const char *path, bool is_jsonl, vecmill_error *error);
void records_close(records *r);

/*
 * Reads the next record, memory reused. *is_end_out at the end. A line ends at LF or CRLF; the last
 * may lack it. Ill-formed UTF-8 becomes U+FFFD. JSON: an object with a string "text"; empty lines
 * are passed over. Errors: FORMAT (names the line), IO, MEMORY.
 */
vecmill_status records_next(records *r, record *record_out, bool *is_end_out, vecmill_error *error);
void record_fini(record *one);

/* A line on stderr if ill-formed UTF-8 was found. */
void records_tell_repaired(const records *r);

/* "lines" and "jsonl" only. */
bool records_form_named(const char *word, bool *is_jsonl_out);

#endif
