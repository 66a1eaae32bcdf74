/*
 * A store holds a table of texts and takes vectors back. This header is the
 * operations table that ingest/ sees; sqlite.h opens one.
 *
 * Life of a run:
 *   open
 *   find      which table and columns; reads only
 *   metrics_find    where numbers of the texts go, if anywhere
 *   record    what made the vectors that are there
 *   inspect   what the vector column holds, sample some of it
 *   begin     takes the table for this run, adds what is missing, writes the record
 *   metrics_begin
 *   count     the totals
 *   passes of { pass_begin; claim until it gives no rows; commit or release each page }
 *   metrics_settle
 *             what rows of metrics of several texts hold, and how many texts are equal
 *   close
 *
 * Metrics alone: open, find, metrics_find, record, metrics_begin, metrics_count, passes of
 * { metrics_page, metrics_commit }, metrics_settle, close.
 *
 * A look that writes nothing: open, find, metrics_find, record, inspect, preview, preview_texts,
 * close.
 *
 * A search: open, find, record, scan, read_text, close.
 *
 * Threads: claim may run in one thread while commit runs in `n_writers` others, each with a page of
 * its own; everything else is called by one thread at a time. At pass_begin no page is out.
 * Calls that reach the database may block while others lock it, until the stop
 * flag given at open is set; then they fail with VECMILL_ERROR_BUSY after a short grace.
 * Between two calls no transaction is open: nothing of the database is held
 * while a model works.
 *
 * A store that many processes share (PostgreSQL) claims by a committed lease:
 * claim takes it, commit writes only while it is still ours, release gives it
 * back; a heartbeat is its own affair. One that a single process takes (SQLite)
 * holds a lock from begin to close.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

typedef struct store store;
struct vecmill_jobs; /* vecmill/jobs.h */

/* What the user asked for; NULL means: find it. Borrowed until find returns. */
typedef struct store_target {
  const char *table;
  const char *id_column; /* one name, or several joined by commas */
  const char *text_column;
  const char *vector_column; /* default "embedding" */
  const char *where;         /* SQL, may be NULL */
  uint64_t limit;            /* first N rows in key order after `where`; 0: all */
  bool retry_failed;
  /* rows too whose text is no longer the one that their vector was made from, as far as a hash of
   * it was kept; vectors of texts that have become blank are removed */
  bool changed;
  bool only_reads; /* writes no vector: a search, a look, metrics alone; asks for no right to */
} store_target;

/* What find found, as the database spells it. Strings live as long as the store. */
typedef struct store_columns {
  const char *table;
  const char *id_columns; /* joined by ", " */
  const char *text_column;
  const char *vector_column;
  const char *failures; /* the table that they are recorded in; in this schema, if there is one */
  const char *failures_schema;
  bool has_vector_column; /* false: begin adds it */
} store_columns;

/* What makes the vectors of a column. Strings are owned by whoever made the struct. */
typedef struct store_maker {
  const char *model;    /* "sentence-transformers/all-MiniLM-L6-v2", or a path */
  const char *revision; /* model_identity() */
  const char *pooling;
  const char *prefix;
  const char *precision;
  const char *text_column; /* the store's own: begin writes it. "": not there any more */
  size_t dimension;
  bool is_doubtful; /* of a record: it may be that of another table, which had this one's name */
} store_maker;

/* Numbers of one text, to be stored beside its vector. What they mean is not the store's affair. */
typedef struct store_metrics {
  bool has_ratio;
  int32_t word_count, length, entity_count;
  double ratio;
} store_metrics;

/* Where they go. Borrowed until metrics_find returns. */
typedef struct store_metrics_target {
  const char *table; /* NULL: the one that goes with the table (store/metrics_table.h) */
  bool is_asked;     /* a table that is missing or unfit is an error, else there are no metrics */
  /* of the word list: the same for the same words; 0: there is none, and a ratio is left whose
   * text is still the same */
  uint64_t words;
  bool creates; /* a missing one is made by metrics_begin */
} store_metrics_target;

typedef enum store_outcome {
  STORE_UNTOUCHED = 0, /* not worked on: left as it is, found again later */
  STORE_EMBEDDED,      /* `vector` is to be written */
  STORE_FAILED         /* `reason` is to be recorded */
} store_outcome;

/* One row of a page. */
typedef struct store_row {
  const void *key; /* the store's own bytes, in the page's memory */
  size_t n_key_bytes;
  const char *text; /* n_text_bytes, not NUL-terminated, in the page's memory */
  size_t n_text_bytes;

  /* The outcome, filled before commit, borrowed during it. In a sample `vector` is what is
   * stored. */
  store_outcome outcome;
  const float *vector;
  const char *reason;
  store_metrics metrics; /* of STORE_EMBEDDED, or measured; once there are metrics */
  bool is_written;       /* commit's: the vector has landed; once there are metrics; and
                          * metrics_commit's: the database did not refuse them */
} store_row;

#define STORE_PREVIEW_BYTES ((size_t)8 << 20)

typedef struct store_page {
  store_row *rows;
  size_t n_rows;
  void *memory; /* the store's own */
} store_page;

/* Counted by one aggregate, so that progress has a total. */
typedef struct store_counts {
  /* considered: after where and limit; rows with a NULL in their key left out */
  uint64_t n_rows;
  uint64_t n_done;      /* have a vector already */
  uint64_t n_blank;     /* without a vector, and NULL, empty or white space only */
  uint64_t n_failed;    /* recorded as failed by an earlier run, not retried now */
  uint64_t n_left;      /* to embed */
  uint64_t n_null_keys; /* cannot be addressed: passed over */
  /* where `changed`: of n_left, with a vector of an older text; of n_done, with a vector of which
   * it is not known what it was made from */
  uint64_t n_outdated, n_unknown;
  /* of the run that several processes share, when this one came to it; 0: it is alone */
  uint64_t n_run_total, n_run_done;
} store_counts;

/* What became of a committed page. */
typedef struct store_commit_counts {
  uint64_t n_written, n_failed;
  uint64_t n_changed; /* text or row changed meanwhile: not written, found again by the next pass */
  uint64_t n_taken_over; /* by another process, whose they are now: not written */
  uint64_t n_run_done;   /* of all processes that share the run; 0: this one is alone */
  char refusal[256]; /* why the database itself refused a row of n_failed; "" if it refused none */
} store_commit_counts;

/* One row of a scan; all of it valid only during the call. */
typedef struct store_scan_row {
  const void *key;
  size_t n_key_bytes;
  /* n_vector_bytes of little-endian float32, unaligned; NULL: not a vector at all */
  const void *vector;
  size_t n_vector_bytes;
} store_scan_row;

/* Fills the metrics of a page's rows from their texts. Anything but VECMILL_OK ends all. */
typedef vecmill_status store_measure_function(void *context, store_page *page, vecmill_error *err);

/* Anything but VECMILL_OK ends the scan and is its result. */
typedef vecmill_status store_scan_function(void *context, const store_scan_row *row,
                                           vecmill_error *err);

typedef struct store_operations {
  /* Gives back what begin took and frees the store. No page may be out. Called once. */
  void (*close)(store *s);

  /* Who works on what, into a list that is empty; reads only. After open, at any time. */
  vecmill_status (*jobs)(store *s, struct vecmill_jobs *jobs_out, vecmill_error *err);

  /* Called once, before anything below. Writes nothing. `where` is checked here. A text column that
   * is not named is the one that the record names, if there is a record. */
  vecmill_status (*find)(store *s, const store_target *target, store_columns *columns_out,
                         vecmill_error *err);

  /* The record of the vector column. *found_out false: none. Strings live until close. */
  vecmill_status (*record)(store *s, store_maker *maker_out, bool *found_out, vecmill_error *err);

  /*
   * CONFLICT when the vector column holds anything but NULL and vectors of `dimension`;
   * *has_vectors_out says whether there is any vector in the table, `where` or not.
   */
  vecmill_status (*inspect)(store *s, size_t dimension, bool *has_vectors_out, vecmill_error *err);

  /* Up to n_max rows, picked at random, `where` or not, that have a text and a vector. After
   * inspect. CONFLICT where there is a record and the database may hide all of them from this user.
   * page_free frees it. */
  vecmill_status (*sample)(store *s, size_t dimension, size_t n_max, store_page *page_out,
                           vecmill_error *err);

  /*
   * BUSY when another vecmill works on this column, or, where they share it, does so on other rows
   * or as another maker. Adds the column, the record and the store's own
   * tables where they are missing, in one transaction; CONFLICT when a record of another maker
   * has vectors to show; one that has none is replaced, with what failed under it, and so is a
   * doubtful one: the caller has seen that `maker` made the vectors. Called once; writes nothing
   * when nothing is missing.
   */
  vecmill_status (*begin)(store *s, const store_maker *maker, vecmill_error *err);

  /* After begin, before the first pass (it also fixes where `limit` ends; where `changed`, vectors
   * of blank texts go first). */
  vecmill_status (*count)(store *s, store_counts *counts_out, vecmill_error *err);

  /* Starts again at the first key. *may_find_out false: the run is over, as nothing has changed
   * since the last pass began but by us, or nothing is left to find, or nobody found anything in
   * that pass. */
  vecmill_status (*pass_begin)(store *s, bool *may_find_out, vecmill_error *err);
  /* When that has said so: what the run has done, whoever did it. NULL: nobody else does. */
  uint64_t (*n_run_done)(const store *s);

  /* The next at most n_max rows to embed, in key order; none: the pass has ended. All rows of a
   * page may come with the outcome STORE_FAILED and its reason: they are to be committed so. */
  vecmill_status (*claim)(store *s, size_t n_max, store_page *page_out, vecmill_error *err);

  /*
   * Writes the page's outcomes in one transaction, all or nothing; in several only where a rule of
   * the database's own rolls one back. After an error *counts_out tells what was committed before
   * it. Rows that were taken out of the page since claim are left as they are, all of them perhaps.
   * A vector lands only if the row's text is still the text that was claimed and the row still
   * has none, or, where `changed`, still one of another text. A hash of the text goes with it. The
   * page stays the caller's, to be freed.
   */
  vecmill_status (*commit)(store *s, const store_page *page, store_commit_counts *counts_out,
                           vecmill_error *err);

  /* Vectors that were removed since begin because their texts have become blank. When nothing else
   * goes on. */
  uint64_t (*n_removed)(const store *s);

  /* Considered rows that are recorded as failed now, by whichever process. NULL where a run is one
   * process's. When nothing else goes on. */
  vecmill_status (*count_failed)(store *s, uint64_t *n_out, vecmill_error *err);

  /* Gives a claimed page back unwritten (a committed one is just freed). Any thread; {0} is
   * allowed. */
  void (*page_free)(store *s, store_page *page);

  /*
   * After find, before begin; writes nothing. *table_out (the store's own) NULL: there will be no
   * metrics. NOT_FOUND: missing; ARGUMENT, CONFLICT: unfit.
   */
  vecmill_status (*metrics_find)(store *s, const store_metrics_target *target,
                                 const char **table_out, vecmill_error *err);

  /* After begin, or without one if there is nothing to embed; where metrics_find gave a table. From
   * now on commit writes metrics in the transaction of the vectors. */
  vecmill_status (*metrics_begin)(store *s, vecmill_error *err);

  /* How many considered rows have a vector and no metrics, those that share one row of metrics as
   * one. */
  vecmill_status (*metrics_count)(store *s, uint64_t *n_out, vecmill_error *err);

  /* The next at most n_max of these rows in key order, of those that share one row of metrics at
   * least one; none: that was all, and the next call begins anew. No pages of claim out. */
  vecmill_status (*metrics_page)(store *s, size_t n_max, store_page *page_out, vecmill_error *err);

  /* Writes the metrics of rows of such a page whose text is still that of the page, where they
   * differ from what is there; never over what another process has written for a later text. What
   * the database refuses is left out, and told by metrics_settle: DATABASE. */
  vecmill_status (*metrics_commit)(store *s, const store_page *page, uint64_t *n_written_out,
                                   vecmill_error *err);

  /*
   * The end of a run. A row of metrics that several rows share, or other tables, becomes that of
   * the first of these in key order that has a vector and a text: `measure` is given them page by
   * page. And one aggregate over the table: rows with the identical text, written where it differs,
   * to *n_changed_out rows. Of runs that end at the same time no row has the counts of one text and
   * the frequency of another. DATABASE, with the first of them, where the database refused rows, of
   * metrics_commit too: all others are written. STOPPED: the next run does it.
   */
  vecmill_status (*metrics_settle)(store *s, store_measure_function *measure, void *context,
                                   uint64_t *n_changed_out, vecmill_error *err);

  /* Instead of begin, after inspect; writes nothing: the totals, and up to n_max of the rows to
   * embed, picked at random, without their texts. page_free frees them. */
  vecmill_status (*preview)(store *s, size_t n_max, store_counts *counts_out, store_page *page_out,
                            vecmill_error *err);

  /* The texts of such rows, *next and those behind it: n_max at most, and, but for the last of
   * them, no more than STORE_PREVIEW_BYTES. Rows that are gone are left out. *next becomes the
   * first that was not asked for. page_free frees them. */
  vecmill_status (*preview_texts)(store *s, const store_page *picked, size_t n_max, size_t *next,
                                  store_page *page_out, vecmill_error *err);

  /* Every row that has something in its vector column and passes `where`, in any order. */
  vecmill_status (*scan)(store *s, store_scan_function *each, void *context, vecmill_error *err);

  /*
   * Like scan, but may leave out rows that cannot be among the n nearest to `query` by cosine.
   * *index_out (the store's own; it lives until close) names the index that guessed at them; NULL:
   * nothing was guessed, as always where `exact`. The operation is NULL where scan serves.
   */
  vecmill_status (*scan_near)(store *s, const float *query, size_t dimension, size_t n, bool exact,
                              store_scan_function *each, void *context, const char **index_out,
                              vecmill_error *err);

  /* One row's text, appended. NOT_FOUND when the row is gone. */
  vecmill_status (*read_text)(store *s, const void *key, size_t n_key_bytes, str *text_out,
                              vecmill_error *err);

  /* A key as JSON: an integer, a string, an array. Appends; thread-safe; memory failures stick
   * in json_out. */
  void (*key_json)(const store *s, const void *key, size_t n_key_bytes, str *json_out);

  /* <0, 0, >0: key order (text by its bytes). Thread-safe. */
  int (*key_compare)(const store *s, const void *a, size_t n_a, const void *b, size_t n_b);
} store_operations;

/* What every store begins with. */
struct store {
  const store_operations *operations;
  unsigned n_writers; /* commits that may be under way at once, 1 at least */
};

#endif
