/*
 * The run that all processes on a column share: who works, its passes, the beat.
 *
 * A run is a cursor that goes through the keys, in passes. A pass is over when a page came short
 * and no lease is out; if it claimed anything, whoever sees that looks for rows, and begins the
 * next one where there are any: what was inserted or changed behind the cursor is met by that.
 * Where there are none, or the pass claimed nothing, it was the last.
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

/* "id IN (SELECT ..": those leases that satisfy what is said next, and then AND_UNLOCKED. One that
 * is being committed is locked, perhaps for long, where somebody holds one of its rows; who changes
 * leases while he holds the column's row would hold up everybody. */
static void append_leases_that(str *sql, const pg_store *s) {
  str_append_text(sql, "id IN (SELECT id FROM ");
  pg_append_state(sql, s, "leases");
  str_append_text(sql, " WHERE ");
}
#define AND_UNLOCKED " FOR UPDATE SKIP LOCKED)"

/* One whose parent has not asked for its end yet is in the table of processes all the same. */
static bool is_alive(pid_t pid) {
  char path[64], text[256];
  if (kill(pid, 0) != 0 && errno == ESRCH) return false;
  snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
  FILE *file = fopen(path, "re");
  size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
  if (file) fclose(file);
  text[n] = '\0';
  /* "pid (name) state ..", the twentieth: how many threads there are, proc(5); the first may be
   * gone before the others */
  const char *name_end = strrchr(text, ')');
  char state = 'R';
  long n_threads = 1;
  if (name_end)
    sscanf(name_end + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld",
           &state, &n_threads);
  return (state != 'Z' && state != 'X') || n_threads > 1;
}

vecmill_status pg_bury_the_dead(pg_store *s, PGconn *conn, vecmill_error *err) {
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
    if (is_alive(pid)) continue;
    str_clear(&sql);
    str_append_text(&sql, "WITH gone AS (DELETE FROM ");
    pg_append_state(&sql, s, "workers");
    str_append_text(&sql, " WHERE owner = $1::uuid RETURNING owner) UPDATE ");
    pg_append_state(&sql, s, "leases");
    str_append_text(&sql, " SET expires = '-infinity' WHERE ");
    append_leases_that(&sql, s);
    str_append_text(&sql, "owner = $1::uuid" AND_UNLOCKED " AND owner = (SELECT owner FROM gone)");
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

/* The rows that a run has in view, and what it writes beside their vectors: only those who agree on
 * both may share a cursor. */
static vecmill_status name_selection(pg_store *s, vecmill_error *err) {
  str *text = &s->selection;
  str_append_format(text, "id %s (", s->id_list);
  for (size_t i = 0; i < s->n_keys; i++) /* leases of another type cannot be read */
    str_append_format(text, "%s%s", i ? ", " : "", s->keys[i].type);
  str_append_format(text, "); text %s", s->text_column);
  if (s->limit) str_append_format(text, "; --limit %llu", (unsigned long long)s->limit);
  if (s->retry_failed) str_append_text(text, "; --retry-failed");
  if (s->changed) str_append_text(text, "; --changed");
  if (s->where) str_append_format(text, "; --where %s", s->where);
  if (s->viewer.n) str_append_text(text, s->viewer.data);
  if (s->metrics.sql) str_append_format(text, "; metrics in %s", s->metrics.name);
  if (s->metrics.sql && s->metrics.words)
    str_append_format(text, " by word list %016llx", (unsigned long long)s->metrics.words);
  return text->failed ? err_set_memory(err, "selection", text->n) : VECMILL_OK;
}

/* With the column's row locked: "pass, selection, whether the run has come to its end, others that
 * live, leases that live, number of the run". Each process lives as long as the lease that it was
 * given itself says.
 */
static vecmill_status look_around(pg_store *s, PGconn *conn, PGresult **rows_out,
                                  vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "SELECT pass::text, selection, (pass_over AND pass_claimed = 0)::text, "
                        "(SELECT count(*) FROM ");
  pg_append_state(&sql, s, "workers");
  str_append_format(&sql,
                    " AS w WHERE w.column_id = c.id AND w.owner <> '%s'::uuid AND seen > "
                    "clock_timestamp() - w.lease_seconds * interval '1 s')::text, (SELECT count(*) "
                    "FROM ",
                    s->owner);
  pg_append_state(&sql, s, "leases");
  str_append_text(&sql, " AS l WHERE l.column_id = c.id AND NOT done AND expires > "
                        "clock_timestamp())::text, run::text FROM ");
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
  /* who records a failure refers to this row, and may then wait for a lock of somebody else's */
  str_append_format(&sql, " WHERE id = %s FOR NO KEY UPDATE", s->column_id);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot lock the run", rows_out, err);
  if (status == VECMILL_OK && PQntuples(*rows_out) == 0)
    status = err_set(err, VECMILL_ERROR_CONFLICT,
                     "%s: the record of column %s is gone (somebody removed it; run again)",
                     s->shown, s->vector_column);
  str_fini(&sql);
  return status;
}

/*
 * A process that sleeps past its lease is taken for dead, and others may begin a run of other rows:
 * it must not move their cursor when it wakes. If it is one of the same rows, as after a run that
 * is over may begin beside those who have not seen its end yet, it joins that, and has not looked
 * in it.
 */
vecmill_status pg_lock_run(pg_store *s, PGconn *conn, const char *columns, PGresult **rows_out,
                           vecmill_error *err) {
  str names = {0};
  str_append_format(&names, "%s, extract(epoch FROM created)::text, selection, run::text", columns);
  pg_append_cut_names(&names, s);
  vecmill_status status = names.failed ? err_set_memory(err, "run", names.n)
                                       : pg_lock_column(s, conn, names.data, rows_out, err);
  str_fini(&names);
  if (status != VECMILL_OK) return status;
  int first_cut = PQnfields(*rows_out) - (s->limit ? (int)s->n_keys : 0);
  const char *now = pg_text(*rows_out, 0, first_cut - 2);
  if (strcmp(now, s->selection.data) != 0)
    return err_set(err, VECMILL_ERROR_BUSY,
                   "table %s: another run, with other rows in view, began on its column %s while "
                   "this one was not heard of for more than its --lease: %s (what was committed is "
                   "kept; run again when that one has finished)",
                   s->table, s->vector_column, now);
  if (strcmp(pg_text(*rows_out, 0, first_cut - 3), s->record_since) != 0)
    return err_set(err, VECMILL_ERROR_BUSY,
                   "table %s: a run of another model, prefix or text column has taken its column "
                   "%s, which held no vector, while this one was not heard of for more than its "
                   "--lease (run again to see what it holds)",
                   s->table, s->vector_column);
  int64_t run = pg_integer(*rows_out, 0, first_cut - 1);
  s->is_first_pass |= run != s->run;
  s->run = run;
  return pg_settle_cut(s, conn, *rows_out, first_cut, err);
}

/* Begins a run: its first pass. What is left over of earlier ones of the same rows are leases whose
 * process died, so that it is known how often; they are taken over before anything else; and what
 * is done by those who live, who may yet ask for it. What was written under them is not this run's:
 * it begins below 0 by as much. Its total is -1 until it is counted. Of other rows, one that cannot
 * be removed is being committed, by a server whose client is gone: BUSY, as what that commit keeps
 * of hashes must not come after what this run keeps. */
static vecmill_status begin_run(pg_store *s, PGconn *conn, const char *selection_before,
                                vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  bool is_same = strcmp(selection_before, s->selection.data) == 0;
  str_append_text(&sql, "WITH l AS (DELETE FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_text(&sql, " WHERE ");
  append_leases_that(&sql, s);
  str_append_format(&sql, "column_id = %s", s->column_id);
  if (is_same) {
    str_append_text(&sql, " AND (attempts <= 0 OR (done AND owner NOT IN (SELECT owner FROM ");
    pg_append_state(&sql, s, "workers");
    str_append_text(&sql, " WHERE seen > clock_timestamp() - lease_seconds * interval '1 s')))");
  }
  str_append_text(&sql, AND_UNLOCKED " RETURNING id), w AS (DELETE FROM ");
  pg_append_state(&sql, s, "workers");
  str_append_format(&sql,
                    " WHERE column_id = %s AND seen <= clock_timestamp() - lease_seconds * "
                    "interval '1 s'), k AS (SELECT count(*) AS n_leases, "
                    "coalesce(sum(n_written + n_failed), 0) AS n FROM ",
                    s->column_id);
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE column_id = %s AND id NOT IN (SELECT id FROM l)) UPDATE ",
                    s->column_id);
  pg_append_state(&sql, s, "columns");
  str_append_format(
      &sql,
      " SET selection = $1::text, run = run + 1, pass = pass + 1, cursor = NULL, cut = NULL, "
      "pass_over = false, pass_claimed = 0, n_total = -1, n_done = -k.n, run_began = "
      "clock_timestamp() FROM k WHERE id = %s RETURNING pass::text, "
      "k.n_leases::text, run::text",
      s->column_id);
  pg_add_text(&p, s->selection.data);
  vecmill_status status = pg_step(s, conn, &sql, &p, "cannot begin a run", &rows, err);
  if (status == VECMILL_OK) {
    s->pass = pg_integer(rows, 0, 0);
    s->run = pg_integer(rows, 0, 2);
  }
  if (status == VECMILL_OK && !is_same && pg_integer(rows, 0, 1) > 0)
    status = err_set(err, VECMILL_ERROR_BUSY,
                     "table %s: a commit of another run, with other rows in view, is still under "
                     "way on its column %s: %s (another session has locked a row that it writes; "
                     "run again when that is over)",
                     s->table, s->vector_column, selection_before);
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
  str_append_format(&sql, " SET expires = clock_timestamp() + interval '%u s' WHERE ",
                    s->lease_seconds);
  append_leases_that(&sql, s);
  str_append_format(&sql,
                    "owner = '%s'::uuid AND NOT done AND expires > clock_timestamp()" AND_UNLOCKED,
                    s->owner);
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

static vecmill_status start_beat(pg_store *s, vecmill_error *err) {
  int failed = pthread_create(&s->beat_thread, NULL, beat_thread, s);
  if (failed) return err_set_errno(err, failed, "cannot start", "a thread");
  s->beat_runs = true;
  return VECMILL_OK;
}

/* Nobody need wait for this process, and what it has done is asked for no more. */
static vecmill_status leave_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  (void)context;
  str sql = {0};
  PGresult *rows = NULL;
  vecmill_status status = pg_lock_column(s, conn, "id::text", &rows, err);
  PQclear(rows);
  rows = NULL;
  str_append_text(&sql, "WITH w AS (DELETE FROM ");
  pg_append_state(&sql, s, "workers");
  str_append_format(&sql, " WHERE owner = '%s'::uuid), gone AS (DELETE FROM ", s->owner);
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE owner = '%s'::uuid AND done RETURNING n_written, n_failed) ",
                    s->owner);
  pg_append_count(&sql, s, "gone", 0);
  if (status == VECMILL_OK) status = pg_step(s, conn, &sql, NULL, "cannot leave", &rows, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

void pg_end_beat(pg_store *s) {
  if (!s->beat_runs) return;
  pthread_mutex_lock(&s->beat_mutex);
  __atomic_store_n(&s->beat_ends, true, __ATOMIC_RELAXED);
  pthread_cond_signal(&s->beat_wake);
  pthread_mutex_unlock(&s->beat_mutex);
  pthread_join(s->beat_thread, NULL);
  s->beat_runs = false;
  pg_free_ahead(s);
  s->has_begun = false; /* one try is enough now, on a connection that is not lost already */
  if (__atomic_load_n(&s->is_lost, __ATOMIC_RELAXED)) return; /* others will see us gone */
  /* the first try may find its connection gone long since, the second lose it */
  for (int i = 0; i < 3; i++)
    if (pg_transact(s, PG_BEAT, leave_body, NULL, "cannot leave", NULL) == VECMILL_OK) return;
}

/* --- joining --- */

static vecmill_status join_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  const store_maker *maker = context;
  PGresult *rows = NULL;
  vecmill_status status = pg_lock_column(s, conn, "id::text", &rows, err);
  PQclear(rows);
  rows = NULL;
  if (status == VECMILL_OK) status = pg_bury_the_dead(s, conn, err);
  if (status == VECMILL_OK) status = look_around(s, conn, &rows, err);
  if (status == VECMILL_OK) {
    bool is_same = strcmp(pg_text(rows, 0, 1), s->selection.data) == 0,
         /* others may still be counting equal texts, and look for no more rows */
        is_over = is_same && pg_text(rows, 0, 2)[0] == 't',
         alone = (is_over || pg_integer(rows, 0, 3) == 0) && pg_integer(rows, 0, 4) == 0;
    s->pass = pg_integer(rows, 0, 0);
    s->is_alone = alone;
    s->run = pg_integer(rows, 0, 5);
    if (alone || is_same) {
      bool is_free = pg_integer(rows, 0, 3) == 0 && pg_integer(rows, 0, 4) == 0;
      status = pg_hold_record(s, conn, maker, is_free, err);
    }
    if (status == VECMILL_OK && alone) status = begin_run(s, conn, pg_text(rows, 0, 1), err);
    else if (status == VECMILL_OK && !is_same)
      status = err_set(err, VECMILL_ERROR_BUSY,
                       "table %s: another vecmill is working on its column %s with other rows in "
                       "view, or other metrics: %s (say the same, or wait until it has finished)",
                       s->table, s->vector_column, pg_text(rows, 0, 1));
  }
  if (status == VECMILL_OK) status = enter_worker(s, conn, err);
  PQclear(rows);
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

vecmill_status pg_join(pg_store *s, const store_maker *maker, vecmill_error *err) {
  s->is_first_pass = true;
  vecmill_status status = make_owner(s, err);
  if (status == VECMILL_OK) status = name_selection(s, err);
  if (status == VECMILL_OK)
    status = pg_transact(s, PG_READER, join_body, (void *)maker, "cannot begin a run", err);
  s->has_vector_column |= status == VECMILL_OK;
  return status == VECMILL_OK ? start_beat(s, err) : status;
}

/* --- passes --- */

typedef struct pass_look {
  bool may_find, must_wait;
  int64_t pass;
  uint64_t n_run_done;
} pass_look;

/*
 * At the beginning of a pass no page of ours is out. A lease that is ours all the same is one whose
 * claim was committed while its answer was lost, or that could not be given back: our own beat
 * would keep it alive, and everybody would wait for it.
 */
static vecmill_status give_up_strays(pg_store *s, PGconn *conn, vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  pg_append_give_back(&sql, s);
  append_leases_that(&sql, s);
  str_append_format(
      &sql,
      "column_id = %s AND owner = '%s'::uuid AND NOT done AND expires > '-infinity'" AND_UNLOCKED,
      s->column_id, s->owner);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot read the leases", &rows, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* Whether there is anything for another pass to claim. A pass reads in the order of the keys, which
 * for a table without such rows is all of it, row by row; here the planner is free, and the first
 * row is enough. */
static vecmill_status look_for_rows(pg_store *s, PGconn *conn, bool *found_out,
                                    vecmill_error *err) {
  str sql = {0}, cut = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT EXISTS (SELECT 1");
  pg_append_left(&sql, s, "$1::text[]");
  str_append_text(&sql, ")::text");
  vecmill_status status = pg_add_cut(s, &p, &cut, err);
  if (status == VECMILL_OK) status = pg_step(s, conn, &sql, &p, "cannot look for rows", &rows, err);
  *found_out = status == VECMILL_OK && pg_text(rows, 0, 0)[0] == 't';
  PQclear(rows);
  str_fini(&sql);
  str_fini(&cut);
  return status;
}

/* The next one, or the end of all, which others then need not look for again. */
static vecmill_status end_pass(pg_store *s, PGconn *conn, bool goes_on, vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "UPDATE ");
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql, " SET pass_claimed = 0%s WHERE id = %s",
                    goes_on ? ", pass = pass + 1, cursor = NULL, pass_over = false" : "",
                    s->column_id);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot begin a pass", &rows, err);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

static vecmill_status read_run_done(pg_store *s, PGconn *conn, uint64_t *n_out,
                                    vecmill_error *err) {
  str sql = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT ");
  pg_append_run_done(&sql, s, "c");
  str_append_text(&sql, "::text FROM ");
  pg_append_state(&sql, s, "columns");
  str_append_format(&sql, " AS c WHERE c.id = %s", s->column_id);
  vecmill_status status = pg_step(s, conn, &sql, NULL, "cannot read the run", &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) > 0) *n_out = (uint64_t)pg_integer(rows, 0, 0);
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* Who comes to his first pass when the run is over, as he was long in counting, looks himself: the
 * others' last look may have been before he came. */
static vecmill_status pass_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  pass_look *look = context;
  PGresult *rows = NULL, *leases = NULL;
  str sql = {0};
  *look = (pass_look){0};
  vecmill_status status =
      pg_lock_run(s, conn, "pass::text, pass_claimed::text, pass_over::text", &rows, err);
  if (status == VECMILL_OK) status = pg_bury_the_dead(s, conn, err);
  if (status == VECMILL_OK) status = give_up_strays(s, conn, err);
  str_append_text(&sql, "SELECT count(*) FILTER (WHERE expires > clock_timestamp())::text, "
                        "count(*)::text FROM ");
  pg_append_state(&sql, s, "leases");
  str_append_format(&sql, " WHERE column_id = %s AND NOT done", s->column_id);
  if (status == VECMILL_OK)
    status = pg_step(s, conn, &sql, NULL, "cannot read the leases", &leases, err);
  if (status == VECMILL_OK) {
    int64_t pass = pg_integer(rows, 0, 0), n_live = pg_integer(leases, 0, 0);
    bool expired = pg_integer(leases, 0, 1) > n_live, over = pg_text(rows, 0, 2)[0] == 't';
    look->pass = pass;
    if (expired || (s->is_first_pass ? !over : pass != s->pass)) {
      look->may_find = true;
    } else if (n_live > 0) {
      look->must_wait = true;
    } else if (pg_integer(rows, 0, 1) > 0 || s->is_first_pass) {
      /* texts that became blank are looked for at each pass with --changed */
      look->may_find = s->changed;
      if (!s->changed) status = look_for_rows(s, conn, &look->may_find, err);
      if (status == VECMILL_OK) status = end_pass(s, conn, look->may_find, err);
      look->pass += look->may_find;
    }
  }
  if (status == VECMILL_OK && !look->may_find && !look->must_wait)
    status = read_run_done(s, conn, &look->n_run_done, err);
  PQclear(rows);
  PQclear(leases);
  str_fini(&sql);
  return status;
}

vecmill_status pg_store_pass_begin(store *base, bool *may_find_out, vecmill_error *err) {
  pg_store *s = pg_of(base);
  pass_look look = {.may_find = true};
  vecmill_status status = VECMILL_OK;
  for (;;) {
    status = pg_transact(s, PG_READER, pass_body, &look, "cannot look for another pass", err);
    if (status == VECMILL_OK) s->pass = look.pass, s->n_run_done = look.n_run_done;
    if (status != VECMILL_OK || !look.must_wait) break;
    if (pg_stop_asked(s)) return err_set(err, VECMILL_ERROR_STOPPED, "stopped");
    clock_sleep_ms(PG_POLL_MS);
  }
  if (status == VECMILL_OK && look.may_find) status = pg_metrics_claim(s, err);
  if (status == VECMILL_OK && look.may_find && s->changed && !s->is_first_pass)
    status = pg_remove_blank(s, err);
  s->is_first_pass = false;
  *may_find_out = look.may_find;
  return status;
}

uint64_t pg_store_n_run_done(const store *base) {
  return ((const pg_store *)base)->n_run_done;
}
