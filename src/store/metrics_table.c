#include "store/metrics_table.h"

#include <stdio.h>

#include "base/err.h"
#include "base/log.h"

const char *const metrics_columns[METRICS_N_COLUMNS] = {
    "hawaiian_word_ratio", "word_count", "length", "entity_count", "frequency", "updated_at",
};

static const char documents[] = "document_metrics";

const char *const metrics_sharers[METRICS_N_SHARERS] = {"documents", "contents"};

void metrics_append_name(str *name, const char *table) {
  bool is_shared = false;
  for (size_t i = 0; i < METRICS_N_SHARERS; i++) is_shared |= str_same(table, metrics_sharers[i]);
  if (str_same(table, "sentences")) str_append_text(name, "sentence_metrics");
  else if (is_shared) str_append_text(name, documents);
  else str_append_format(name, "%s_metrics", table);
}

const char *metrics_shared_key(const char *metrics_table) {
  return str_same(metrics_table, documents) ? "sourceid" : NULL;
}

vecmill_status metrics_follow_page(store *s, str *cursor, store_page *page, vecmill_error *err) {
  str_clear(cursor);
  if (page->n_rows == 0) return VECMILL_OK;
  const store_row *last = &page->rows[page->n_rows - 1];
  str_append(cursor, last->key, last->n_key_bytes);
  if (!cursor->failed) return VECMILL_OK;
  s->operations->page_free(s, page);
  return err_set_memory(err, "page", cursor->n);
}

const char *metrics_nothing(bool is_strict) {
  return is_strict ? "0" : "NULL";
}

void metrics_refuse(metrics_refusals *r, const char *table, const char *key, const char *why) {
  char shown[200];
  if (r->n++ > 0) return;
  int n = snprintf(shown, sizeof shown, "%s", key ? key : "?");
  if (n >= (int)sizeof shown) err_mark_cut(shown, sizeof shown);
  n = snprintf(r->first, sizeof r->first, "row %s of table %s: %s", shown, table, why);
  if (n >= (int)sizeof r->first) err_mark_cut(r->first, sizeof r->first);
}

vecmill_status metrics_refused(const metrics_refusals *r, const char *metrics_table,
                               vecmill_error *err) {
  if (r->n == 0) return VECMILL_OK;
  return err_set(err, VECMILL_ERROR_DATABASE,
                 "table %s: the database refused the numbers of %llu texts, the first those of %s "
                 "(all others are written; mend the row or the rule, and run again)",
                 metrics_table, (unsigned long long)r->n, r->first);
}

vecmill_status metrics_owned(const char *metrics_table, const char *text_column,
                             const char *vector_column, vecmill_error *err) {
  return err_set(err, VECMILL_ERROR_CONFLICT,
                 "table %s holds the numbers of column %s, whose vectors are in %s (name another "
                 "for this text with --metrics-table)",
                 metrics_table, text_column, vector_column);
}

vecmill_status metrics_do_without(const store_metrics_target *target, vecmill_status status,
                                  const vecmill_error *why, vecmill_error *err) {
  bool is_none = status == VECMILL_ERROR_NOT_FOUND || status == VECMILL_ERROR_CONFLICT;
  if (is_none && !target->is_asked && !target->creates) {
    if (status == VECMILL_ERROR_CONFLICT) log_note("no metrics: %s", why->text);
    return VECMILL_OK;
  }
  if (err) *err = *why;
  return status;
}
