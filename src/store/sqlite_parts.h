/*
 * What the parts of the SQLite store share.
 *
 * One connection serves the reader and the writer, in turns under `mutex`: a
 * page is read in well under a millisecond, so there is nothing to win from a second
 * one, which would have to be waited for whenever the first commits. Every statement is
 * reset before the mutex is left: no read transaction outlives a call, so that
 * other people's writers and WAL checkpoints are not held up.
 */
#ifndef STORE_SQLITE_PARTS_H
#define STORE_SQLITE_PARTS_H

#include <pthread.h>
#include <sqlite3.h>

#include "base/str.h"
#include "store/metrics_table.h"
#include "store/store.h"
#include "store/table_lock.h"

#define SQLITE_STORE_MAX_KEYS 32 /* as many as PostgreSQL allows */

/* Where the numbers of the texts go. */
typedef struct sqlite_metrics {
  char *name;
  char *joins[SQLITE_STORE_MAX_KEYS]; /* its key: columns of the table by the same names */
  char *types[SQLITE_STORE_MAX_KEYS];
  size_t n_joins;
  bool is_missing;                   /* metrics_begin makes it */
  bool is_shared;                    /* rows may share one row of metrics */
  bool has_more;                     /* it has columns of others too */
  bool is_strict[METRICS_N_COLUMNS]; /* the column takes no NULL */
  bool is_on, has_ratios;
  bool is_claimed;                 /* it is noted that it holds the numbers of our text */
  bool sharers[METRICS_N_SHARERS]; /* the rows may be of texts of this one too */
  sqlite3_stmt *upsert;
  str cursor; /* of metrics_page */
  metrics_refusals refusals;
  bool rolls_back; /* a refusal took its transaction with it */
} sqlite_metrics;

typedef struct sqlite_store {
  store base; /* first: a store * is a sqlite_store * */
  sqlite3 *db;
  char *path;
  const int *stop;
  pthread_mutex_t mutex;
  table_lock lock;

  /* find */
  char *table, *text_column, *vector_column, *where, *id_list;
  char *ids[SQLITE_STORE_MAX_KEYS];
  size_t n_ids;
  char *scan_hint; /* " NOT INDEXED" and the like: pages follow the key, whatever `where` says */
  bool has_vector_column, null_keys;
  uint64_t limit;
  bool retry_failed, changed;
  uint64_t n_removed; /* vectors of texts that became blank */
  sqlite3_int64 run;  /* tells this run's failures from earlier ones */

  /* record */
  char *maker_text[6];

  sqlite_metrics metrics;
  bool is_preview; /* nothing is recorded yet, no failures either; texts come later */

  /* begin and later: prepared statements, owned */
  sqlite3_stmt *first_page, *next_page, *update, *landed, *fail, *unfail, *keep_hash;
  str cut; /* the last key within `limit`; "" though it is known: there was no row */
  bool knows_cut;
  str cursor; /* the last key claimed; empty: the pass begins */
  bool pass_over, is_first_pass;
  sqlite3_int64 data_version;
  size_t n_vector_bytes; /* set by begin */
  bool has_failures;     /* there are records: what succeeds may have one */

  /* busy handler */
  uint64_t busy_since_ns, busy_stop_ns;
  bool busy_told;
  uint64_t owed_ns; /* of sqlite_give_way */
} sqlite_store;

static inline sqlite_store *of(store *s) {
  return (sqlite_store *)s;
}

/* sqlite_open.c */

/* The error of the last call on the connection, its words, and what to do about it. */
vecmill_status sqlite_error(sqlite_store *s, int code, const char *what, vecmill_error *err);
vecmill_status sqlite_compile(sqlite_store *s, const str *sql, const char *what,
                              sqlite3_stmt **statement_out, vecmill_error *err);
/* Compiles, runs to the end, finalises. */
vecmill_status sqlite_run(sqlite_store *s, const char *sql, const char *what, vecmill_error *err);
/* BEGIN IMMEDIATE; and COMMIT or, on failure, ROLLBACK. sqlite_end returns `status` if that is a
 * failure already. */
vecmill_status sqlite_begin(sqlite_store *s, vecmill_error *err);
/* Whether statements end as soon as a stop is asked for, and are undone: for what takes long. */
void sqlite_stop_at_once(sqlite_store *s, bool at_once);
vecmill_status sqlite_end(sqlite_store *s, vecmill_status status, vecmill_error *err);
/* After a page that was written from `from_ns` on, where the next one follows at once: others poll
 * for the file, and would hardly ever find it free. Sleeps for a quarter of that time, 50 ms at the
 * most: it may be one in which this one waited. */
void sqlite_give_way(sqlite_store *s, uint64_t from_ns);
/* One integer from the first column of the first row; `fallback` if there is no row or it is
 * NULL. */
vecmill_status sqlite_integer(sqlite_store *s, const str *sql, const char *what,
                              sqlite3_int64 fallback, sqlite3_int64 *value_out, vecmill_error *err);

/* Binds by name; a name that the statement does not have is passed over. Text must outlive the
 * step. */
void sqlite_bind_text_at(sqlite3_stmt *statement, const char *name, const char *text);
void sqlite_bind_integer_at(sqlite3_stmt *statement, const char *name, sqlite3_int64 value);

void sql_append_name(str *sql, const char *name);                            /* "quoted" */
void sql_append_string(str *sql, const char *text);                          /* 'quoted' */
void sql_append_table(str *sql, const sqlite_store *s);                      /* main."t" */
void sql_append_column(str *sql, const sqlite_store *s, const char *column); /* "t"."c" */
void sql_append_ids(str *sql, const sqlite_store *s);                        /* "t"."a", "t"."b" */
/* ("t"."a", "t"."b") OPERATOR (:k0, :k1), `prefix` being k here. */
void sql_append_compare(str *sql, const sqlite_store *s, const char *comparison, char prefix);

/* sqlite_key.c: a key is, for each column, a type byte and then 8 bytes, or 4 bytes of length
 * and the bytes. */
void key_append_columns(str *key, sqlite3_stmt *statement, int first, size_t n);
void key_append_value(str *key, sqlite3_value *value);
void key_bind(sqlite3_stmt *statement, char prefix, const void *key, size_t n_bytes);
void key_append_json(str *json, const void *key, size_t n_bytes);
int key_compare(const void *a, size_t n_a, const void *b, size_t n_b);

/* sqlite_functions.c: vecmill_blank(text), vecmill_same(a, b), vecmill_key(ids...),
 * vecmill_hash(text), vecmill_size(text) in bytes, vecmill_hash_key(ids...). */
int sqlite_add_functions(sqlite3 *db);
/* The text of a value: TEXT as it is, numbers as SQLite prints them, a BLOB's bytes as if it
 * were text. */
const char *sqlite_text_of(sqlite3_stmt *statement, int column, size_t *n_out);

/* sqlite_page.c: pieces of its statements, and what they bind. */
void sqlite_append_blank(str *sql, const sqlite_store *s);
/* " AND "table"."id" IS NOT NULL ..", where they may be; " WHERE (.. IS NULL OR ..)" */
void sqlite_append_no_null_keys(str *sql, const sqlite_store *s);
void sqlite_append_null_keys(str *sql, const sqlite_store *s);
/* " WHERE 1 AND ...": the rows that the run considers. */
void sqlite_append_considered(str *sql, const sqlite_store *s);
void sqlite_append_from(str *sql, const sqlite_store *s);
void sqlite_bind_common(const sqlite_store *s, sqlite3_stmt *statement);
/* Where `limit` ends, into s->cut. */
vecmill_status sqlite_find_cut(sqlite_store *s, vecmill_error *err);

/* sqlite_hashes.c: which text each vector was made from. */

/* "(SELECT hash = vecmill_hash(text) ...)": NULL where no hash was kept. */
void sqlite_append_same_hash(str *sql, const sqlite_store *s);
/* "(v IS NULL OR ...)": the row wants a vector, unless it is blank or has failed. */
void sqlite_append_wants(str *sql, const sqlite_store *s);
vecmill_status sqlite_compile_hash(sqlite_store *s, vecmill_error *err);
/* Takes the vectors, and their hashes, of texts that have become blank. */
vecmill_status sqlite_remove_blank(sqlite_store *s, vecmill_error *err);
/* Forgets the hashes of rows that are gone, where more are kept than the n_known rows have. */
vecmill_status sqlite_prune_hashes(sqlite_store *s, uint64_t n_known, vecmill_error *err);

/* The operations, a part each. */
vecmill_status sqlite_store_jobs(store *s, struct vecmill_jobs *jobs_out, vecmill_error *err);
vecmill_status sqlite_store_find(store *s, const store_target *target, store_columns *columns_out,
                                 vecmill_error *err);
vecmill_status sqlite_store_record(store *s, store_maker *maker_out, bool *found_out,
                                   vecmill_error *err);
vecmill_status sqlite_store_inspect(store *s, size_t dimension, bool *has_vectors_out,
                                    vecmill_error *err);
vecmill_status sqlite_store_sample(store *s, size_t dimension, size_t n_max, store_page *page_out,
                                   vecmill_error *err);
vecmill_status sqlite_store_begin(store *s, const store_maker *maker, vecmill_error *err);
vecmill_status sqlite_store_count(store *s, store_counts *counts_out, vecmill_error *err);
vecmill_status sqlite_store_pass_begin(store *s, bool *may_find_out, vecmill_error *err);
vecmill_status sqlite_store_claim(store *s, size_t n_max, store_page *page_out, vecmill_error *err);
vecmill_status sqlite_store_commit(store *s, const store_page *page,
                                   store_commit_counts *counts_out, vecmill_error *err);
void sqlite_store_page_free(store *s, store_page *page);
vecmill_status sqlite_store_scan(store *s, store_scan_function *each, void *context,
                                 vecmill_error *err);
vecmill_status sqlite_store_read_text(store *s, const void *key, size_t n_key_bytes, str *text_out,
                                      vecmill_error *err);

vecmill_status sqlite_store_preview(store *s, size_t n_max, store_counts *counts_out,
                                    store_page *page_out, vecmill_error *err);
vecmill_status sqlite_store_preview_texts(store *s, const store_page *picked, size_t n_max,
                                          size_t *next, store_page *page_out, vecmill_error *err);

/* sqlite_metrics.c. The first one writes the metrics of a row whose vector is there; an SQLite
 * code. keeps_ratio: nothing is written where all but the ratio is there already. */
int sqlite_metrics_write(sqlite_store *s, const store_row *row, bool keeps_ratio);
void sqlite_metrics_fini(sqlite_metrics *m);
/* main."metrics"; "table"."join", ..; " AND "table"."join" IS NOT NULL ..": such rows have none;
 * "table"."vector" IS NOT NULL */
void sqlite_metrics_append_table(str *sql, const sqlite_store *s);
void sqlite_metrics_append_joins(str *sql, const sqlite_store *s);
/* The collation by which the metrics' table tells keys apart, as the text's table may not. */
const char *sqlite_metrics_collation(const sqlite_store *s, size_t join);
/* "table"."join" COLLATE "..", .. */
void sqlite_metrics_append_collated_joins(str *sql, const sqlite_store *s);
void sqlite_metrics_append_joins_not_null(str *sql, const sqlite_store *s);
void sqlite_append_has_vector(str *sql, const sqlite_store *s);
/* ".. IS NOT NULL AND ..": a vector, a text, and what metrics go by: rows that have metrics, or of
 * which some are the first. */
void sqlite_metrics_append_is_candidate(str *sql, const sqlite_store *s);
/* "table"."id" AS "id", .., what metrics go by, and perhaps the text: each once. By name: a rowid
 * has none outside of a subquery. */
void sqlite_metrics_append_needed(str *sql, const sqlite_store *s, bool with_text);
/* "row_number() OVER (..) AS vecmill_i": the place among the rows that share one of metrics */
void sqlite_metrics_append_place(str *sql, const sqlite_store *s);
/* " AND after the cursor ORDER BY ids LIMIT :n" */
void sqlite_metrics_append_page_end(str *sql, const sqlite_store *s);
/* sqlite_metrics_owner.c: as pg_metrics_owner.c. */
vecmill_status sqlite_metrics_check_owner(sqlite_store *s, vecmill_error *err);
vecmill_status sqlite_metrics_claim(sqlite_store *s, vecmill_error *err);
/* The statement by which rows of metrics go, or are emptied where others have columns there:
 * `removed` is the WHERE of the rows of texts that they are of. */
void sqlite_metrics_append_removal(str *sql, const sqlite_store *s, const str *removed);
vecmill_status sqlite_store_metrics_find(store *s, const store_metrics_target *target,
                                         const char **table_out, vecmill_error *err);
vecmill_status sqlite_store_metrics_begin(store *s, vecmill_error *err);
/* sqlite_backfill.c */
vecmill_status sqlite_store_metrics_count(store *s, uint64_t *n_out, vecmill_error *err);
vecmill_status sqlite_store_metrics_page(store *s, size_t n_max, store_page *page_out,
                                         vecmill_error *err);
/* How many are best written in one transaction. */
size_t sqlite_metrics_rows_at_once(const sqlite_store *s);
/* In a transaction. What a rule of the database's own refuses (a CHECK, a foreign key) is left out,
 * and s->metrics tells of it. */
vecmill_status sqlite_metrics_write_page(sqlite_store *s, const store_page *page,
                                         uint64_t *n_written_out, vecmill_error *err);
vecmill_status sqlite_store_metrics_commit(store *s, const store_page *page,
                                           uint64_t *n_written_out, vecmill_error *err);
/* sqlite_twins.c */
#define SQLITE_KEYS_AT_ONCE 10000
/* What is there may be the numbers of another row, one that is gone too, or of another table's. */
bool sqlite_is_contended(const sqlite_store *s);
/* Where it is: whether any row is there that has metrics. */
vecmill_status sqlite_look_for_candidates(sqlite_store *s, bool *any_out, vecmill_error *err);
/* temp.vecmill_first(i, k0.., h, n): the rows that settling is to look at, by their keys, with the
 * hash of the text that they have and how many rows have that. i: 1 and on. */
vecmill_status sqlite_find_settling(sqlite_store *s, vecmill_error *err);
void sqlite_forget_settling(sqlite_store *s);
/* "k0, k1" */
void sqlite_append_key_names(str *sql, const sqlite_store *s);
/* sqlite_settle.c */
vecmill_status sqlite_store_metrics_settle(store *s, store_measure_function *measure, void *context,
                                           uint64_t *n_changed_out, vecmill_error *err);

/* Reads the rows of a statement whose columns are the ids, the text and, if has_vector, the
 * vector. */
vecmill_status sqlite_read_page(sqlite_store *s, sqlite3_stmt *statement, bool has_vector,
                                size_t n_max, store_page *page_out, vecmill_error *err);

#endif
