/*
 * Commits: a page's outcomes in one transaction.
 *
 * The user's own triggers and checks may refuse a row: that row has failed, the others have not.
 * A trigger that says RAISE(ROLLBACK) takes the whole transaction with it; then the page is
 * written in parts, so that each such row costs its neighbours no more than being written again.
 */
#include <string.h>

#include "store/sqlite_parts.h"

static void bind_row(sqlite3_stmt *statement, const store_row *row) {
  key_bind(statement, 'k', row->key, row->n_key_bytes);
  int text = sqlite3_bind_parameter_index(statement, ":text");
  sqlite3_bind_text64(statement, text, row->text, row->n_text_bytes, SQLITE_STATIC, SQLITE_UTF8);
}

/* Records why a row failed, if it is still the row that was claimed. */
static vecmill_status write_failure(sqlite_store *s, const store_row *row, const char *reason,
                                    store_commit_counts *counts, vecmill_error *err) {
  bind_row(s->fail, row);
  sqlite_bind_text_at(s->fail, ":reason", reason && *reason ? reason : "unknown");
  int code = sqlite3_step(s->fail);
  sqlite3_reset(s->fail);
  if (code != SQLITE_DONE) return sqlite_error(s, code, "cannot write a failure", err);
  if (sqlite3_changes64(s->db) > 0) counts->n_failed++;
  else counts->n_changed++;
  s->has_failures = true;
  return VECMILL_OK;
}

static vecmill_status remove_failure(sqlite_store *s, const store_row *row, vecmill_error *err) {
  str json = {0};
  key_append_json(&json, row->key, row->n_key_bytes);
  if (json.failed) return err_set_memory(err, "key", row->n_key_bytes);
  sqlite_bind_text_at(s->unfail, ":key", json.data);
  int code = sqlite3_step(s->unfail);
  sqlite3_reset(s->unfail);
  str_fini(&json);
  return code == SQLITE_DONE ? VECMILL_OK : sqlite_error(s, code, "cannot write a failure", err);
}

/* Which text the vector was made from. */
static vecmill_status keep_hash(sqlite_store *s, const store_row *row, vecmill_error *err) {
  bind_row(s->keep_hash, row);
  int code = sqlite3_step(s->keep_hash);
  sqlite3_reset(s->keep_hash);
  return code == SQLITE_DONE ? VECMILL_OK : sqlite_error(s, code, "cannot write a hash", err);
}

/* The row goes, with all that its transaction did: the page is written again without it. */
static void roll_back(sqlite_store *s, bool *rolled_back_out) {
  if (!sqlite3_get_autocommit(s->db)) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
  *rolled_back_out = true;
}

/* Whether the vector still stands beside its text once the triggers of its UPDATE have done what
 * they do; looked for only where they have written anything. */
static vecmill_status look_at_row(sqlite_store *s, const store_row *row, bool triggers_wrote,
                                  bool *landed_out, vecmill_error *err) {
  *landed_out = true;
  if (!triggers_wrote) return VECMILL_OK;
  bind_row(s->landed, row);
  int code = sqlite3_step(s->landed);
  sqlite3_reset(s->landed);
  *landed_out = code == SQLITE_ROW;
  return code == SQLITE_ROW || code == SQLITE_DONE
             ? VECMILL_OK
             : sqlite_error(s, code, "cannot read a row", err);
}

static vecmill_status write_vector(sqlite_store *s, const store_row *row,
                                   store_commit_counts *counts, bool *rolled_back_out,
                                   vecmill_error *err) {
  bind_row(s->update, row);
  int vector = sqlite3_bind_parameter_index(s->update, ":vector");
  sqlite3_bind_blob64(s->update, vector, row->vector, s->n_vector_bytes, SQLITE_STATIC);
  sqlite3_int64 n_changes_before = sqlite3_total_changes64(s->db);
  int code = sqlite3_step(s->update);
  sqlite3_reset(s->update);
  if ((code & 0xFF) == SQLITE_CONSTRAINT) {
    sqlite3_snprintf(sizeof counts->refusal, counts->refusal, "the database refused the vector: %s",
                     sqlite3_errmsg(s->db));
    *rolled_back_out = sqlite3_get_autocommit(s->db);
    return *rolled_back_out ? VECMILL_OK : write_failure(s, row, counts->refusal, counts, err);
  }
  if (code != SQLITE_DONE) return sqlite_error(s, code, "cannot write a vector", err);
  if (sqlite3_changes64(s->db) == 0) {
    /* Not the row that was claimed, and then this writes nothing either; else a trigger said
     * RAISE(IGNORE). */
    uint64_t n_before = counts->n_failed;
    static const char passed_over[] =
        "the database passed over the vector: a trigger on the table ignores the update";
    vecmill_status status = write_failure(s, row, passed_over, counts, err);
    if (counts->n_failed > n_before)
      sqlite3_snprintf(sizeof counts->refusal, counts->refusal, "%s", passed_over);
    return status;
  }
  bool has_landed = true, triggers_wrote = sqlite3_total_changes64(s->db) - n_changes_before > 1;
  vecmill_status status = look_at_row(s, row, triggers_wrote, &has_landed, err);
  if (status == VECMILL_OK && !has_landed) {
    sqlite3_snprintf(sizeof counts->refusal, counts->refusal,
                     "the database passed over the vector: a trigger on the table takes it away, or "
                     "changes the text with it");
    roll_back(s, rolled_back_out);
    return VECMILL_OK;
  }
  if (status == VECMILL_OK) status = keep_hash(s, row, err);
  if (status != VECMILL_OK) return status;
  counts->n_written++;
  if (s->metrics.is_on) {
    code = sqlite_metrics_write(s, row, false);
    if ((code & 0xFF) == SQLITE_CONSTRAINT) {
      /* the vector goes with them */
      sqlite3_snprintf(sizeof counts->refusal, counts->refusal,
                       "the database refused the metrics: %s", sqlite3_errmsg(s->db));
      roll_back(s, rolled_back_out);
      return VECMILL_OK;
    }
    if (code != SQLITE_DONE) return sqlite_error(s, code, "cannot write metrics", err);
  }
  return s->has_failures ? remove_failure(s, row, err) : VECMILL_OK;
}

/* Rows [*at, end); *at is where it ended. *rolled_back_out: that row took the transaction with it.
 */
static vecmill_status write_rows(sqlite_store *s, const store_page *page, size_t *at, size_t end,
                                 store_commit_counts *counts, bool *rolled_back_out,
                                 vecmill_error *err) {
  for (vecmill_status status; *at < end; ++*at) {
    store_row *row = &page->rows[*at];
    uint64_t n_before = counts->n_written;
    status = row->outcome == STORE_EMBEDDED ? write_vector(s, row, counts, rolled_back_out, err)
             : row->outcome == STORE_FAILED ? write_failure(s, row, row->reason, counts, err)
                                            : VECMILL_OK;
    row->is_written = status == VECMILL_OK && !*rolled_back_out && counts->n_written > n_before;
    if (status != VECMILL_OK || *rolled_back_out) return status;
  }
  return VECMILL_OK;
}

/*
 * One transaction: rows from *at up to the page's end, or up to and with the row that rolls back,
 * recorded as failed. *at goes on. Each try ends before the row where the last one did, so that it
 * comes to an end.
 */
static vecmill_status write_part(sqlite_store *s, const store_page *page, size_t *at,
                                 store_commit_counts *counts, vecmill_error *err) {
  size_t end = page->n_rows;
  for (;;) {
    store_commit_counts now = *counts;
    bool rolled_back = false, has_refused = end < page->n_rows;
    size_t here = *at;
    vecmill_status status = sqlite_begin(s, err);
    if (status != VECMILL_OK) return status;
    status = write_rows(s, page, &here, end, &now, &rolled_back, err);
    if (status == VECMILL_OK && rolled_back) {
      end = here;
      memcpy(counts->refusal, now.refusal, sizeof now.refusal);
      continue;
    }
    if (status == VECMILL_OK && has_refused)
      status = write_failure(s, &page->rows[end], counts->refusal, &now, err);
    status = sqlite_end(s, status, err);
    if (status != VECMILL_OK) return status;
    *counts = now;
    *at = end + has_refused;
    return VECMILL_OK;
  }
}

vecmill_status sqlite_store_commit(store *base, const store_page *page,
                                   store_commit_counts *counts_out, vecmill_error *err) {
  sqlite_store *s = of(base);
  vecmill_status status = VECMILL_OK;
  *counts_out = (store_commit_counts){0};
  pthread_mutex_lock(&s->mutex);
  size_t at = 0;
  while (status == VECMILL_OK && at < page->n_rows)
    status = write_part(s, page, &at, counts_out, err);
  while (at < page->n_rows) page->rows[at++].is_written = false; /* of a part that failed */
  pthread_mutex_unlock(&s->mutex);
  return status;
}
