/*
 * Sharing a table: runs, passes, pages and their leases, the beat.
 *
 * All processes that work on a column share one run: a cursor that goes through the keys, in
 * passes. A pass is over when a page came short and no lease is out; if it claimed anything,
 * whoever sees that begins the next one. The first key is not lost sight of in between: what is
 * inserted or changed behind the cursor is met by the next pass, and a pass that claims nothing is
 * the last.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/pg_parts.h"

#define POLL_MS 100 /* how often the end of other people's leases is looked for */

void pg_append_hash(str *sql, const pg_store *s) {
  str_append_text(sql, "md5(");
  pg_append_column(sql, s, s->text_column);
  str_append_text(sql, "::text)::uuid");
}

/* Whether the row is recorded as failed with the text that it has. */
static void append_failed(str *sql, const pg_store *s) {
  if (!s->column_id || (s->retry_failed && !s->owner[0])) { /* a look before anything is recorded */
    str_append_text(sql, "false");
    return;
  }
  str_append_text(sql, "EXISTS (SELECT 1 FROM ");
  pg_append_state(sql, s, "failures");
  str_append_format(
      sql, " AS vecmill_f WHERE vecmill_f.column_id = %s AND vecmill_f.key = ", s->column_id);
  pg_append_key_array(sql, s);
  str_append_text(sql, " AND vecmill_f.hash = ");
  pg_append_hash(sql, s);
  if (s->retry_failed) str_append_format(sql, " AND vecmill_f.owner = '%s'::uuid", s->owner);
  str_append_text(sql, ")");
}

static void append_vector(str *sql, const pg_store *s) {
  if (s->has_vector_column) pg_append_column(sql, s, s->vector_column);
  else str_append_text(sql, "NULL");
}

static void append_null_vector(str *sql, const pg_store *s) {
  append_vector(sql, s);
  str_append_text(sql, " IS NULL");
}

/* --- counts --- */

/* The key of the limit-th considered row; none when there are fewer. */
vecmill_status pg_find_cut(pg_store *s, vecmill_error *err) {
  if (s->limit == 0) return VECMILL_OK;
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT ");
  for (size_t i = 0; i < s->n_keys; i++) {
    if (i > 0) str_append_text(&sql, ", ");
    pg_append_column(&sql, s, s->keys[i].name);
    str_append_text(&sql, "::text");
  }
  str_append_format(&sql, " FROM %s WHERE true", s->table_sql);
  pg_append_considered(&sql, s, "");
  str_append_format(&sql, " ORDER BY %s LIMIT 1 OFFSET %llu", s->keys_sql,
                    (unsigned long long)(s->limit - 1 < INT64_MAX ? s->limit - 1 : INT64_MAX));
  vecmill_status status = pg_run(s, PG_READER, &sql, NULL, "cannot read the keys", &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) > 0) pg_key_append(&s->cut, rows, 0, 0, s->n_keys);
  if (s->cut.failed) status = err_set_memory(err, "limit", s->cut.n);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

vecmill_status pg_add_cut(pg_store *s, pg_params *p, str *array, vecmill_error *err) {
  if (!s->cut.n) return VECMILL_OK;
  pg_key_array(array, s->cut.data, s->cut.n);
  pg_add_binary(p, array);
  return array->failed ? err_set_memory(err, "limit", array->n) : VECMILL_OK;
}

/* With a vector of an older text, of them failed, with a vector of unknown text. */
static void append_outdated_counts(str *sql, const pg_store *s) {
  if (!s->changed) {
    str_append_text(sql, ", '0', '0', '0'");
    return;
  }
  str_append_text(sql, ", count(*) FILTER (WHERE NOT ");
  pg_append_blank(sql, s);
  str_append_text(sql, " AND ");
  pg_append_outdated(sql, s);
  str_append_text(sql, ")::text, count(*) FILTER (WHERE NOT ");
  pg_append_blank(sql, s);
  str_append_text(sql, " AND ");
  pg_append_outdated(sql, s);
  str_append_text(sql, " AND ");
  append_failed(sql, s);
  str_append_text(sql, ")::text, count(*) FILTER (WHERE ");
  pg_append_unknown(sql, s);
  str_append_text(sql, ")::text");
}

static vecmill_status count_rows(pg_store *s, store_counts *counts_out, vecmill_error *err) {
  str sql = {0}, cut = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT count(*)::text, count(");
  append_vector(&sql, s);
  str_append_text(&sql, ")::text, count(*) FILTER (WHERE ");
  append_null_vector(&sql, s);
  str_append_text(&sql, " AND ");
  pg_append_blank(&sql, s);
  str_append_text(&sql, ")::text, count(*) FILTER (WHERE ");
  append_null_vector(&sql, s);
  str_append_text(&sql, " AND NOT ");
  pg_append_blank(&sql, s);
  str_append_text(&sql, " AND ");
  append_failed(&sql, s);
  str_append_text(&sql, ")::text");
  append_outdated_counts(&sql, s);
  str_append_format(&sql, " FROM %s WHERE true", s->table_sql);
  pg_append_considered(&sql, s, "$1::text[]");
  vecmill_status status = pg_add_cut(s, &p, &cut, err);
  if (status == VECMILL_OK)
    status = pg_run(s, PG_READER, &sql, &p, "cannot count the rows", &rows, err);
  if (status == VECMILL_OK) {
    uint64_t n[7];
    for (int i = 0; i < 7; i++) n[i] = (uint64_t)pg_integer(rows, 0, i);
    *counts_out = (store_counts){.n_rows = n[0],
                                 .n_done = n[1] - n[4],
                                 .n_blank = n[2],
                                 .n_failed = n[3] + n[5],
                                 .n_outdated = n[4] - n[5],
                                 .n_unknown = n[6]};
    counts_out->n_left =
        counts_out->n_rows - counts_out->n_done - counts_out->n_blank - counts_out->n_failed;
  }
  PQclear(rows);
  str_fini(&sql);
  str_fini(&cut);
  return status;
}

static vecmill_status count_null_keys(pg_store *s, uint64_t *n_out, vecmill_error *err) {
  *n_out = 0;
  if (!s->null_keys) return VECMILL_OK;
  str sql = {0};
  PGresult *rows = NULL;
  str_append_format(&sql, "SELECT count(*)::text FROM %s WHERE (false", s->table_sql);
  for (size_t i = 0; i < s->n_keys; i++) {
    str_append_text(&sql, " OR ");
    pg_append_column(&sql, s, s->keys[i].name);
    str_append_text(&sql, " IS NULL");
  }
  str_append_text(&sql, ")");
  if (s->where) str_append_format(&sql, " AND (%s\n)", s->where);
  vecmill_status status = pg_run(s, PG_READER, &sql, NULL, "cannot count the rows", &rows, err);
  if (status == VECMILL_OK) *n_out = (uint64_t)pg_integer(rows, 0, 0);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* The totals of the run: set by whoever began it, read by who joins. */
static vecmill_status share_totals(pg_store *s, store_counts *counts, vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, s->is_alone ? "UPDATE " : "SELECT n_total::text, n_done::text FROM ");
  pg_append_state(&sql, s, "columns");
  if (s->is_alone)
    str_append_format(&sql, " SET n_total = %llu", (unsigned long long)counts->n_left);
  str_append_format(&sql, " WHERE id = %s", s->column_id);
  if (s->is_alone) str_append_text(&sql, " RETURNING n_total::text, n_done::text");
  vecmill_status status = pg_run(s, PG_READER, &sql, NULL, "cannot share the totals", &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) > 0) {
    counts->n_run_total = (uint64_t)pg_integer(rows, 0, 0);
    counts->n_run_done = (uint64_t)pg_integer(rows, 0, 1);
  }
  PQclear(rows);
  str_fini(&sql);
  return status;
}

vecmill_status pg_count_considered(pg_store *s, store_counts *counts_out, vecmill_error *err) {
  vecmill_status status = count_rows(s, counts_out, err);
  return status == VECMILL_OK ? count_null_keys(s, &counts_out->n_null_keys, err) : status;
}

vecmill_status pg_store_count(store *base, store_counts *counts_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  *counts_out = (store_counts){0};
  vecmill_status status = pg_find_cut(s, err);
  if (status == VECMILL_OK && s->changed) status = pg_remove_blank(s, err);
  if (status == VECMILL_OK) status = pg_count_considered(s, counts_out, err);
  if (status == VECMILL_OK && s->changed && s->is_alone) {
    uint64_t n_vectors = counts_out->n_done + counts_out->n_outdated;
    status = pg_prune_hashes(s, n_vectors - counts_out->n_unknown, err);
  }
  if (status == VECMILL_OK) status = share_totals(s, counts_out, err);
  return status;
}

/* --- who works --- */

/* This machine, this boot, this table of processes: where a process number means something. */
static void name_place(str *place) {
  char text[256];
  FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
  if (gethostname(text, sizeof text) == 0) str_append_format(place, "%.200s", text);
  if (file && fgets(text, sizeof text, file)) str_append_format(place, "/%.36s", text);
  if (file) fclose(file);
  ssize_t n = readlink("/proc/self/ns/pid", text, sizeof text - 1);
  if (n > 0) str_append_format(place, "/%.*s", (int)n, text);
}

/* Those of this place whose process is no more: their leases need not be waited for. */
static vecmill_status bury_the_dead(pg_store *s, PGconn *conn, vecmill_error *err) {
  str sql = {0}, place = {0};
  pg_params p = {0};
  PGresult *rows = NULL, *gone = NULL;
  name_place(&place);
  str_append_text(&sql, "SELECT owner::text, pid::text FROM ");
  pg_append_state(&sql, s, "workers");
  str_append_format(&sql, " WHERE column_id = %s AND host = $1::text", s->column_id);
  pg_add_text(&p, place.failed || !place.data ? "" : place.data);
  vecmill_status status = pg_step(s, conn, &sql, &p, "cannot read the workers", &rows, err);
  for (int i = 0; status == VECMILL_OK && i < PQntuples(rows); i++) {
    pid_t pid = (pid_t)pg_integer(rows, i, 1);
    if (kill(pid, 0) == 0 || errno != ESRCH) continue;
    str_clear(&sql);
    str_append_text(&sql, "WITH gone AS (DELETE FROM ");
    pg_append_state(&sql, s, "workers");
    str_append_text(&sql, " WHERE owner = $1::uuid RETURNING owner) UPDATE ");
    pg_append_state(&sql, s, "leases");
    str_append_text(&sql, " AS l SET expires = '-infinity' FROM gone WHERE l.owner = gone.owner");
    p = (pg_params){0};
    pg_add_text(&p, pg_text(rows, i, 0));
    status = pg_step(s, conn, &sql, &p, "cannot bury the dead", &gone, err);
    PQclear(gone);
  }
  PQclear(rows);
  str_fini(&sql);
  str_fini(&place);
  return status;
}

/* The rows that a run has in view: only those who agree on them may share a cursor. */
static void append_selection(str *text, const pg_store *s) {
  str_append_format(text, "id %s; text %s", s->id_list, s->text_column);
  if (s->limit) str_append_format(text, "; --limit %llu", (unsigned long long)s->limit);
  if (s->retry_failed) str_append_text(text, "; --retry-failed");
  if (s->changed) str_append_text(text, "; --changed");
  if (s->where) str_append_format(text, "; --where %s", s->where);
}

/* With the column's row locked: "pass, selection, others that live, leases that live". */
static vecmill_status look_around(pg_store *s, PGconn *conn, PGresult **rows_out,
                                  vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "SELECT pass::text, selection, (SELECT count(*) FROM ");
  pg_append_state(&sql, s, "workers");
  str_append_format(&sql,
                    " AS w WHERE w.column_id = c.id AND w.owner <> '%s'::uuid AND seen > "
                    "clock_timestamp() - interval '%u s')::text, (SELECT count(*) FROM ",
                    s->owner, s->lease_seconds);
  pg_append_state(&sql, s, "leases");
  str_append_text(&sql, " AS l WHERE l.column_id = c.id AND NOT done AND expires > "
                        "clock_timestamp())::text FROM ");
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql, " AS c WHERE id = %s", s->column_id);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot read the run", rows_out, err);
  str_fini(&sql);
  return status;
}

vecmill_status pg_lock_column(pg_store *s, PGconn *conn, const char *columns, PGresult **rows_out,
                              vecmill_error *err) {
  str sql = {0};
  str_append_format(&sql, "SELECT %s FROM ", columns);
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql, " WHERE id = %s FOR UPDATE", s->column_id);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot lock the run", rows_out, err);
  if (status == VECMILL_OK && PQntuples(*rows_out) == 0)
    status = err_set(err, VECMILL_ERROR_CONFLICT,
                     "%s: the record of column %s is gone (somebody removed it; run again)",
                     s->shown, s->vector_column);
  str_fini(&sql);
  return status;
}

/* Begins a run: its first pass, nothing of earlier ones left over. */
static vecmill_status begin_run(pg_store *s, PGconn *conn, const char *selection,
                                vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "WITH l AS (DELETE FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE column_id = %s), w AS (DELETE FROM ", s->column_id);
  pg_append_state(&sql, s, "workers");
  str_append_format(&sql, " WHERE column_id = %s) UPDATE ", s->column_id);
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql,
                    " SET selection = $1::text, pass = pass + 1, cursor = NULL, pass_over = "
                    "false, pass_claimed = 0, n_total = 0, n_done = 0, run_began = "
                    "clock_timestamp() WHERE id = %s RETURNING "
                    "pass::text",
                    s->column_id);
  pg_add_text(&p, selection);
  vecmill_status status = pg_step(s, conn, &sql, &p, "cannot begin a run", &rows, err);
  if (status == VECMILL_OK) s->pass = pg_integer(rows, 0, 0);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* "INSERT INTO workers .. ON CONFLICT .. seen": this process is known, or known again after others
 * gave it up; parameter $1 is the place. */
static void append_worker(str *sql, const pg_store *s) {
  str_append_text(sql, "INSERT INTO ");
  pg_append_state(sql, s, "workers");
  str_append_format(sql,
                    "(owner, column_id, host, pid, lease_seconds) VALUES('%s'::uuid, %s, $1::text, "
                    "%ld, %u) ON "
                    "CONFLICT (owner) DO UPDATE SET seen = clock_timestamp()",
                    s->owner, s->column_id, (long)getpid(), s->lease_seconds);
}

static vecmill_status enter_worker(pg_store *s, PGconn *conn, vecmill_error *err) {
  str sql = {0}, place = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  name_place(&place);
  append_worker(&sql, s);
  pg_add_text(&p, place.failed || !place.data ? "" : place.data);
  vecmill_status status = pg_step(s, conn, &sql, &p, "cannot enter this process", &rows, err);
  PQclear(rows);
  str_fini(&sql);
  str_fini(&place);
  return status;
}

static vecmill_status join_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  PGresult *rows = NULL;
  str selection = {0};
  vecmill_status status = pg_lock_column(s, conn, "id::text", &rows, err);
  PQclear(rows);
  rows = NULL;
  append_selection(&selection, s);
  if (selection.failed) status = err_set_memory(err, "selection", selection.n);
  if (status == VECMILL_OK) status = bury_the_dead(s, conn, err);
  if (status == VECMILL_OK) status = look_around(s, conn, &rows, err);
  if (status == VECMILL_OK) {
    bool alone = pg_integer(rows, 0, 2) == 0 && pg_integer(rows, 0, 3) == 0;
    s->pass = pg_integer(rows, 0, 0);
    s->is_alone = alone;
    if (alone) status = begin_run(s, conn, selection.data, err);
    else if (strcmp(pg_text(rows, 0, 1), selection.data) != 0)
      status = err_set(err, VECMILL_ERROR_BUSY,
                       "table %s: another vecmill is working on its column %s with other rows in "
                       "view: %s (say the same, or wait until it has finished)",
                       s->table, s->vector_column, pg_text(rows, 0, 1));
  }
  if (status == VECMILL_OK) status = enter_worker(s, conn, err);
  PQclear(rows);
  str_fini(&selection);
  return status;
}

/* A random uuid, version 4 (RFC 9562). */
static vecmill_status make_owner(pg_store *s, vecmill_error *err) {
  unsigned char b[16];
  if (getentropy(b, sizeof b) != 0) return err_set_errno(err, errno, "cannot draw", "a number");
  b[6] = (unsigned char)((b[6] & 0x0F) | 0x40);
  b[8] = (unsigned char)((b[8] & 0x3F) | 0x80);
  char *at = s->owner;
  for (int i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *at++ = '-';
    at += sprintf(at, "%02x", b[i]);
  }
  return VECMILL_OK;
}

vecmill_status pg_join(pg_store *s, vecmill_error *err) {
  s->is_first_pass = true;
  vecmill_status status = make_owner(s, err);
  if (status == VECMILL_OK)
    status = pg_transact(s, PG_READER, join_body, NULL, "cannot begin a run", err);
  return status == VECMILL_OK ? pg_start_beat(s, err) : status;
}

/* --- passes --- */

typedef struct pass_look {
  bool may_find, must_wait;
} pass_look;

/*
 * At the beginning of a pass no page of ours is out. A lease that is ours all the same is one whose
 * claim was committed while its answer was lost, or that could not be given back: our own beat
 * would keep it alive, and everybody would wait for it.
 */
static vecmill_status give_up_strays(pg_store *s, PGconn *conn, vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "UPDATE ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql,
                    " SET expires = '-infinity' WHERE column_id = %s AND owner = '%s'::uuid AND "
                    "NOT done AND expires > '-infinity'",
                    s->column_id, s->owner);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot read the leases", &rows, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

static vecmill_status pass_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  pass_look *look = context;
  PGresult *rows = NULL, *leases = NULL, *updated = NULL;
  str sql = {0};
  *look = (pass_look){0};
  vecmill_status status = pg_lock_column(s, conn, "pass::text, pass_claimed::text", &rows, err);
  if (status == VECMILL_OK) status = bury_the_dead(s, conn, err);
  if (status == VECMILL_OK) status = give_up_strays(s, conn, err);
  str_append_text(&sql, "SELECT count(*) FILTER (WHERE expires > clock_timestamp())::text, "
                        "count(*)::text FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE column_id = %s AND NOT done", s->column_id);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, NULL, "cannot read the leases", &leases, err);
  if (status == VECMILL_OK) {
    int64_t pass = pg_integer(rows, 0, 0), n_live = pg_integer(leases, 0, 0);
    bool expired = pg_integer(leases, 0, 1) > n_live;
    if (pass != s->pass || expired) {
      s->pass = pass;
      look->may_find = true;
    } else if (n_live > 0) {
      look->must_wait = true;
    } else if (pg_integer(rows, 0, 1) > 0) {
      str_clear(&sql);
      str_append_text(&sql, "UPDATE ");
      pg_append_state(&sql, s, "columns");
      str_append_format(&sql,
                        " SET pass = pass + 1, cursor = NULL, pass_over = false, "
                        "pass_claimed = 0 WHERE id = %s",
                        s->column_id);
      status = pg_step(s, conn, &sql, NULL, "cannot begin a pass", &updated, err);
      if (status == VECMILL_OK) s->pass = pass + 1;
      look->may_find = status == VECMILL_OK;
    }
  }
  PQclear(rows);
  PQclear(leases);
  PQclear(updated);
  str_fini(&sql);
  return status;
}

vecmill_status pg_store_pass_begin(store *base, bool *may_find_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  pass_look look = {.may_find = true};
  vecmill_status status = VECMILL_OK;
  while (!s->is_first_pass) {
    status = pg_transact(s, PG_READER, pass_body, &look, "cannot look for another pass", err);
    if (status != VECMILL_OK || !look.must_wait) break;
    if (pg_stop_asked(s)) return err_set(err, VECMILL_ERROR_STOPPED, "stopped");
    clock_sleep_ms(POLL_MS);
  }
  if (status == VECMILL_OK && look.may_find && s->changed && !s->is_first_pass)
    status = pg_remove_blank(s, err);
  s->is_first_pass = false;
  *may_find_out = look.may_find;
  return status;
}

/* --- pages --- */

vecmill_status pg_take_page(pg_store *s, const PGresult *result, bool has_vector, size_t dimension,
                            store_page *page_out, vecmill_error *err) {
  size_t n = (size_t)PQntuples(result), n_keys = s->n_keys;
  str memory = {0};
  store_page page = {.rows = mem_calloc(n ? n : 1, sizeof *page.rows), .n_rows = n};
  float *vector = has_vector ? mem_alloc_aligned(dimension, sizeof *vector) : NULL;
  pg_page head = {0};
  str_append(&memory, &head, sizeof head);
  for (size_t i = 0; page.rows && i < n; i++) {
    store_row *row = &page.rows[i];
    int text = (int)n_keys;
    row->key = (const void *)memory.n; /* offsets while the memory still moves */
    pg_key_append(&memory, result, (int)i, 0, n_keys);
    row->n_key_bytes = memory.n - (size_t)row->key;
    char hash[PG_HASH_BYTES] = {0};
    memcpy(hash, pg_text(result, (int)i, text + 1),
           PQgetlength(result, (int)i, text + 1) == PG_HASH_BYTES ? PG_HASH_BYTES : 0);
    str_append(&memory, hash, PG_HASH_BYTES);
    row->text = (const char *)memory.n;
    row->n_text_bytes = (size_t)PQgetlength(result, (int)i, text);
    str_append(&memory, PQgetvalue(result, (int)i, text), row->n_text_bytes);
    if (!has_vector || !vector) continue;
    while (!memory.failed && memory.n % sizeof(float)) str_append_char(&memory, 0);
    bool good = pg_read_vector(s, PQgetvalue(result, (int)i, text + 2),
                               (size_t)PQgetlength(result, (int)i, text + 2), vector, dimension);
    if (!good) memset(vector, 0, dimension * sizeof *vector); /* of another length: no likeness */
    row->vector = (const float *)memory.n;
    str_append(&memory, vector, dimension * sizeof *vector);
  }
  mem_free(vector);
  if (!page.rows || memory.failed || (has_vector && !vector)) {
    mem_free(page.rows);
    str_fini(&memory);
    return err_set_memory(err, "page", n * sizeof *page.rows);
  }
  for (size_t i = 0; i < n; i++) {
    store_row *row = &page.rows[i];
    row->key = memory.data + (uintptr_t)row->key;
    row->text = memory.data + (uintptr_t)row->text;
    if (row->vector)
      row->vector = (const float *)(const void *)(memory.data + (uintptr_t)row->vector);
  }
  page.memory = memory.data;
  *page_out = page;
  return VECMILL_OK;
}

/* SELECT of key, text and hash of the rows to embed. */
void pg_append_page(str *sql, const pg_store *s, const char *cut) {
  str_append_text(sql, "SELECT ");
  for (size_t i = 0; i < s->n_keys; i++) {
    pg_append_column(sql, s, s->keys[i].name);
    str_append_text(sql, "::text, ");
  }
  pg_append_column(sql, s, s->text_column);
  str_append_text(sql, "::text, ");
  pg_append_hash(sql, s);
  str_append_format(sql, "::text FROM %s WHERE ", s->table_sql);
  pg_append_wants(sql, s);
  str_append_text(sql, " AND NOT ");
  pg_append_blank(sql, s);
  str_append_text(sql, " AND NOT ");
  append_failed(sql, s);
  pg_append_considered(sql, s, cut);
}

typedef struct claim {
  size_t n_max;
  bool must_wait; /* nothing to claim, and others have leases that may yet be left to us */
  PGresult *rows;
  char lease[24], fence[24];
} claim;

static void copy_number(char to[24], const char *from) {
  snprintf(to, 24, "%s", from);
}

/* The next page after the cursor, and a lease on it. `column`: cursor's parts, from field 2. */
static vecmill_status claim_next(pg_store *s, PGconn *conn, claim *c, const char *cursor,
                                 vecmill_error *err) {
  str sql = {0}, cut = {0}, first = {0}, last = {0}, key = {0};
  pg_params p = {0};
  PGresult *made = NULL;
  bool has_cursor = *cursor != '\0';
  pg_append_page(&sql, s, has_cursor ? "$2::text[]" : "$1::text[]");
  if (has_cursor) {
    str_append_text(&sql, " AND ");
    pg_append_compare(&sql, s, ">", "$1::text[]");
    pg_add_text(&p, cursor);
  }
  str_append_format(&sql, " ORDER BY %s LIMIT %zu", s->keys_sql, c->n_max);
  vecmill_status status = pg_add_cut(s, &p, &cut, err);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, &p, "cannot read a page", &c->rows, err);
  int n = status == VECMILL_OK ? PQntuples(c->rows) : 0;
  p = (pg_params){0};
  str_clear(&sql);
  if (n > 0) {
    pg_key_append(&key, c->rows, 0, 0, s->n_keys);
    pg_key_array(&first, key.data, key.n);
    str_clear(&key);
    pg_key_append(&key, c->rows, n - 1, 0, s->n_keys);
    pg_key_array(&last, key.data, key.n);
    pg_add_binary(&p, &first);
    pg_add_binary(&p, &last);
    str_append_text(&sql, "WITH l AS (INSERT INTO ");
    pg_append_state(&sql, s, "leases");
    str_append_format(&sql,
                      "(column_id, owner, first_key, last_key, n_rows, expires) VALUES(%s, "
                      "'%s'::uuid, $1::text[], $2::text[], %d, clock_timestamp() + interval "
                      "'%u s') RETURNING id), ",
                      s->column_id, s->owner, n, s->lease_seconds);
  } else {
    str_append_text(&sql, "WITH l AS (SELECT NULL::bigint AS id), ");
  }
  str_append_text(&sql, "c AS (UPDATE ");
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql,
                    " SET %spass_over = %s, pass_claimed = pass_claimed + %d WHERE id = %s) "
                    "SELECT id::text FROM l",
                    n > 0 ? "cursor = $2::text[], " : "", (size_t)n < c->n_max ? "true" : "false",
                    n, s->column_id);
  if (status == VECMILL_OK && (key.failed || first.failed || last.failed))
    status = err_set_memory(err, "page", key.n);
  if (status == VECMILL_OK) status = pg_step(s, conn, &sql, &p, "cannot lease a page", &made, err);
  if (status == VECMILL_OK && n > 0) {
    copy_number(c->lease, pg_text(made, 0, 0));
    copy_number(c->fence, "1");
  }
  PQclear(made);
  str *all[] = {&sql, &cut, &first, &last, &key};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) str_fini(all[i]);
  return status;
}

/* A lease that has expired, with its keys; *found_out false: there is none. */
static vecmill_status find_expired(pg_store *s, PGconn *conn, PGresult **lease_out,
                                   vecmill_error *err) {
  str sql = {0};
  PGresult *gone = NULL;
  /* what is done was kept so that a lost answer could be asked for again */
  str_append_text(&sql, "DELETE FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE column_id = %s AND done AND (", s->column_id);
  pthread_mutex_lock(&s->settled_mutex);
  if (s->settled.n) str_append_format(&sql, "id IN (%s) OR ", s->settled.data);
  str_clear(&s->settled);
  pthread_mutex_unlock(&s->settled_mutex);
  str_append_text(&sql, "expires < clock_timestamp())");
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot clear leases", &gone, err);
  PQclear(gone);
  str_clear(&sql);
  str_append_text(&sql,
                  "SELECT id::text, (fence + 1)::text, first_key::text, last_key::text FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql,
                    " WHERE column_id = %s AND NOT done AND expires < clock_timestamp() ORDER "
                    "BY id LIMIT 1 FOR UPDATE SKIP LOCKED",
                    s->column_id);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, NULL, "cannot look for expired leases", lease_out, err);
  str_fini(&sql);
  return status;
}

/* Takes over what is left of an expired lease; c->rows NULL: nothing was, and it is gone. */
static vecmill_status take_over(pg_store *s, PGconn *conn, const PGresult *lease, claim *c,
                                vecmill_error *err) {
  str sql = {0}, cut = {0};
  pg_params p = {0};
  PGresult *changed = NULL;
  pg_add_text(&p, pg_text(lease, 0, 2));
  pg_add_text(&p, pg_text(lease, 0, 3));
  pg_append_page(&sql, s, "$3::text[]");
  str_append_text(&sql, " AND ");
  pg_append_compare(&sql, s, ">=", "$1::text[]");
  str_append_text(&sql, " AND ");
  pg_append_compare(&sql, s, "<=", "$2::text[]");
  str_append_format(&sql, " ORDER BY %s LIMIT %zu", s->keys_sql, c->n_max);
  vecmill_status status = pg_add_cut(s, &p, &cut, err);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, &p, "cannot read a page", &c->rows, err);
  int n = status == VECMILL_OK ? PQntuples(c->rows) : 0;
  str_clear(&sql);
  p = (pg_params){0};
  if (n == 0) {
    str_append_text(&sql, "DELETE FROM ");
    pg_append_state(&sql, s, "leases");
    str_append_format(&sql, " WHERE id = %s", pg_text(lease, 0, 0));
    PQclear(c->rows);
    c->rows = NULL;
  } else {
    /* rows that were added within its keys beyond the batch are for the next pass */
    str_append_text(&sql, "WITH c AS (UPDATE ");
    pg_append_state(&sql, s, "columns");
    str_append_format(&sql, " SET pass_claimed = pass_claimed + %d WHERE id = %s) UPDATE ", n,
                      s->column_id);
    pg_append_state(&sql, s, "leases");
    str_append_format(&sql,
                      " SET owner = '%s'::uuid, fence = %s, attempts = attempts + 1, n_rows = "
                      "%d, expires = clock_timestamp() + interval '%u s' WHERE id = %s",
                      s->owner, pg_text(lease, 0, 1), n, s->lease_seconds, pg_text(lease, 0, 0));
    copy_number(c->lease, pg_text(lease, 0, 0));
    copy_number(c->fence, pg_text(lease, 0, 1));
  }
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, NULL, "cannot take over a lease", &changed, err);
  PQclear(changed);
  str_fini(&sql);
  str_fini(&cut);
  return status;
}

/* Whether others hold leases, which may expire and be left to us. */
static vecmill_status look_for_others(pg_store *s, PGconn *conn, bool *found_out,
                                      vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT EXISTS (SELECT 1 FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE column_id = %s AND owner <> '%s'::uuid AND NOT done)::text",
                    s->column_id, s->owner);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot read the leases", &rows, err);
  *found_out = status == VECMILL_OK && pg_text(rows, 0, 0)[0] == 't';
  PQclear(rows);
  str_fini(&sql);
  return *found_out ? bury_the_dead(s, conn, err) : status;
}

/* Pages follow the key's index, in this transaction: a table without fresh statistics tempts the
 * planner to sort all of it for each page. */
static vecmill_status claim_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  claim *c = context;
  PGresult *column = NULL, *lease = NULL;
  PQclear(c->rows);
  c->rows = NULL;
  c->lease[0] = '\0';
  c->must_wait = false;
  vecmill_status status = pg_lock_column(
      s, conn,
      "pass::text, pass_over::text, cursor::text, set_config('enable_seqscan', 'off', "
      "true), set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', "
      "'off', true)",
      &column, err);
  while (status == VECMILL_OK && !c->rows) {
    status = find_expired(s, conn, &lease, err);
    if (status != VECMILL_OK || PQntuples(lease) == 0) break;
    status = take_over(s, conn, lease, c, err);
    PQclear(lease);
    lease = NULL;
  }
  if (status == VECMILL_OK) s->pass = pg_integer(column, 0, 0); /* others may have gone on */
  bool over = status == VECMILL_OK && pg_text(column, 0, 1)[0] == 't';
  if (status == VECMILL_OK && !c->rows && !over)
    status = claim_next(s, conn, c, pg_text(column, 0, 2), err);
  if (status == VECMILL_OK && (!c->rows || PQntuples(c->rows) == 0))
    status = look_for_others(s, conn, &c->must_wait, err);
  PQclear(column);
  PQclear(lease);
  return status;
}

vecmill_status pg_store_claim(store *base, size_t n_max, store_page *page_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  claim c = {.n_max = n_max};
  *page_out = (store_page){0};
  vecmill_status status;
  for (;;) {
    status = pg_transact(s, PG_READER, claim_body, &c, "cannot claim a page", err);
    if (status != VECMILL_OK || !c.must_wait) break;
    if (pg_stop_asked(s)) {
      status = err_set(err, VECMILL_ERROR_STOPPED, "stopped");
      break;
    }
    clock_sleep_ms(POLL_MS);
  }
  if (status == VECMILL_OK && c.rows && PQntuples(c.rows) > 0) {
    status = pg_take_page(s, c.rows, false, 0, page_out, err);
    if (status == VECMILL_OK) {
      pg_page *page = page_out->memory;
      memcpy(page->lease, c.lease, sizeof page->lease);
      memcpy(page->fence, c.fence, sizeof page->fence);
    }
  }
  PQclear(c.rows);
  return status;
}

/* A page that was not committed goes back at once: whoever comes next takes it over. */
void pg_store_page_free(store *base, store_page *page) {
  pg_store *s = pg_of(base);
  pg_page *head = page->memory;
  bool is_lost = __atomic_load_n(&s->is_lost, __ATOMIC_RELAXED); /* waited for long enough */
  if (head && head->lease[0] && !head->is_settled && !is_lost) {
    str sql = {0};
    pg_params p = {0};
    PGresult *rows = NULL;
    str_append_text(&sql, "UPDATE ");
    pg_append_state(&sql, s, "leases");
    str_append_format(&sql, " SET expires = '-infinity' WHERE id = %s AND fence = %s AND NOT done",
                      head->lease, head->fence);
    /* if this fails the lease expires by itself */
    pg_run(s, PG_WRITER, &sql, &p, "cannot give a page back", &rows, NULL);
    PQclear(rows);
    str_fini(&sql);
  }
  mem_free(page->rows);
  mem_free(page->memory);
  *page = (store_page){0};
}

/* --- the beat --- */

static void beat_once(pg_store *s) {
  str sql = {0}, place = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  name_place(&place);
  pg_add_text(&p, place.failed || !place.data ? "" : place.data);
  str_append_text(&sql, "WITH w AS (");
  append_worker(&sql, s);
  str_append_text(&sql, ") UPDATE ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql,
                    " SET expires = clock_timestamp() + interval '%u s' WHERE owner = "
                    "'%s'::uuid AND NOT done AND expires > clock_timestamp()",
                    s->lease_seconds, s->owner);
  /* a beat that is missed is made up by the next; three missed ones cost the leases, no row */
  pg_run(s, PG_BEAT, &sql, &p, "cannot prolong the leases", &rows, NULL);
  PQclear(rows);
  str_fini(&sql);
  str_fini(&place);
}

static void *beat_thread(void *context) {
  pg_store *s = context;
  pthread_mutex_lock(&s->beat_mutex);
  while (!s->beat_ends) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    uint64_t wait_ns = (uint64_t)s->lease_seconds * 1000000000u / 3 + (uint64_t)until.tv_nsec;
    until.tv_sec += (time_t)(wait_ns / 1000000000u);
    until.tv_nsec = (long)(wait_ns % 1000000000u);
    pthread_cond_timedwait(&s->beat_wake, &s->beat_mutex, &until);
    if (s->beat_ends) break;
    pthread_mutex_unlock(&s->beat_mutex);
    beat_once(s);
    pthread_mutex_lock(&s->beat_mutex);
  }
  pthread_mutex_unlock(&s->beat_mutex);
  return NULL;
}

vecmill_status pg_start_beat(pg_store *s, vecmill_error *err) {
  int failed = pthread_create(&s->beat_thread, NULL, beat_thread, s);
  if (failed) return err_set_errno(err, failed, "cannot start", "a thread");
  s->beat_runs = true;
  return VECMILL_OK;
}

/* And leaves: nobody need wait for this process. */
void pg_end_beat(pg_store *s) {
  if (!s->beat_runs) return;
  pthread_mutex_lock(&s->beat_mutex);
  __atomic_store_n(&s->beat_ends, true, __ATOMIC_RELAXED);
  pthread_cond_signal(&s->beat_wake);
  pthread_mutex_unlock(&s->beat_mutex);
  pthread_join(s->beat_thread, NULL);
  s->beat_runs = false;
  s->has_begun = false; /* one try is enough now, on a connection that is not lost already */
  if (__atomic_load_n(&s->is_lost, __ATOMIC_RELAXED)) return; /* others will see us gone */
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "WITH w AS (DELETE FROM ");
  pg_append_state(&sql, s, "workers");
  str_append_format(&sql, " WHERE owner = '%s'::uuid) DELETE FROM ", s->owner);
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE owner = '%s'::uuid AND done", s->owner);
  if (pg_run(s, PG_BEAT, &sql, NULL, "cannot leave", &rows, NULL) != VECMILL_OK)
    pg_run(s, PG_BEAT, &sql, NULL, "cannot leave", &rows, NULL);
  PQclear(rows);
  str_fini(&sql);
}
