/*
 * The store over a PostgreSQL database from inside: its connections, and what each step of a run
 * leaves for the next.
 */
#ifndef STORE_PG_STORE_H
#define STORE_PG_STORE_H

#include <libpq-fe.h>
#include <pthread.h>

#include "base/str.h"
#include "store/metrics_table.h"
#include "store/pg.h"

#define PG_MAX_KEYS 32 /* as many as an index of the server can have (INDEX_MAX_KEYS) */
#define PG_MAX_CONNECTIONS 16
#define PG_USUAL_CONNECTIONS 4
#define PG_POLL_MS 100   /* how often the end of other people's leases is looked for */
#define PG_MAX_PARAMS 80 /* two keys of 32 columns, and some */

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

/* What its values are to JSON, and how they are put in order here. */
typedef enum pg_key_form { PG_KEY_TEXT = 0, PG_KEY_NUMBER, PG_KEY_BOOLEAN } pg_key_form;

typedef struct pg_key_column {
  char *name, *type, *collation; /* as SQL; collation "": that of the type, or none */
  pg_key_form form;              /* of the store's own key */
} pg_key_column;

/* Where the numbers of the texts go. */
typedef struct pg_metrics {
  char *schema, *name, *sql;        /* sql: quoted, schema and all */
  char *rows_sql;                   /* where its rows are read and removed: as table_sql below */
  pg_key_column joins[PG_MAX_KEYS]; /* its key: columns of the table by the same names */
  size_t n_joins;
  bool is_missing;                   /* metrics_begin makes it */
  bool is_shared;                    /* rows may share one row of metrics */
  bool has_more;                     /* it has columns of others too */
  bool is_strict[METRICS_N_COLUMNS]; /* the column takes no NULL */
  bool is_on, has_ratios;
  bool is_claimed; /* it is noted that it holds the numbers of our text */
  /* With --changed: the corpus's other tables whose texts the rows may be of, as SQL; NULL: none */
  char *sharers[METRICS_N_SHARERS];
  uint64_t words; /* of the word list */
  str cursor;     /* of metrics_page */
  metrics_refusals refusals;
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
  bool forms_vary; /* how keys and texts are written, or compared, depends on the session */
  str more_path;   /* schemas whose operators compare keys, and which the search path lacks */
  bool sees_part;  /* row-level security may hide rows from this user */
  str viewer;      /* who looks, where that says which rows there are; "": whoever looks sees all */
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
  bool is_noted;   /* the record says which table it is of, and which key */
  bool is_doubtful, has_vectors; /* the record; the column, as inspect has it */
  char *record_since; /* when the record of this run was made: another one's is of another time */
  bool has_other_key; /* its hashes are kept by another one than ours */

  pg_metrics metrics;

  /* begin and later */
  size_t dimension;
  bool looks_only;          /* a dry run */
  bool has_triggers;        /* that may change what an UPDATE writes */
  bool has_told_rows;       /* that fewer are claimed at once than were wanted; claim's own */
  bool has_begun, is_alone; /* alone: this process began the run */
  bool is_first_pass;       /* of this process in the run: it has not looked yet */
  bool has_ended;           /* this process tries nothing again any more */
  int64_t run;              /* number of the one that this process works in */
  bool has_single;          /* atomic: such a row is out */
  bool told_lost;           /* that rows are handed out so */
  str cut; /* the last key within `limit`; "" though it is known: there was no row */
  bool knows_cut;
  str selection; /* the rows that our run has in view, in words */
  int64_t pass;
  uint64_t n_run_done; /* when the last pass was over */
  uint64_t n_removed;  /* vectors of texts that became blank */

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

#endif
