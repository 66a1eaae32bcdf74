/* The table that holds the numbers of a table's texts: its name and its columns. */
#ifndef STORE_METRICS_TABLE_H
#define STORE_METRICS_TABLE_H

#include <stdbool.h>

#include "base/str.h"
#include "store/store.h"

/* Beside the key, in the order in which a new table has them; the first four are of the text. */
enum { METRICS_N_OF_TEXT = 4, METRICS_N_COLUMNS = 6 };
extern const char *const metrics_columns[METRICS_N_COLUMNS];

/* sentences: sentence_metrics; documents and contents: document_metrics; else TABLE_metrics. */
void metrics_append_name(str *name, const char *table);

/* The tables of a corpus that share document_metrics. */
enum { METRICS_N_SHARERS = 2 };
extern const char *const metrics_sharers[METRICS_N_SHARERS];

/* The column that is the key of a new document_metrics, where the table has it: several tables of
 * texts share those metrics. NULL: the table's own key. */
const char *metrics_shared_key(const char *metrics_table);

/* What a metric is once its text has gone and its row stays: "NULL", or else "0". */
const char *metrics_nothing(bool is_strict);

/* After a table could not be had, `why`: OK where none was asked for, and a note if there is one
 * that does not fit; else `status` and `why`. */
vecmill_status metrics_do_without(const store_metrics_target *target, vecmill_status status,
                                  const vecmill_error *why, vecmill_error *err);

/* What the database refused of the metrics, by rules of its own. */
typedef struct metrics_refusals {
  uint64_t n;
  char first[1024]; /* "row K of table T: why" */
} metrics_refusals;

/* One more, of `table` and with that key (NULL: it cannot be had). */
void metrics_refuse(metrics_refusals *r, const char *table, const char *key, const char *why);
/* At the end: DATABASE where there were any. */
vecmill_status metrics_refused(const metrics_refusals *r, const char *metrics_table,
                               vecmill_error *err);

/* CONFLICT: `metrics_table` holds the numbers of another text of the table's rows. */
vecmill_status metrics_owned(const char *metrics_table, const char *text_column,
                             const char *vector_column, vecmill_error *err);

/* After metrics_page has read `page`: the cursor goes to its last key, or back to the start where
 * it has no rows. After an error the page is freed. */
vecmill_status metrics_follow_page(store *s, str *cursor, store_page *page, vecmill_error *err);

#endif
