/*
 * What the parts of the PostgreSQL store share.
 *
 * State of our own lies in a schema (`vecmill`), for each vector column one row of `columns`: what
 * made it, and the run that is going on. Work is shared by leases:
 *
 *   claim   under the lock of the column's row: takes over a lease that has expired, else reads
 *           the next page after the run's cursor, or several, and writes a lease on each range of
 * keys beat    every third of a lease's time all leases of this process are prolonged commit  one
 * statement: it locks the lease if that is still ours (owner and fence), and only then writes
 * vectors and hashes, and marks it done. Rows that are not as they were claimed are left to a
 * second one, which writes failures too, and marks it done
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

#include <libpq-fe.h>
#include <pthread.h>

#include "base/str.h"
#include "store/metrics_table.h"
#include "store/pg.h"

#define PG_MAX_KEYS 16
#define PG_MAX_CONNECTIONS 16
#define PG_USUAL_CONNECTIONS 4
#define PG_POLL_MS 100   /* how often the end of other people's leases is looked for */
#define PG_MAX_PARAMS 48 /* two keys of 16 columns, and some */

typedef struct pg_connection {
  PGconn *conn; /* NULL: not open */
  pthread_mutex_t mutex;
} pg_connection;

/* Which of the connections a call takes, so that no party waits for another. From PG_MORE_WRITERS
 * on, where there are as many, they are writers too. */
typedef enum pg_role { PG_READER, PG_WRITER, PG_BEAT, PG_MORE_WRITERS } pg_role;

/* Pages that are claimed, and not asked for yet; pg_ahead.c. */
#define PG_MOST_AHEAD 16
typedef struct pg_ahead {
  store_page pages[PG_MOST_AHEAD];
  size_t next, n;
  size_t n_pages;              /* claimed at once of late; 0: none yet */
  uint64_t at_ns, n_rows_then; /* when a look at the rate began, and n_rows_settled then */
  bool is_first_look;
} pg_ahead;

typedef struct pg_key_column {
  char *name, *type, *collation; /* as SQL; collation "": that of the type, or none */
} pg_key_column;

/* The name, as SQL, of the collation of the pg_attribute a; NULL: its type has none. */
#define PG_COLLATION_OF_A                                                                          \
  "(SELECT quote_ident(ln.nspname) || '.' || quote_ident(l.collname) FROM pg_collation AS l "      \
  "JOIN pg_namespace AS ln ON ln.oid = l.collnamespace WHERE l.oid = a.attcollation)"

/* Where the numbers of the texts go. */
/* Of pg_rewrite: the rule acts in this session; its action is NOTHING (nodes.h: CMD_NOTHING was 6
 * before MERGE came in 15). */
#define PG_RULE_IS_ACTIVE                                                                          \
  "ev_enabled IN ('A', CASE current_setting('session_replication_role') WHEN 'replica' THEN 'R' "  \
  "ELSE 'O' END)"
#define PG_RULE_DOES_NOTHING                                                                       \
  "ev_action::text LIKE '({QUERY :commandType ' || CASE WHEN "                                     \
  "current_setting('server_version_num')::integer < 150000 THEN 6 ELSE 7 END || ' %'"

typedef struct pg_metrics {
  char *schema, *name, *sql;        /* sql: quoted, schema and all */
  pg_key_column joins[PG_MAX_KEYS]; /* its key: columns of the table by the same names */
  size_t n_joins;
  bool is_missing; /* metrics_begin makes it */
  bool is_shared;  /* rows may share one row of metrics */
  bool has_more;   /* it has columns of others too */
  bool is_on, has_ratios;
  str cursor; /* of metrics_page */
} pg_metrics;

/* What a database's texts are. */
typedef enum pg_encoding { PG_ENCODING_UTF8 = 0, PG_ENCODING_OTHER, PG_ENCODING_NONE } pg_encoding;

typedef struct pg_store {
  store base; /* first: a store * is a pg_store * */
  char **keywords, **values;
  size_t first_host;                   /* atomic: of several, the one that answered last */
  char *shown, *schema_wanted, *state; /* state: the schema's name */
  const int *stop;
  pg_encoding encoding;
  pg_connection connections[PG_MAX_CONNECTIONS];
  unsigned n_connections, lease_seconds, wait_seconds;
  unsigned n_write_connections;
  uint64_t outage_began_ns; /* atomic; 0: the server answers */
  bool has_told;            /* atomic: that the server is waited for */
  bool is_lost;             /* atomic: the server was waited for in vain */
  char owner[37];           /* a uuid: this run of this process */

  /* find */
  char *schema, *table, *text_column, *vector_column, *where, *id_list;
  pg_key_column keys[PG_MAX_KEYS];
  size_t n_keys;
  bool has_vector_column, null_keys, retry_failed, changed, only_reads, is_half;
  bool long_keys;  /* they may be too long for an index of the state's */
  bool forms_vary; /* how keys and texts are written depends on settings of the session */
  uint64_t limit;
  char *vector_type;    /* as SQL, schema and all; NULL: the database has no pgvector */
  char *vector_schema;  /* quoted: where its operators are */
  Oid vector_oid;       /* element type of arrays */
  int vector_dimension; /* as the column is declared; -1: any */
  /* Quoted, schema and all: where its rows are read and written; its bare name. A table that others
   * inherit from is ONLY its own rows, for which alone its key is unique. */
  char *table_sql, *table_name;
  char table_oid[16]; /* to look things up by: its name wants USAGE on its schema */
  char *keys_sql;     /* quoted */

  /* record */
  char *maker_text[6];
  char *index;     /* that a search used */
  bool is_barred;  /* a run may not read it yet: all rights that are missing are told at once */
  char *column_id; /* in the state's `columns`; NULL: no record */

  pg_metrics metrics;

  /* begin and later */
  size_t dimension;
  bool looks_only;    /* a dry run */
  bool has_triggers;  /* that may change what an UPDATE writes */
  bool has_told_rows; /* that fewer are claimed at once than were wanted; claim's own */
  bool has_begun, is_first_pass, is_alone; /* alone: this process began the run */
  bool has_ended;                          /* this process tries nothing again any more */
  int64_t run;                             /* number of the one that this process works in */
  bool has_single;                         /* atomic: such a row is out */
  bool told_lost;                          /* that rows are handed out so */
  str cut; /* the last key within `limit`; "" though it is known: there was no row */
  bool knows_cut;
  str selection; /* the rows that our run has in view, in words */
  int64_t pass;
  uint64_t n_removed; /* vectors of texts that became blank */

  pg_ahead ahead; /* claim's own */

  /* Leases that are done, and known to be: "1,2,3". What is done may be asked for until then. */
  pthread_mutex_t commit_mutex; /* and which connections are being written by, a bit for each */
  uint64_t n_rows_settled;
  pthread_cond_t writer_is_free;
  unsigned busy_writers;
  str settled;

  /* the beat */
  pthread_t beat_thread;
  pthread_mutex_t beat_mutex;
  pthread_cond_t beat_wake;
  bool beat_runs, beat_ends; /* beat_ends: atomic as well */
} pg_store;

static inline pg_store *pg_of(store *s) {
  return (pg_store *)s;
}

/* --- pg_hosts.c --- */

/* How many are named; 1 too where none is, or where libpq must say that lists do not fit. */
size_t pg_n_hosts(const pg_store *s);

/* What libpq is given for the i-th of several: s->keywords with these values. pg_host_fini after
 * failure too, which is for want of memory. */
#define PG_HOST_LISTS 3
typedef struct pg_host {
  const char **values;
  char *items[PG_HOST_LISTS];
} pg_host;
bool pg_host_init(pg_host *h, const pg_store *s, size_t i);
void pg_host_fini(pg_host *h);

/* --- pg_passfile.c --- */

/* One that others may read is warned of, and libpq kept from looking into it, by a keyword more,
 * the n_keywords-th: there must be room. False: memory is out. */
bool pg_pass_over_passfile(pg_store *s, size_t n_keywords);

/* --- pg_connect.c --- */

/* How long the server is still waited for once a stop was asked for. */
#define PG_STOP_GRACE_NS 2000000000ull

/* Opens all connections that the run will use: whether the server has room for them is better known
 * before the first row. */
vecmill_status pg_open_all(pg_store *s, vecmill_error *err);
/* Makes a connection that is missing or lost; with its mutex held. */
vecmill_status pg_open_connection(pg_store *s, pg_connection *c, vecmill_error *err);
/* Waits until the socket can be read or written, a tick at most. False: neither. */
bool pg_wait_for_socket(PGconn *conn, bool to_write);
bool pg_stop_asked(const pg_store *s);

/* --- pg_statement.c --- */

/* Parameters of one statement: text, or binary where n_bytes is given. */
typedef struct pg_params {
  const char *values[PG_MAX_PARAMS];
  int lengths[PG_MAX_PARAMS], formats[PG_MAX_PARAMS];
  Oid types[PG_MAX_PARAMS];
  int n;
  size_t n_bytes; /* of the binary ones */
} pg_params;

/* Of a message, a server takes no more (PQ_LARGE_MESSAGE_LIMIT); less room for the rest of it. */
#define PG_MOST_BYTES (((size_t)1 << 30) - (1 << 16))

void pg_add_text(pg_params *p, const char *value);
void pg_add_binary(pg_params *p, const str *value);

/*
 * Runs one statement (where forms_vary, in a transaction of its own); results come in binary, so
 * that queries cast all but vectors to text. A
 * connection that was lost is made anew and the statement sent again, as it is after a deadlock or
 * a serialization failure: the statement must bear that. The caller clears *result_out. Errors:
 * DATABASE, MEMORY, STOPPED (a stop was asked for and the server did not answer in time).
 */
vecmill_status pg_run(pg_store *s, pg_role role, const str *sql, const pg_params *params,
                      const char *what, PGresult **result_out, vecmill_error *err);

/* Several statements without parameters in one message, which the server runs as one transaction.
 */
vecmill_status pg_run_script(pg_store *s, pg_role role, const char *sql, const char *what,
                             vecmill_error *err);

/*
 * A transaction: `body` runs its statements by pg_step on the connection it is given. After a lost
 * connection, a deadlock or a serialization failure all of it is done again, so that `body` must
 * set what it gives out anew each time. Rolled back when `body` fails.
 */
typedef vecmill_status pg_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err);
vecmill_status pg_transact(pg_store *s, pg_role role, pg_body *body, void *context,
                           const char *what, vecmill_error *err);
vecmill_status pg_step(pg_store *s, PGconn *conn, const str *sql, const pg_params *params,
                       const char *what, PGresult **result_out, vecmill_error *err);

/* Starts a statement whose rows come one by one; pg_next_row gives them, NULL at the end. The
 * connection is this caller's until pg_stream_end. */
vecmill_status pg_stream_begin(pg_store *s, const str *sql, const pg_params *params,
                               const char *what, vecmill_error *err);
vecmill_status pg_next_row(pg_store *s, const char *what, PGresult **row_out, vecmill_error *err);
void pg_stream_end(pg_store *s);

/* Whether statements of this thread are cancelled as soon as a stop is asked for, and not after the
 * time that a commit is given: for what takes long and leaves nothing half done. */
void pg_stop_at_once(bool at_once);

/* A field as text; "" for NULL. */
const char *pg_text(const PGresult *result, int row, int column);
int64_t pg_integer(const PGresult *result, int row, int column);

/* --- pg_error.c: what went wrong, in words --- */

/* The error code of the last failed call of this thread, as "42501"; "" where there was none. */
const char *pg_last_state(void);
bool pg_state_is(const char *class_or_code);
void pg_forget_state(void);
void pg_set_state(const char *state);

vecmill_status pg_connection_error(pg_store *s, PGconn *conn, vecmill_error *err);
/* `result` NULL: the connection is lost. */
vecmill_status pg_result_error(pg_store *s, PGconn *conn, const PGresult *result, const char *what,
                               vecmill_error *err);

/* --- pg_sql.c: SQL and arrays in pieces --- */

void pg_append_name(str *sql, const char *name);
void pg_append_string(str *sql, const char *text);
/* "STATE"."name" */
void pg_append_state(str *sql, const pg_store *s, const char *name);
/* "table"."column" */
void pg_append_column(str *sql, const pg_store *s, const char *column);
/* "table"."a", "table"."b" */
void pg_append_keys(str *sql, const pg_store *s);
/* "table"."a"::text, "table"."b"::text */
void pg_append_key_texts(str *sql, const pg_store *s);
/* The key as hashes and failures have it, whose indexes have limits: the ARRAY[..], or, where that
 * is too long for them, the beginnings of its parts and, as one more element, the md5 of each. Of
 * the table's columns (alias NULL), compared as those indexes compare whatever collations the
 * columns have; or of texts ALIASk0, ALIASk1. */
void pg_append_record_key(str *sql, const pg_store *s, const char *alias);
/* ARRAY[..] of these, whole */
void pg_append_key_array(str *sql, const pg_store *s);
/* bigint, text COLLATE "C" */
void pg_append_type(str *sql, const pg_key_column *column);
void pg_key_column_fini(pg_key_column *column);
vecmill_status pg_key_column_init(pg_key_column *column, const char *name, const char *type,
                                  const char *collation, vecmill_error *err);
/* ("a", "b") > (($3)[1]::bigint, ($3)[2]::text): the whole key against an array parameter */
void pg_append_compare(str *sql, const pg_store *s, const char *comparison, const char *array);
/* " AND ..." for each of: where, limit's cut (parameter $cut), keys that are not NULL */
void pg_append_considered(str *sql, const pg_store *s, const char *cut);

/* A key's bytes: for each column its length (4 bytes) and its text. */
void pg_key_append(str *key, const PGresult *result, int row, int first, size_t n);
/* The key as a text[] in PostgreSQL's binary form. */
void pg_key_array(str *array, const void *key, size_t n_key_bytes);
void pg_key_json(const store *s, const void *key, size_t n_key_bytes, str *json_out);
int pg_key_compare(const store *s, const void *a, size_t n_a, const void *b, size_t n_b);
/* Part `index` of a key. */
const char *pg_key_part(const void *key, size_t n_key_bytes, size_t index, size_t *n_out);

/* A one-dimensional array in binary: begin, then each element, then nothing more. */
void pg_array_begin(str *array, Oid element, size_t n);
void pg_array_add(str *array, const void *bytes, size_t n);
void pg_array_add_null(str *array);
void pg_array_add_vector(str *array, const pg_store *s, const float *vector, size_t n);

/* pgvector's wire form of a vector or halfvec. False: a number that it cannot hold. */
bool pg_append_vector(str *out, const pg_store *s, const float *vector, size_t n);
size_t pg_vector_bytes(const pg_store *s, size_t n);
/* Back into floats; false when it is none of `n` numbers. */
bool pg_read_vector(const pg_store *s, const void *bytes, size_t n_bytes, float *out, size_t n);

/* --- pg_metrics.c: what a commit writes of them --- */

/* Binary arrays, a column of metrics each. */
typedef struct pg_metrics_arrays {
  str columns[METRICS_N_OF_TEXT];
} pg_metrics_arrays;

void pg_metrics_arrays_begin(pg_metrics_arrays *a, size_t n);
void pg_metrics_arrays_add(pg_metrics_arrays *a, const store_metrics *metrics);
bool pg_metrics_arrays_failed(const pg_metrics_arrays *a);
void pg_metrics_arrays_fini(pg_metrics_arrays *a);
void pg_metrics_add_params(pg_params *p, const pg_metrics_arrays *a);

/* For an unnest: its parameters, the first of them $first, and their names. */
void pg_metrics_append_unnest(str *sql, int first);
void pg_metrics_append_names(str *sql);
/* For the UPDATE .. RETURNING of that unnest, as d; and ", m AS (..)", which takes them from u. */
void pg_metrics_append_returning(str *sql, const pg_store *s);
void pg_metrics_append_cte(str *sql, const pg_store *s);
/* ", m AS (..)": the rows of metrics of u go, or are emptied where others have columns there. */
void pg_metrics_append_removal(str *sql, const pg_store *s);

/* "CREATE TABLE ..": the metrics' */
void pg_metrics_append_create(str *sql, const pg_store *s);
/* PREFIX0, PREFIX1 */
void pg_append_numbered(str *sql, const char *prefix, size_t n);
/* " COLLATE .." behind what a join is compared with: that of the metrics' column, where the table's
 * is another */
void pg_metrics_append_collation(str *sql, const pg_key_column *join);
/* "table"."join", .. */
void pg_metrics_append_joins(str *sql, const pg_store *s);
/* ", "table"."join" AS j0, .., "table"."key" AS o0, ..": what the next one reads, with m0 to m3 */
void pg_metrics_append_places(str *sql, const pg_store *s);
/* "INSERT .. SELECT .. FROM source WHERE .. ON CONFLICT .. DO UPDATE": of those that share a row
 * the first in key order. In the order of their key, so that two commits never wait for each other.
 */
void pg_metrics_append_insert(str *sql, const pg_store *s, const char *source);

void pg_metrics_fini(pg_metrics *m);

/* --- pg_encoding.c --- */

/* Which one the database has; the connection may be closed by this, to be opened anew. */
vecmill_status pg_settle_encoding(pg_store *s, vecmill_error *err);
/* "(..)": the text is NULL, or nothing but characters of Unicode's White_Space property, as
 * store_is_blank has it. */
void pg_append_blank(str *sql, const pg_store *s);

/* --- pg_names.c --- */

typedef struct pg_given_name {
  const char *option, *name; /* name NULL: not given */
  const char *separator;     /* of several names in one; NULL: it is one */
} pg_given_name;

/* ARGUMENT when one of at most PG_MAX_KEYS names is longer than the server's names can be. */
vecmill_status pg_check_names(pg_store *s, const pg_given_name *names, size_t n,
                              vecmill_error *err);

/* --- the operations, by file --- */

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

/* What this user may do there: make it, or, where it is, do what a run does; or only read it. */
typedef struct pg_state_rights {
  bool has_schema, has_tables, may_make, may_write, may_read;
} pg_state_rights;
vecmill_status pg_ask_state(pg_store *s, pg_state_rights *out, vecmill_error *err);

/* Of whatever version. */
vecmill_status pg_state_exists(pg_store *s, bool *exists_out, vecmill_error *err);
/* Makes it, or brings it up to date. */
vecmill_status pg_create_state(pg_store *s, vecmill_error *err);
/* UNSUPPORTED where it is there and not of this version; for calls that do not change it. */
vecmill_status pg_check_state(pg_store *s, vecmill_error *err);
/* The state is there, and its owner has not let this user in. */
vecmill_status pg_ask_for_grants(pg_store *s, vecmill_error *err);

/* What its owner says so that this user may work with it; what this user is to be told that may not
 * make it. */
vecmill_status pg_append_state_grants(pg_store *s, str *sql, vecmill_error *err);
vecmill_status pg_append_state_ddl(pg_store *s, str *sql, vecmill_error *err);

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

/* pg_share.c */
vecmill_status pg_store_pass_begin(store *s, bool *may_find_out, vecmill_error *err);

/* Makes this process known as one that works on the column: it joins the run that others are in, or
 * begins one. BUSY when those have other rows in view (--where, --limit, --retry-failed). */
vecmill_status pg_join(pg_store *s, vecmill_error *err);
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
  PG_WROTE_DONE          /* "true" */
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

/* pg_backfill.c */
vecmill_status pg_store_metrics_count(store *s, uint64_t *n_out, vecmill_error *err);
vecmill_status pg_store_metrics_page(store *s, store_metrics_rows kind, size_t n_max,
                                     store_page *page_out, vecmill_error *err);
vecmill_status pg_store_metrics_commit(store *s, const store_page *page, uint64_t *n_written_out,
                                       vecmill_error *err);
vecmill_status pg_store_metrics_count_twins(store *s, uint64_t *n_changed_out, vecmill_error *err);
vecmill_status pg_store_preview(store *s, size_t n_max, store_counts *counts_out,
                                store_page *page_out, vecmill_error *err);

/* pg_scan.c */
vecmill_status pg_store_scan(store *s, store_scan_function *each, void *context,
                             vecmill_error *err);
vecmill_status pg_store_scan_near(store *s, const float *query, size_t dimension, size_t n,
                                  bool exact, store_scan_function *each, void *context,
                                  const char **index_out, vecmill_error *err);
vecmill_status pg_store_read_text(store *s, const void *key, size_t n_key_bytes, str *text_out,
                                  vecmill_error *err);

#endif
