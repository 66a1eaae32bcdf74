/*
 * The main job: a vector beside every row of a table of texts.
 *
 * vecmill_ingest_run() finds the columns, opens the model, and embeds every row
 * that has a text and no vector yet, in pages that are each committed once. It
 * may be interrupted at any moment, by kill -9 too: what was committed stays, the
 * next run goes on from there, and no row is ever written twice.
 *
 * Threads: a run uses threads of its own; events are delivered by the thread
 * that called vecmill_ingest_run. Several runs may go on at once in one process,
 * on different vector columns.
 */
#ifndef VECMILL_INGEST_H
#define VECMILL_INGEST_H

#include <stddef.h>
#include <stdint.h>

#include <vecmill/config.h>
#include <vecmill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VECMILL_INGEST_DEFAULT_BATCH 100

/* Asks a run to end early. Initialise with {0}; must outlive the run. */
typedef struct vecmill_ingest_control {
  int stop;
} vecmill_ingest_control;

/*
 * The run finishes the batches that are being computed, commits them and returns
 * VECMILL_ERROR_STOPPED with its report filled. Async-signal-safe; any thread; may be called again.
 */
VECMILL_API void vecmill_ingest_stop(vecmill_ingest_control *control);

typedef enum vecmill_ingest_event_kind {
  VECMILL_INGEST_CONFIGURED = 0, /* n_workers, batch, table as asked */
  VECMILL_INGEST_MODEL = 1,      /* about to load: model, model_reason */
  VECMILL_INGEST_TABLE = 2,      /* columns found */
  VECMILL_INGEST_REMAINING = 3,  /* n_total and the counts are known */
  VECMILL_INGEST_STARTED = 4,    /* the workers run; not sent when nothing is to be embedded */
  /* a page was committed: n_batch, n_done; n_done rises strictly, up to n_total. n_batch 0: the
   * end, reached by rows that are gone or that other processes have done */
  VECMILL_INGEST_BATCH = 5,
  VECMILL_INGEST_TICK = 6 /* about ten a second: for a display that moves */
} vecmill_ingest_event_kind;

/* Strings are valid during the call. Fields hold what is known so far; the rest is 0 or NULL. */
typedef struct vecmill_ingest_event {
  vecmill_ingest_event_kind kind;
  unsigned n_workers;
  size_t batch;
  const char *table, *id_columns, *text_column, *vector_column;
  const char *model, *device;
  /* "named", "EMBED_MODEL", "it made this column", "the default", "the only model here" */
  const char *model_reason;

  /* as counted at the start */
  uint64_t n_rows, n_had_vector, n_blank, n_failed_before, n_null_keys;
  /* where `changed`: of n_total, with a vector of an older text; of n_had_vector, with a vector of
   * which it is not known what it was made from */
  uint64_t n_outdated, n_unknown;
  uint64_t n_total;                /* rows to embed; grows when rows are added meanwhile */
  uint64_t n_done;                 /* of them, written or failed */
  uint64_t n_batch;                /* rows of this batch, written or failed */
  uint64_t n_failed;               /* in this run so far */
  uint64_t n_in_flight;            /* rows claimed and not committed at this moment */
  uint64_t n_tokens;               /* so far */
  double seconds;                  /* since the workers started */
  double rows_per_s, tokens_per_s; /* lately */
  double eta_s;                    /* below 0: not known yet */

  /* metrics are stored in this table (docs/metrics.md); NULL: they are not */
  const char *metrics_table;
  int metrics_only; /* nothing is embedded: n_total and the like are rows to measure */
  /* with BATCH: averages over the batch's rows; below 0: of none (ratio: of none that has one) */
  double avg_ratio, avg_word_count, avg_length, avg_entity_count;
} vecmill_ingest_event;

typedef void vecmill_ingest_handler(void *context, const vecmill_ingest_event *event);

/* Initialise with {0}; then set what you need. Strings are borrowed for the run. */
typedef struct vecmill_ingest_options {
  /* an SQLite file; or PostgreSQL: an address, KEYWORD=VALUE, or NULL, and the settings say where
   */
  const char *database;
  const char *table;        /* "schema.table" too, for PostgreSQL */
  const char *schema;       /* PostgreSQL: of the table; NULL: the search path */
  const char *state_schema; /* PostgreSQL: where vecmill keeps its state; NULL: "vecmill" */
  unsigned lease_seconds;   /* PostgreSQL: how long a silent process keeps its rows; 0: 60 */
  unsigned n_connections;   /* PostgreSQL: at most; 0: 4 */
  /* a name or a directory; NULL: EMBED_MODEL, what made the column, the default */
  const char *model;
  const char *id_column;     /* NULL: the primary key; "a,b" for a composite one */
  const char *text_column;   /* NULL: found */
  const char *vector_column; /* NULL: "embedding"; added if missing */
  const char *where;         /* SQL condition */
  /* put before every text, as it is; NULL: EMBED_PREFIX, what made the column, the model's own */
  const char *prefix;
  /* where EMBED_MODEL and EMBED_PREFIX are looked up; NULL: the environment alone. The other
   * settings are the caller's to ask for (vecmill_config_workers and so on) and to set here. */
  const vecmill_config *config;
  /* rows claimed and committed together; 0: VECMILL_INGEST_DEFAULT_BATCH */
  size_t batch;
  uint64_t limit;     /* only the first rows in key order, embedded or not; 0: all */
  unsigned n_workers; /* 0: one a processor that this process may use */
  /* a worker's rest, after each `batch` rows that it embedded and before its next one; 0 to 86,400
   * seconds */
  double sleep_s;
  /*
   * Metrics of the texts (docs/metrics.md) are stored in the transaction of the vectors where there
   * is a table for them, by its name: sentences has sentence_metrics, documents and contents have
   * document_metrics, another TABLE has TABLE_metrics. Once any of these is set, a table that is
   * missing or unfit is an error (NOT_FOUND, CONFLICT), before the first row.
   */
  const char *metrics_table;      /* its name; NULL: as above */
  const char *wordlist;           /* a file of words for hawaiian_word_ratio; NULL: that is NULL */
  const char *wordlist_overrides; /* a file beside it; NULL: none */
  int create_metrics;             /* not 0: a missing table is made */
  /* not 0: nothing is embedded, rows with a vector and no metrics get them; ARGUMENT with
   * `changed`, `retry_failed` or `prefix` */
  int metrics_only;
  /* not 0: nothing is written; a sample of the rows is embedded to say how long the run would take
   */
  int dry_run;
  int retry_failed; /* not 0: rows that failed in an earlier run too */
  /* not 0: rows too whose text is no longer the one that their vector was made from. Every run
   * keeps a hash of each text with its vector; a vector without one counts as unchanged. */
  int changed;
  vecmill_ingest_control *control;  /* may be NULL */
  vecmill_ingest_handler *on_event; /* may be NULL */
  void *event_context;
} vecmill_ingest_options;

typedef enum vecmill_ingest_stage {
  VECMILL_INGEST_STAGE_NONE = 0, /* nothing was embedded */
  VECMILL_INGEST_STAGE_READER = 1,
  VECMILL_INGEST_STAGE_EMBED = 2,
  VECMILL_INGEST_STAGE_WRITER = 3,
  /* none of them: for rows that other processes held, or for the database itself */
  VECMILL_INGEST_STAGE_WAITING = 4
} vecmill_ingest_stage;

/* What a run did. Released by vecmill_ingest_report_fini. */
typedef struct vecmill_ingest_report {
  char *model; /* its name, or the path as given */
  char *table, *vector_column;
  uint64_t n_rows;             /* considered */
  uint64_t n_had_vector;       /* had one before */
  uint64_t n_written;          /* vectors written by this run */
  uint64_t n_failed;           /* recorded as failures by this run */
  uint64_t n_failed_before;    /* recorded by earlier runs and not retried */
  uint64_t n_failed_elsewhere; /* recorded meanwhile by other processes that share this run */
  uint64_t n_blank;            /* nothing to embed */
  uint64_t n_null_keys;        /* a NULL in the key: cannot be addressed */
  /* where `changed`: had a vector of an older text; lost theirs because the text is blank now; have
   * one of which it is not known what it was made from, and were passed over */
  uint64_t n_outdated, n_removed, n_unknown;
  uint64_t n_truncated; /* longer than the model reads */
  uint64_t n_repaired;  /* texts with ill-formed UTF-8; each bad sequence became U+FFFD */
  /* times a text or row changed under way; its new text is embedded by a later pass */
  uint64_t n_changed;
  /* embedded in vain: another process had taken them over, because this one gave no sign of life
   * for longer than its lease */
  uint64_t n_taken_over;
  /* claimed but not embedded, because the run was stopped, or rows kept changing or had their
   * vectors taken away again */
  uint64_t n_left;
  uint64_t n_tokens;
  uint64_t n_batches; /* pages committed */
  unsigned n_passes;
  double seconds; /* embedding, from the first claim to the last commit */
  double rows_per_s, tokens_per_s;
  unsigned n_workers;
  double *worker_busy;                         /* n_workers shares of `seconds`, 0 to 1 */
  double reader_busy, embed_busy, writer_busy; /* 1 - the share each stage was blocked */
  vecmill_ingest_stage limited_by;             /* the stage that was blocked least */
  char *metrics_table;                         /* where metrics went; NULL: nowhere */
  uint64_t n_measured;                         /* metrics_only: rows of metrics that were written */
  uint64_t n_frequencies;                      /* rows whose frequency was written at the end */
  double avg_ratio, avg_word_count, avg_length, avg_entity_count; /* as in the event, of the run */
  uint64_t n_sampled;       /* dry_run: rows that were embedded, for */
  uint64_t expected_tokens; /* what all n_left would have, and */
  double expected_s;        /* how long they would take */
  char *first_failure;      /* the reason of the first row that failed; NULL if none did */
} vecmill_ingest_report;

VECMILL_API void vecmill_ingest_report_fini(vecmill_ingest_report *report);

/* "reader", "embed", "writer", "waiting", or "nothing". */
VECMILL_API const char *vecmill_ingest_stage_name(vecmill_ingest_stage stage);

/*
 * Runs to the end. *report_out is always initialised, and filled as far as the run came.
 * VECMILL_OK: every row that could be is embedded. PARTIAL: some rows failed, now or in an earlier
 * run that was not retried, or are left as n_left says. STOPPED: vecmill_ingest_stop. CONFLICT:
 * another model made the column. BUSY: another vecmill works on it, or a stop was asked for while
 * the database was locked. NOT_FOUND, ARGUMENT, UNSUPPORTED, DATABASE, IO, MEMORY, FORMAT.
 */
VECMILL_API vecmill_status vecmill_ingest_run(const vecmill_ingest_options *options,
                                              vecmill_ingest_report *report_out,
                                              vecmill_error *err);

/* What a database is; "" where it is not known, or does not apply. */
typedef struct vecmill_database_info {
  char place[512]; /* a file's path; user@host:port/database, as the connection came out */
  char server[64]; /* "PostgreSQL 16.9" */
  char vector[32]; /* pgvector's version, "0.8.5" */
  char tls[32];    /* "TLSv1.3" */
} vecmill_database_info;

/*
 * Opens a database as a run would and closes it again; writes nothing. `config` and
 * `database`: as in the options. `info_out` may be NULL; after an error it holds what was found
 * before. Errors: NOT_FOUND, UNSUPPORTED (PostgreSQL without pgvector), DATABASE (also where the
 * file or its folder may not be written, a server takes no writes, or vecmill's state may not be
 * kept there), ARGUMENT, IO, MEMORY.
 */
VECMILL_API vecmill_status vecmill_database_check(const vecmill_config *config,
                                                  const char *database,
                                                  vecmill_database_info *info_out,
                                                  vecmill_error *err);

#ifdef __cplusplus
}
#endif
#endif
