/*
 * How processes share a PostgreSQL table; and the parts of the store that do it, file by file.
 *
 * State of our own lies in a schema (`vecmill`), for each vector column one row of `columns`: what
 * made it, and the run that is going on. Work is shared by leases:
 *
 * - claim, under the lock of the column's row: takes over a lease that has expired, else reads the
 *   next page after the run's cursor, or several, and writes a lease on each range of keys;
 * - beat, every third of a lease's time: all leases of this process are prolonged;
 * - commit, one statement: it locks the lease if that is still ours (owner and fence), and only
 *   then writes vectors and hashes, and marks it done. Rows that are not as they were claimed are
 *   left to a second one, which writes failures too, and marks it done.
 *
 * A lease counts what was written and what failed under it; the run's counters take that over when
 * the lease goes. So a commit touches no row that another one needs.
 *
 * A lease that is taken over gets another fence: whoever wakes up later with the old one writes
 * nothing. Expiry is by the server's clock. Each call is one statement or one short transaction on
 * any connection and leaves no session state, so that pgbouncer's transaction mode serves.
 *
 * A lost connection is made anew and the call repeated. A commit may have been done although
 * its answer was lost: the lease then says so; it is removed by its owner's next claim after the
 * answer, or by anybody once it has expired.
 */
#ifndef STORE_PG_PARTS_H
#define STORE_PG_PARTS_H

#include "store/pg_sql.h"

/* pg_jobs.c */
vecmill_status pg_store_jobs(store *s, struct vecmill_jobs *jobs_out, vecmill_error *err);

/* pg_relation.c */

/* One row of oid, schema, name, kind, and those that inherit from it, NULL where none do.
 * *rows_out is NULL before, and the caller's to clear after an error too. NOT_FOUND; ARGUMENT: it
 * may mean several. */
vecmill_status pg_find_relation(pg_store *s, const char *name, PGresult **rows_out,
                                vecmill_error *err);
/* The same in the schema of the store's table first, in the others where `name` may say one; no row
 * where there is none. */
vecmill_status pg_find_beside(pg_store *s, const char *name, PGresult **rows_out,
                              vecmill_error *err);
/* *name, which is freed, becomes that of the schema which is called so, else of the only one that
 * is but for ASCII case; else it stays. */
vecmill_status pg_find_schema(pg_store *s, char **name, vecmill_error *err);
/* What a word of --metrics-table that names no table means: TABLE, in the schema of the store's
 * table, or SCHEMA.TABLE, in SQL's quotes or as it is written. The caller frees both. */
vecmill_status pg_part_name(pg_store *s, const char *word, char **schema_out, char **table_out,
                            vecmill_error *err);

/* pg_find.c */
vecmill_status pg_store_find(store *s, const store_target *target, store_columns *columns_out,
                             vecmill_error *err);

/* pg_state.c */

typedef struct pg_state {
  bool has_schema, has_tables;
  bool is_old;      /* of an earlier version, or without its number */
  bool is_whole;    /* all that this version keeps there is there */
  unsigned lacking; /* which relations are not, a bit for each */
  int64_t number;   /* of its version; 0: none, -1: this user may not read it */
  /* What this user may do: make what is not there; or, with what is, do what a run does, or only
   * read it. */
  bool may_make, may_write, may_read;
} pg_state;
/* ARGUMENT: no schema can be called so. CONFLICT where other people's things have our names;
 * UNSUPPORTED where a later vecmill made it, whose meaning is not known. */
vecmill_status pg_ask_state(pg_store *s, pg_state *out, vecmill_error *err);
/* Of this or an earlier version; errors as of pg_ask_state. */
vecmill_status pg_state_exists(pg_store *s, bool *exists_out, vecmill_error *err);
/* Makes it, brings it up to date, or puts back what was dropped. */
vecmill_status pg_create_state(pg_store *s, vecmill_error *err);
/* UNSUPPORTED where it is there and pg_create_state would do something; for calls that do not. */
vecmill_status pg_check_state(pg_store *s, vecmill_error *err);
/* The state is there, and its owner has not let this user in. */
vecmill_status pg_ask_for_grants(pg_store *s, vecmill_error *err);

/* What its owner says so that this user may work with it; what this user is to be told that may not
 * make it, or what it lacks: that and the same. */
vecmill_status pg_append_state_grants(pg_store *s, str *sql, vecmill_error *err);
vecmill_status pg_append_state_ddl(pg_store *s, str *sql, vecmill_error *err);

/* pg_view.c */
/* Into s->sees_part and s->viewer; after s->where is known. */
vecmill_status pg_ask_view(pg_store *s, vecmill_error *err);

/* pg_rights.c */

/* All that a run, or, if it only reads, a look needs, where the schema of our own is none that
 * keeps this user out. After metrics_find. `dimension` 0: not known yet; a column that is missing
 * is not asked for then. */
vecmill_status pg_check_rights(pg_store *s, size_t dimension, vecmill_error *err);

/* pg_record.c */
/* "ALTER TABLE .. ADD COLUMN ..": the vector column */
void pg_append_add_column(str *sql, const pg_store *s, size_t dimension);
vecmill_status pg_store_record(store *s, store_maker *maker_out, bool *found_out,
                               vecmill_error *err);
vecmill_status pg_store_inspect(store *s, size_t dimension, bool *has_vectors_out,
                                vecmill_error *err);
vecmill_status pg_store_sample(store *s, size_t dimension, size_t n_max, store_page *page_out,
                               vecmill_error *err);
vecmill_status pg_store_begin(store *s, const store_maker *maker, vecmill_error *err);
/* Asks `question`, a condition on rights. Where it is not so, *wanted_out, NULL otherwise, is what
 * an owner is to run: `grant`, "GRANT .. ON ..", which then names this user too. */
vecmill_status pg_ask_rights(pg_store *s, const char *question, const pg_params *params, str *grant,
                             const char **wanted_out, vecmill_error *err);

/* pg_count.c */
vecmill_status pg_store_count(store *s, store_counts *counts_out, vecmill_error *err);
/* Where `limit` ends, into s->cut; and the parameter that stands for it, where there is one. Of a
 * run it is the same for all: in its row of `columns`, whose fields ", cut[1] .." `run` has from
 * `first` on, or put there now. */
vecmill_status pg_find_cut(pg_store *s, vecmill_error *err);
void pg_append_cut_names(str *sql, const pg_store *s);
vecmill_status pg_settle_cut(pg_store *s, PGconn *conn, const PGresult *run, int first,
                             vecmill_error *err);
vecmill_status pg_add_cut(pg_store *s, pg_params *p, str *array, vecmill_error *err);
/* The totals but for those of the run, after pg_find_cut; needs no state schema. */
vecmill_status pg_count_considered(pg_store *s, store_counts *counts_out, vecmill_error *err);

/* "(..)": what the run has done, of the row of the state's `columns` of that name. It is counted in
 * the leases, and there only when these go: a commit need not lock that row. */
void pg_append_run_done(str *sql, const pg_store *s, const char *columns);
vecmill_status pg_store_count_failed(store *base, uint64_t *n_out, vecmill_error *err);
/* "UPDATE ..": takes over the counts of leases that go, from `gone` (n_written, n_failed), and
 * counts the rows that are claimed. With the column's row locked. */
void pg_append_count(str *sql, const pg_store *s, const char *gone, size_t n_claimed);

/* pg_index.c */

/* Tells of indexes that are kept up with every vector that is written. */
vecmill_status pg_tell_indexes(pg_store *s, vecmill_error *err);

/* pg_page.c */

/* How many rows are claimed at once where n_max are wanted: their vectors go back in one message.
 */
size_t pg_rows_at_once(const pg_store *s, size_t n_max);

/* What a page's memory begins with. Each row's pg_version lies behind its key. */
typedef struct pg_page {
  char lease[24], fence[24]; /* numbers in text; lease "": none */
  bool is_settled;           /* committed, or lost to another */
  bool is_single;            /* a row that is handed out alone: see pg_claim.c */
} pg_page;

/* Which version of a row was claimed, in PostgreSQL's binary forms. A version of a row never
 * changes: where it lies and which transaction wrote it say, with the key, that it is the same. */
typedef struct pg_version {
  unsigned char hash[16];  /* uuid: md5 of its text */
  unsigned char place[6];  /* tid: its ctid; zeros where it was not asked for */
  unsigned char writer[4]; /* xid: its xmin */
} pg_version;

pg_version pg_version_of(const store_row *row);

/* The hash of the row's text, as uuid. */
void pg_append_hash(str *sql, const pg_store *s);
/* "(SELECT ..)": whether any row of the column is recorded as failed; asked once a statement, so
 * that what follows by AND costs nothing where none is. */
void pg_append_any_failed(str *sql, const pg_store *s);
/* "(..)": the row is recorded as failed with the text that it has. */
void pg_append_failed(str *sql, const pg_store *s);
/* "SELECT .." of key, text and hash: what pg_take_page reads. */
void pg_append_page_columns(str *sql, const pg_store *s);
/* Of a row of a page without texts: its text's length, in the server's encoding, is there. */
void pg_take_length(const pg_store *s, const PGresult *rows, size_t i, store_row *row);
/* " FROM .. WHERE ..": the rows to embed. */
void pg_append_left(str *sql, const pg_store *s, const char *cut);
/* The columns and ctid, xmin of these. */
void pg_append_page(str *sql, const pg_store *s, const char *cut);
/* Rows of a result: key columns, text, its hash, and a vector of `dimension`, or, where that is 0,
 * ctid and xmin. */
typedef struct pg_rows {
  const PGresult *result;
  size_t from, to, dimension;
} pg_rows;
pg_rows pg_all_rows(const PGresult *result);
vecmill_status pg_take_page(pg_store *s, pg_rows rows, store_page *page_out, vecmill_error *err);

/* pg_ahead.c */

/* How many pages of n_rows are to be claimed at once. */
size_t pg_pages_ahead(pg_store *s, size_t n_rows);
/* The same, where n_settled rows of the run are used up by now_ns. */
size_t pg_look_ahead(pg_ahead *a, uint64_t now_ns, uint64_t n_settled, size_t n_rows);
/* The next of those that are; false: none is. */
bool pg_take_ahead(pg_store *s, store_page *page_out);
/* Gives all of them back. */
void pg_free_ahead(pg_store *s);

/* With the column's row locked: that its record is of `maker`, in whose place that is put where
 * nobody works (`is_free`) and it has no vectors to show, or is in doubt: the caller has seen that
 * `maker` made them. Else BUSY or CONFLICT. What it is then stands until the transaction ends. A
 * vector column that is missing is added then; CONFLICT: one for other vectors came meanwhile. */
vecmill_status pg_hold_record(pg_store *s, PGconn *conn, const store_maker *maker, bool is_free,
                              vecmill_error *err);

/* pg_share.c */
vecmill_status pg_store_pass_begin(store *s, bool *may_find_out, vecmill_error *err);
uint64_t pg_store_n_run_done(const store *s);

/* Makes this process known as one that works on the column: it joins the run that others are in, or
 * begins one. BUSY when those have other rows in view (--where, --limit, --retry-failed), or embed
 * otherwise than `maker`. */
vecmill_status pg_join(pg_store *s, const store_maker *maker, vecmill_error *err);
/* Ends the beat and leaves: nobody need wait for this process. */
void pg_end_beat(pg_store *s);
/* With the column's row locked until the transaction ends. */
vecmill_status pg_lock_column(pg_store *s, PGconn *conn, const char *columns, PGresult **rows_out,
                              vecmill_error *err);
/* The same while the run is still one of our rows; BUSY when one of others began meanwhile. */
vecmill_status pg_lock_run(pg_store *s, PGconn *conn, const char *columns, PGresult **rows_out,
                           vecmill_error *err);
/* Processes of this place that are no more: their leases need not be waited for. */
vecmill_status pg_bury_the_dead(pg_store *s, PGconn *conn, vecmill_error *err);

/* pg_claim.c */
/* "UPDATE .. WHERE ": leases that were handed out and not lost; whoever comes next takes them over.
 */
void pg_append_give_back(str *sql, const pg_store *s);
vecmill_status pg_store_claim(store *s, size_t n_max, store_page *page_out, vecmill_error *err);
void pg_store_page_free(store *s, store_page *page);

/* pg_changed.c */

/* " FROM table", and in a dry run with `changed` the hashes of its rows. */
void pg_append_from(str *sql, const pg_store *s);
/* "(v IS NULL OR ...)": the row wants a vector, unless it is blank or has failed. */
void pg_append_wants(str *sql, const pg_store *s);
/* "v IS NOT NULL AND ...": made from another text than the row has. */
void pg_append_outdated(str *sql, const pg_store *s);
/* "v IS NOT NULL AND ...": it is not known from what it was made. */
void pg_append_unknown(str *sql, const pg_store *s);
/* Takes the vectors, and their hashes, of texts that have become blank. */
vecmill_status pg_remove_blank(pg_store *s, vecmill_error *err);
/* Forgets the hashes of rows that are gone, where more are kept than the n_known rows have. */
vecmill_status pg_prune_hashes(pg_store *s, uint64_t n_known, vecmill_error *err);
uint64_t pg_store_n_removed(const store *s);

/* Puts the hashes that plain runs kept page by page where they can be looked up by key. */
vecmill_status pg_sort_hashes(pg_store *s, vecmill_error *err);

/* pg_write.c: the statement of a commit and its parameters */

/* Which rows of a page a statement is about. */
typedef struct pg_range {
  const store_page *page;
  size_t from, to;
  const char *refusal; /* if it is given, all are recorded as failed with it */
} pg_range;

/* Binary arrays, one element a row; then the same of failures. */
typedef struct pg_arrays {
  str hashes, vectors, places, writers, keys[PG_MAX_KEYS];
  str failed_hashes, reasons, failed_keys[PG_MAX_KEYS];
  pg_metrics_arrays metrics; /* of rows, where there are metrics */
  size_t n_rows, n_failed;
} pg_arrays;

/* NULL, or why the row is to be recorded as failed. */
const char *pg_failure_of(const pg_store *s, const store_row *row);
vecmill_status pg_arrays_fill(pg_arrays *a, const pg_store *s, const pg_range *range,
                              vecmill_error *err);
void pg_arrays_fini(pg_arrays *a);

typedef enum pg_write_part {
  PG_WRITE_PLACES, /* all of a page without failures; the lease is done if every row was as it was
                    * claimed, and lies where it lay */
  PG_WRITE_PAGE,   /* all of it, each row looked up by key */
  PG_WRITE_ROW,    /* some of its rows: lease and counters are left alone */
  PG_WRITE_END     /* none of them: the lease is done, those `before` are counted */
} pg_write_part;

/* The statement's answer, field by field. */
enum {
  PG_WROTE_LEASE,        /* 1: the lease is ours */
  PG_WROTE_ROWS,         /* by this statement */
  PG_WROTE_FAILED,       /* by this statement */
  PG_WROTE_RUN,          /* rows done in the run; this and the rest not with PG_WRITE_ROW */
  PG_WROTE_LEASE_ROWS,   /* under this lease, by this statement and before */
  PG_WROTE_LEASE_FAILED, /* the same */
  PG_WROTE_DONE,         /* "true" */
  PG_WROTE_HASHES        /* where there are metrics, and not all rows were written: of those that
                          * were, in order, 32 hexadecimal digits each */
};

void pg_append_write(str *sql, const pg_store *s, pg_write_part part, const pg_arrays *a,
                     const store_commit_counts *before);
void pg_add_write_params(const pg_store *s, pg_write_part part, const pg_page *head,
                         const pg_arrays *a, pg_params *p);

/* pg_commit.c */
vecmill_status pg_store_commit(store *s, const store_page *page, store_commit_counts *counts_out,
                               vecmill_error *err);

/* pg_metrics.c */
vecmill_status pg_store_metrics_find(store *s, const store_metrics_target *target,
                                     const char **table_out, vecmill_error *err);
vecmill_status pg_store_metrics_begin(store *s, vecmill_error *err);

/* pg_metrics_owner.c */
/* What columns.metrics_table is where an earlier version kept none: by what its last run wrote. */
#define PG_METRICS_OF_SELECTION                                                                    \
  "coalesce(E'\\n' || substring(regexp_replace(selection, ' by word list [0-9a-f]+$', '') from '; " \
  "metrics in (.*)$') || E'\\n', E'\\n')"
/* CONFLICT: the table of metrics holds the numbers of another text of these rows. */
vecmill_status pg_metrics_check_owner(pg_store *s, vecmill_error *err);
/* Before the first are written: from now on it holds those of ours. CONFLICT as above. */
vecmill_status pg_metrics_claim(pg_store *s, vecmill_error *err);

/* pg_backfill.c */
vecmill_status pg_store_metrics_count(store *s, uint64_t *n_out, vecmill_error *err);
vecmill_status pg_store_metrics_page(store *s, size_t n_max, store_page *page_out,
                                     vecmill_error *err);
vecmill_status pg_store_metrics_commit(store *s, const store_page *page, uint64_t *n_written_out,
                                       vecmill_error *err);

/* The metrics of a page's rows, as far as these have their texts still: "INSERT .. ON CONFLICT ..
 * DO UPDATE SET ..", to be sent with `params`. A condition on what is overwritten may follow: of m,
 * the row that is there, and excluded. */
typedef struct pg_metrics_write {
  str sql, hashes, keys[PG_MAX_KEYS];
  pg_metrics_arrays metrics;
  pg_params params;
} pg_metrics_write;

typedef void pg_append_condition(str *sql, const pg_store *s);

void pg_metrics_write_init(pg_metrics_write *w, const pg_store *s, const store_page *page);
void pg_metrics_write_fini(pg_metrics_write *w);

/* All of a page, in the transaction that is open. Where a rule of the database's own (a foreign
 * key, a CHECK) refuses them, half of them are tried, and half of these, until it is alone: the
 * others are written, and s->metrics tells of it. What a foreign key refused as its text had just
 * gone is not refused again: it is not there any more. */
vecmill_status pg_metrics_write_page(pg_store *s, PGconn *conn, const store_page *page,
                                     pg_append_condition *condition, uint64_t *n_written,
                                     vecmill_error *err);

/* pg_settle.c */
vecmill_status pg_store_metrics_settle(store *s, store_measure_function *measure, void *context,
                                       uint64_t *n_changed_out, vecmill_error *err);

/* pg_preview.c */
vecmill_status pg_store_preview(store *s, size_t n_max, store_counts *counts_out,
                                store_page *page_out, vecmill_error *err);
/* As preview_texts; in the transaction that is open on `conn`, or NULL. */
vecmill_status pg_read_texts(pg_store *s, PGconn *conn, const store_page *picked, size_t n_max,
                             size_t *next, store_page *page_out, vecmill_error *err);
vecmill_status pg_store_preview_texts(store *s, const store_page *picked, size_t n_max,
                                      size_t *next, store_page *page_out, vecmill_error *err);

/* pg_scan.c */
vecmill_status pg_store_scan(store *s, store_scan_function *each, void *context,
                             vecmill_error *err);
vecmill_status pg_store_scan_near(store *s, const float *query, size_t dimension, size_t n,
                                  bool exact, store_scan_function *each, void *context,
                                  const char **index_out, vecmill_error *err);
vecmill_status pg_store_read_text(store *s, const void *key, size_t n_key_bytes, str *text_out,
                                  vecmill_error *err);

#endif
