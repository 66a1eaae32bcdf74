/*
 * A store holds a table of texts and takes vectors back. This header is the
 * operations table that ingest/ and the search see; sqlite.h opens one.
 *
 * Life of a run: open -> prepare (columns found, the record of what made the
 * vectors checked or written, the vector column added) -> one or more passes of
 * { claim pages until the end; commit each } -> close. One thread claims, one
 * commits; the two may run at once.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef struct store store;

/* What the user asked for; NULL means: find it. Borrowed until prepare returns. */
typedef struct store_target {
  const char *table;
  const char *id_column;     /* one name, or several joined by commas */
  const char *text_column;
  const char *vector_column; /* default "embedding" */
  const char *where;         /* SQL, may be NULL */
  uint64_t limit;            /* first N rows in key order after `where`; 0: all */
  bool retry_failed;
} store_target;

/* What makes the vectors of a column. Strings are owned by whoever made the struct. */
typedef struct store_maker {
  const char *model;    /* "sentence-transformers/all-MiniLM-L6-v2", or a path */
  const char *revision; /* model_identity() */
  const char *pooling;
  const char *prefix;
  const char *precision;
  size_t dimension;
} store_maker;

/* One row of a page. */
typedef struct store_row {
  const void *key;     /* the store's own bytes, in the page's memory */
  size_t n_key_bytes;
  const char *text;    /* n_text_bytes, in the page's memory */
  size_t n_text_bytes;

  /* The outcome, filled before commit. */
  const float *vector; /* NULL: failed, with the reason */
  const char *reason;
} store_row;

typedef struct store_page {
  store_row *rows;
  size_t n_rows;
  void *memory; /* the store's own; store operations->page_free */
} store_page;

/* Counted by one aggregate at prepare, so that progress has a total. */
typedef struct store_counts {
  uint64_t n_rows;     /* considered: after where and limit */
  uint64_t n_done;     /* have a vector already */
  uint64_t n_blank;    /* NULL, empty or white space only */
  uint64_t n_failed;   /* recorded as failed by an earlier run, not retried now */
  uint64_t n_left;     /* to embed */
} store_counts;

/* What became of a committed page. */
typedef struct store_commit_counts {
  uint64_t n_written, n_failed;
  uint64_t n_changed; /* text or row changed meanwhile: not written, found again by the next pass */
} store_commit_counts;

typedef struct store_operations {
  void (*close)(store *s);
  /* ... the store's author completes this table and documents each member: may it block, may it be called
     twice, who frees. */
} store_operations;

#endif
