/*
 * Statements and transactions: sending, waiting, trying again.
 *
 * Nothing here blocks in libpq: whatever waits for the server looks at the stop flag, and a server
 * that says nothing more (frozen, or behind a network that is gone) is given up on.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/pg_parts.h"

#define WAIT_TELL_NS 5000000000ull
#define TRY_TELL_NS 1000000000ull
#define FIRST_PAUSE_MS 50
#define LAST_PAUSE_MS 2000

/* Of this thread: what it asks for now may be broken off at any moment. */
static _Thread_local bool stops_at_once;

void pg_stop_at_once(bool at_once) {
  stops_at_once = at_once;
}

/* --- one statement --- */

void pg_add_text(pg_params *p, const char *value) {
  p->values[p->n] = value;
  p->lengths[p->n] = p->formats[p->n] = 0;
  p->types[p->n++] = 0;
}

void pg_add_binary(pg_params *p, const str *value) {
  p->values[p->n] = value->data;
  p->lengths[p->n] = value->n <= PG_MOST_BYTES ? (int)value->n : 0; /* then it is not sent */
  p->n_bytes += value->n;
  p->formats[p->n] = 1;
  p->types[p->n++] = 0;
}

/* Sends what is left and waits until the connection has an answer. False: a stop was asked for, and
 * none came in time. */
static bool wait_for_answer(pg_store *s, PGconn *conn, const char *what) {
  uint64_t from_ns = clock_now_ns(), stop_ns = 0;
  bool told = false;
  for (;;) {
    int unsent = PQflush(conn);
    if (unsent == 0 && !PQisBusy(conn)) return true;
    if (unsent < 0) return true; /* lost: the result says so */
    bool can_read = pg_wait_for_socket(conn, unsent > 0);
    uint64_t now_ns = clock_now_ns();
    if (pg_stop_asked(s)) {
      if (stop_ns == 0) stop_ns = now_ns;
      if (stops_at_once || now_ns - stop_ns > PG_STOP_GRACE_NS) return false;
    }
    if (!told && now_ns - from_ns > WAIT_TELL_NS) {
      told = true;
      log_warning("%s: waiting for the server for 5 s: %s (Ctrl-C gives up)", s->shown, what);
    }
    if (can_read && !PQconsumeInput(conn)) return true;
  }
}

/* PQcancel makes a connection of its own and waits for it: for ever, at a server that is frozen. */
static void *cancel_thread(void *request) {
  char words[256];
  PQcancel(request, words, sizeof words);
  PQfreeCancel(request);
  return NULL;
}

static void cancel(PGconn *conn) {
  pthread_t thread;
  PGcancel *request = PQgetCancel(conn);
  if (!request) return;
  if (thread_start(&thread, cancel_thread, request, NULL) != VECMILL_OK) PQfreeCancel(request);
  else pthread_detach(thread);
}

/* What comes after a cancellation, which is the end of the statement as a rule. False: nothing. */
static bool wait_for_the_end(PGconn *conn) {
  uint64_t from_ns = clock_now_ns();
  while (PQflush(conn) > 0 || PQisBusy(conn)) {
    if (pg_wait_for_socket(conn, false) && !PQconsumeInput(conn)) return true;
    if (clock_now_ns() - from_ns > PG_STOP_GRACE_NS) return false;
  }
  return true;
}

/* No statement of ours is one: the connection is of no use, libpq would tell of it for ever. */
static bool is_copy(const PGresult *result) {
  ExecStatusType status = PQresultStatus(result);
  return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

/* Whoever comes next makes another. */
static void break_off(PGconn *conn) {
  shutdown(PQsocket(conn), SHUT_RDWR);
  PQconsumeInput(conn);
}

/* The last result of what was sent; the first error if there is one. NULL: lost, or stopped and
 * then silent: the connection is of no use any more. */
static PGresult *take_results(pg_store *s, PGconn *conn, const char *what, bool *stopped_out,
                              bool *silent_out) {
  PGresult *kept = NULL, *result;
  while (true) {
    if (!*stopped_out && !wait_for_answer(s, conn, what)) {
      *stopped_out = true;
      cancel(conn);
    }
    if (*stopped_out && !wait_for_the_end(conn)) {
      *silent_out = true;
      PQclear(kept);
      return NULL;
    }
    if ((result = PQgetResult(conn)) == NULL) return kept;
    if (is_copy(result)) {
      PQclear(kept);
      return result;
    }
    ExecStatusType kept_status = kept ? PQresultStatus(kept) : PGRES_COMMAND_OK;
    if (kept && kept_status != PGRES_COMMAND_OK && kept_status != PGRES_TUPLES_OK) {
      PQclear(result);
      continue;
    }
    PQclear(kept);
    kept = result;
  }
}

static bool is_good(const PGresult *result) {
  ExecStatusType status = PQresultStatus(result);
  return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

static vecmill_status stopped_error(const pg_store *s, const char *what, vecmill_error *err) {
  if (stops_at_once)
    return err_set(err, VECMILL_ERROR_STOPPED, "stopped (run again to go on): %s", what);
  return err_set(
      err, VECMILL_ERROR_BUSY,
      "%s: %s: stopped while the server did not answer (something holds a lock, or it is "
      "busy)",
      s->shown, what);
}

static vecmill_status send_and_take(pg_store *s, PGconn *conn, const char *sql, const pg_params *p,
                                    const char *what, PGresult **result_out, vecmill_error *err) {
  bool stopped = false, silent = false;
  if (p && p->n_bytes > PG_MOST_BYTES)
    return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                   "%s: %s: %zu MiB in one message, and a server takes 1024 at most (a smaller "
                   "BATCH)",
                   s->shown, what, p->n_bytes >> 20);
  int sent = p ? PQsendQueryParams(conn, sql, p->n, p->types, p->values, p->lengths, p->formats, 1)
               : PQsendQuery(conn, sql);
  PGresult *result = sent ? take_results(s, conn, what, &stopped, &silent) : NULL;
  if (result && is_good(result)) {
    *result_out = result;
    return VECMILL_OK;
  }
  vecmill_status status = pg_result_error(s, conn, result, what, err);
  if (is_copy(result))
    status = err_set(err, VECMILL_ERROR_UNSUPPORTED,
                     "%s: %s: the server began a COPY that nobody asked for (is it PostgreSQL?)",
                     s->shown, what);
  if (silent || is_copy(result)) break_off(conn);
  if (silent) __atomic_store_n(&s->is_lost, true, __ATOMIC_RELAXED);
  PQclear(result);
  return stopped ? stopped_error(s, what, err) : status;
}

/* Whether trying again can help: the server came or went, or chose this one to break a tie. Before
 * the run has begun only the latter: who mistyped the address wants to know it at once. */
static bool may_retry(const pg_store *s, PGconn *conn) {
  if (pg_state_is("40001") || pg_state_is("40P01")) return true;
  if (!s->has_begun) return false;
  return !conn || PQstatus(conn) != CONNECTION_OK || pg_state_is("57P0") || pg_state_is("08") ||
         pg_state_is("53300");
}

/* Sleeps; false if a stop was asked for, or the beat is to end. */
static bool pause_ms(pg_store *s, pg_role role, unsigned n_ms) {
  for (unsigned slept = 0; slept < n_ms; slept += 25) {
    if (pg_stop_asked(s) || (role == PG_BEAT && __atomic_load_n(&s->beat_ends, __ATOMIC_RELAXED)))
      return false;
    clock_sleep_ms(25);
  }
  return true;
}

/* How long `role` tries. Once one of them has given up the run is over, and the others need not
 * wait as long again. A beat is made up for by the next one. */
static uint64_t patience_ns(pg_store *s, pg_role role) {
  if (__atomic_load_n(&s->is_lost, __ATOMIC_RELAXED)) return 0;
  uint64_t seconds = role == PG_BEAT && s->lease_seconds / 3 < s->wait_seconds
                         ? s->lease_seconds / 3
                         : s->wait_seconds;
  return seconds * 1000000000u;
}

/* When the first of all who wait began to: whoever gives up says how long that is. */
static uint64_t outage_began(pg_store *s, uint64_t from_ns) {
  uint64_t began_ns = 0;
  bool is_first = __atomic_compare_exchange_n(&s->outage_began_ns, &began_ns, from_ns, false,
                                              __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return is_first ? from_ns : began_ns;
}

/* One try, on an open connection. */
typedef vecmill_status attempt(pg_store *s, PGconn *conn, void *context, vecmill_error *err);

static vecmill_status try_again_and_again(pg_store *s, pg_role role, attempt *one, void *context,
                                          vecmill_error *err) {
  pg_connection *c = &s->connections[role % s->n_connections];
  uint64_t from_ns = clock_now_ns();
  bool has_waited = false;
  vecmill_status status;
  pthread_mutex_lock(&c->mutex);
  for (unsigned wait_ms = FIRST_PAUSE_MS;;) {
    vecmill_error now; /* all of it empty would take as long as much of a short statement */
    now.text[0] = '\0';
    pg_forget_state();
    status = pg_open_connection(s, c, &now);
    if (status == VECMILL_OK) status = one(s, c->conn, context, &now);
    if (status == VECMILL_OK) break;
    uint64_t waited_ns = clock_now_ns() - from_ns;
    bool hopeless = status != VECMILL_ERROR_DATABASE || !may_retry(s, c->conn);
    bool over = hopeless || waited_ns > patience_ns(s, role);
    uint64_t outage_ns = clock_now_ns() - outage_began(s, from_ns);
    has_waited = true;
    if (!over && role != PG_BEAT && waited_ns > TRY_TELL_NS &&
        !__atomic_exchange_n(&s->has_told, true, __ATOMIC_RELAXED))
      log_warning("%s; trying again (Ctrl-C gives up)", now.text);
    if (!over && !pause_ms(s, role, wait_ms)) {
      status =
          err_set(err, VECMILL_ERROR_BUSY, "stopped while the server was waited for: %s", now.text);
      break;
    }
    if (over) {
      bool is_there = c->conn && PQstatus(c->conn) == CONNECTION_OK;
      if (!hopeless && !is_there && role != PG_BEAT)
        __atomic_store_n(&s->is_lost, true, __ATOMIC_RELAXED);
      if (!hopeless && err)
        err_set(err, status, "%s; gave up after %.0f s: what was committed is kept (run again)",
                now.text, (double)outage_ns * 1e-9);
      else if (err) *err = now;
      break;
    }
    wait_ms = 2 * wait_ms < LAST_PAUSE_MS ? 2 * wait_ms : LAST_PAUSE_MS;
  }
  pthread_mutex_unlock(&c->mutex);
  /* one line for all who wait, and another when the server goes once more */
  if (has_waited && status == VECMILL_OK) {
    __atomic_store_n(&s->has_told, false, __ATOMIC_RELAXED);
    __atomic_store_n(&s->outage_began_ns, 0, __ATOMIC_RELAXED);
  }
  return status;
}

/* --- a transaction --- */

typedef struct transaction {
  pg_body *body;
  void *context;
  const char *what;
} transaction;

vecmill_status pg_command(pg_store *s, PGconn *conn, const char *sql, const char *what,
                          vecmill_error *err) {
  PGresult *result = NULL;
  vecmill_status status = send_and_take(s, conn, sql, NULL, what, &result, err);
  PQclear(result);
  return status;
}

/*
 * Everywhere the same text for the same key, whatever the client's environment and the role's
 * settings say: leases, failures and hashes are kept by it. Only within a transaction, which is all
 * that pgbouncer keeps together; who connects through it cannot give these at the start.
 * DateStyle's other half, the order of day and month in what is read, stays as it is.
 */
static const char fixed_forms[] =
    "; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL IntervalStyle = "
    "'postgres'; SET LOCAL extra_float_digits = 3; SET LOCAL bytea_output = 'hex'; SET LOCAL "
    "lc_monetary = 'C'";

/* Operators are found by the search path alone; what is found there already goes before. */
static void append_path(str *sql, const pg_store *s) {
  str_append_text(sql, "; SELECT set_config('search_path', concat_ws(', ', "
                       "nullif(current_setting('search_path'), ''), ");
  pg_append_string(sql, s->more_path.data);
  str_append_text(sql, "), true)");
}

static vecmill_status begin_transaction(pg_store *s, PGconn *conn, const char *what,
                                        vecmill_error *err) {
  str begin = {0};
  str_append_format(&begin, "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '%us'%s",
                    s->lease_seconds, s->forms_vary ? fixed_forms : "");
  if (s->more_path.n > 0) append_path(&begin, s);
  vecmill_status status = begin.failed ? err_set_memory(err, what, begin.n)
                                       : pg_command(s, conn, begin.data, what, err);
  str_fini(&begin);
  return status;
}

/* A process that freezes in here, or whose machine goes, would keep all others from the column's
 * row: the server ends its transaction after a lease's time. */
static vecmill_status run_transaction(pg_store *s, PGconn *conn, void *context,
                                      vecmill_error *err) {
  transaction *t = context;
  char state[6];
  vecmill_status status = begin_transaction(s, conn, t->what, err);
  if (status == VECMILL_OK) status = t->body(s, conn, t->context, err);
  if (status == VECMILL_OK) return pg_command(s, conn, "COMMIT", t->what, err);
  snprintf(state, sizeof state, "%s", pg_last_state()); /* of what failed, not of the rollback */
  if (PQstatus(conn) == CONNECTION_OK && PQtransactionStatus(conn) != PQTRANS_IDLE)
    pg_command(s, conn, "ROLLBACK", t->what, NULL);
  pg_set_state(state);
  return status;
}

typedef struct one_statement {
  const char *sql, *what;
  const pg_params *params; /* NULL: several statements, no parameters */
  PGresult *result;
} one_statement;

static vecmill_status send_one(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  one_statement *one = context;
  PQclear(one->result);
  one->result = NULL;
  return send_and_take(s, conn, one->sql, one->params, one->what, &one->result, err);
}

static vecmill_status run_one(pg_store *s, PGconn *conn, void *context, vecmill_error *err) {
  one_statement *one = context;
  transaction t = {send_one, one, one->what};
  return s->forms_vary && one->params ? run_transaction(s, conn, &t, err)
                                      : send_one(s, conn, one, err);
}

static const pg_params no_params = {0};

vecmill_status pg_run(pg_store *s, pg_role role, const str *sql, const pg_params *params,
                      const char *what, PGresult **result_out, vecmill_error *err) {
  *result_out = NULL;
  if (sql->failed) return err_set_memory(err, what, sql->n);
  one_statement one = {.sql = sql->data, .what = what, .params = params ? params : &no_params};
  vecmill_status status = try_again_and_again(s, role, run_one, &one, err);
  if (status == VECMILL_OK) *result_out = one.result;
  else PQclear(one.result);
  return status;
}

vecmill_status pg_run_script(pg_store *s, pg_role role, const char *sql, const char *what,
                             vecmill_error *err) {
  one_statement one = {.sql = sql, .what = what};
  vecmill_status status = try_again_and_again(s, role, run_one, &one, err);
  PQclear(one.result);
  return status;
}

vecmill_status pg_step(pg_store *s, PGconn *conn, const str *sql, const pg_params *params,
                       const char *what, PGresult **result_out, vecmill_error *err) {
  *result_out = NULL;
  if (sql->failed) return err_set_memory(err, what, sql->n);
  return send_and_take(s, conn, sql->data, params ? params : &no_params, what, result_out, err);
}

vecmill_status pg_transact(pg_store *s, pg_role role, pg_body *body, void *context,
                           const char *what, vecmill_error *err) {
  transaction t = {body, context, what};
  return try_again_and_again(s, role, run_transaction, &t, err);
}

/* --- row by row --- */

vecmill_status pg_stream_begin(pg_store *s, const str *sql, const pg_params *p, const char *what,
                               vecmill_error *err) {
  if (sql->failed) return err_set_memory(err, what, sql->n);
  pg_connection *c = &s->connections[PG_READER];
  pthread_mutex_lock(&c->mutex);
  vecmill_status status = pg_open_connection(s, c, err);
  if (status == VECMILL_OK && s->forms_vary) status = begin_transaction(s, c->conn, what, err);
  if (status == VECMILL_OK && (!PQsendQueryParams(c->conn, sql->data, p->n, p->types, p->values,
                                                  p->lengths, p->formats, 1) ||
                               !PQsetSingleRowMode(c->conn)))
    status = pg_result_error(s, c->conn, NULL, what, err);
  if (status != VECMILL_OK) pthread_mutex_unlock(&c->mutex);
  return status;
}

vecmill_status pg_next_row(pg_store *s, const char *what, PGresult **row_out, vecmill_error *err) {
  PGconn *conn = s->connections[PG_READER].conn;
  *row_out = NULL;
  if (!wait_for_answer(s, conn, what)) {
    cancel(conn);
    return err_set(err, VECMILL_ERROR_STOPPED, "%s: stopped", what);
  }
  PGresult *result = PQgetResult(conn);
  if (!result) return VECMILL_OK;
  ExecStatusType kind = PQresultStatus(result);
  if (kind == PGRES_SINGLE_TUPLE) {
    *row_out = result;
    return VECMILL_OK;
  }
  vecmill_status status =
      kind == PGRES_TUPLES_OK ? VECMILL_OK : pg_result_error(s, conn, result, what, err);
  PQclear(result);
  return status;
}

void pg_stream_end(pg_store *s) {
  pg_connection *c = &s->connections[PG_READER];
  PGresult *result = NULL;
  bool is_over = !PQisBusy(c->conn) && (result = PQgetResult(c->conn)) == NULL;
  if (!is_over) cancel(c->conn);
  while (!is_over) {
    PQclear(result);
    result = NULL;
    if (!wait_for_the_end(c->conn)) break;
    is_over = (result = PQgetResult(c->conn)) == NULL;
    if (is_copy(result)) break;
  }
  PQclear(result);
  bool ends =
      is_over && (PQtransactionStatus(c->conn) == PQTRANS_IDLE ||
                  pg_command(s, c->conn, "ROLLBACK", "cannot end a search", NULL) == VECMILL_OK);
  if (!ends) {
    PQfinish(c->conn);
    c->conn = NULL;
  }
  pthread_mutex_unlock(&c->mutex);
}

const char *pg_text(const PGresult *result, int row, int column) {
  return PQgetisnull(result, row, column) ? "" : PQgetvalue(result, row, column);
}

int64_t pg_integer(const PGresult *result, int row, int column) {
  return strtoll(pg_text(result, row, column), NULL, 10);
}
