/*
 * Connections to PostgreSQL: opening, statements, waiting, trying again.
 *
 * Nothing here blocks in libpq: whatever waits for the server looks at the stop flag, and a server
 * that says nothing more (frozen, or behind a network that is gone) is given up on.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "store/pg_parts.h"

#define TICK_MS 100
/* How long an answer is still waited for once a stop was asked for. */
#define STOP_GRACE_NS 2000000000ull
#define WAIT_TELL_NS 5000000000ull
#define TRY_TELL_NS 1000000000ull
#define CONNECT_SECONDS 15
/* How long a server that went away is waited for, and a statement tried again. */
#define WAIT_SECONDS 120
#define FIRST_PAUSE_MS 50
#define LAST_PAUSE_MS 2000

/* Of this thread: what it asks for now may be broken off at any moment. */
static _Thread_local bool stops_at_once;

void pg_stop_at_once(bool at_once) {
  stops_at_once = at_once;
}

bool pg_stop_asked(const pg_store *s) {
  return s->stop && __atomic_load_n(s->stop, __ATOMIC_RELAXED) != 0;
}

/* --- opening --- */

/* Notices ("already exists, skipping") are no news. */
static void ignore_notice(void *context, const PGresult *result) {
  (void)context;
  (void)result;
}

/* Seconds for one connection; connect_timeout as libpq reads it: 0 and less mean for ever. */
static uint64_t connect_ns(const pg_store *s) {
  long seconds = CONNECT_SECONDS;
  for (size_t i = 0; s->keywords[i]; i++)
    if (strcmp(s->keywords[i], "connect_timeout") == 0) seconds = strtol(s->values[i], NULL, 10);
  return seconds > 0 ? (uint64_t)seconds * 1000000000u : UINT64_MAX;
}

/* Waits until the socket can be read or written, a tick at most. */
static bool wait_for_socket(PGconn *conn, bool to_write) {
  struct pollfd poller = {.fd = PQsocket(conn), .events = to_write ? POLLOUT : POLLIN};
  if (to_write) poller.events |= POLLIN; /* the server may have to be heard first */
  return poll(&poller, 1, TICK_MS) > 0;
}

/* Goes on with connecting until it is made, fails, or the time or a stop ends it. */
static vecmill_status finish_connecting(pg_store *s, PGconn *conn, vecmill_error *err) {
  uint64_t from_ns = clock_now_ns(), limit_ns = connect_ns(s), stop_ns = 0;
  PostgresPollingStatusType step = PGRES_POLLING_WRITING;
  while (step != PGRES_POLLING_OK && step != PGRES_POLLING_FAILED) {
    struct pollfd poller = {.fd = PQsocket(conn),
                            .events = step == PGRES_POLLING_WRITING ? POLLOUT : POLLIN};
    if (poll(&poller, 1, TICK_MS) > 0) step = PQconnectPoll(conn);
    uint64_t now_ns = clock_now_ns();
    if (stop_ns == 0 && pg_stop_asked(s)) stop_ns = now_ns;
    if (stop_ns && now_ns - stop_ns > STOP_GRACE_NS)
      return err_set(err, VECMILL_ERROR_STOPPED, "stopped while connecting to PostgreSQL");
    if (now_ns - from_ns > limit_ns && step != PGRES_POLLING_OK)
      return err_set(
          err, VECMILL_ERROR_DATABASE,
          "PostgreSQL: cannot connect: %s port %s does not answer (is the server running "
          "there, and can it be reached? connect_timeout says how long to wait)",
          PQhost(conn), PQport(conn));
  }
  return step == PGRES_POLLING_OK ? VECMILL_OK : pg_connection_error(s, conn, err);
}

static vecmill_status connect_to(pg_store *s, pg_connection *c, const char *const *values,
                                 vecmill_error *err) {
  vecmill_status status;
  c->conn = PQconnectStartParams((const char *const *)s->keywords, values, 0);
  if (!c->conn || PQstatus(c->conn) == CONNECTION_BAD) {
    status = pg_connection_error(s, c->conn, err);
  } else {
    /* the server's code is told only so, and its words may be in any language */
    PQsetErrorVerbosity(c->conn, PQERRORS_VERBOSE);
    status = finish_connecting(s, c->conn, err);
  }
  if (status == VECMILL_OK) {
    PQsetErrorVerbosity(c->conn, PQERRORS_DEFAULT);
    PQsetNoticeReceiver(c->conn, ignore_notice, NULL);
    PQsetnonblocking(c->conn, 1);
    return VECMILL_OK;
  }
  PQfinish(c->conn);
  c->conn = NULL;
  return status;
}

/* Each in turn, beginning with the one that answered last. Why each of them did not is told. */
static vecmill_status connect_to_any(pg_store *s, pg_connection *c, size_t n, vecmill_error *err) {
  size_t first = __atomic_load_n(&s->first_host, __ATOMIC_RELAXED);
  vecmill_status status = VECMILL_OK;
  str words = {0};
  for (size_t i = 0; i < n; i++) {
    pg_host host;
    vecmill_error why = {0};
    size_t which = (first + i) % n;
    status = pg_host_init(&host, s, which) ? connect_to(s, c, host.values, &why)
                                           : err_set_memory(&why, "hosts", n * sizeof(char *));
    pg_host_fini(&host);
    if (status == VECMILL_OK) __atomic_store_n(&s->first_host, which, __ATOMIC_RELAXED);
    str_append_format(&words, "%s%s", i > 0 ? "; then " : "", why.text);
    if (status != VECMILL_ERROR_DATABASE) break;
  }
  if (status != VECMILL_OK) err_set(err, status, "%s", words.failed ? "" : words.data);
  str_fini(&words);
  return status;
}

static vecmill_status open_connection(pg_store *s, pg_connection *c, vecmill_error *err) {
  if (c->conn && PQstatus(c->conn) == CONNECTION_OK) return VECMILL_OK;
  PQfinish(c->conn);
  c->conn = NULL;
  size_t n = pg_n_hosts(s);
  return n > 1 ? connect_to_any(s, c, n, err)
               : connect_to(s, c, (const char *const *)s->values, err);
}

vecmill_status pg_open_all(pg_store *s, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  for (unsigned i = 0; status == VECMILL_OK && i < s->n_connections; i++) {
    pthread_mutex_lock(&s->connections[i].mutex);
    status = open_connection(s, &s->connections[i], err);
    pthread_mutex_unlock(&s->connections[i].mutex);
  }
  return status;
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
    bool can_read = wait_for_socket(conn, unsent > 0);
    uint64_t now_ns = clock_now_ns();
    if (pg_stop_asked(s)) {
      if (stop_ns == 0) stop_ns = now_ns;
      if (stops_at_once || now_ns - stop_ns > STOP_GRACE_NS) return false;
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
    if (wait_for_socket(conn, false) && !PQconsumeInput(conn)) return true;
    if (clock_now_ns() - from_ns > STOP_GRACE_NS) return false;
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
    vecmill_error now = {0};
    pg_forget_state();
    status = open_connection(s, c, &now);
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

static vecmill_status command(pg_store *s, PGconn *conn, const char *sql, const char *what,
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

static vecmill_status begin_transaction(pg_store *s, PGconn *conn, const char *what,
                                        vecmill_error *err) {
  char begin[128 + sizeof fixed_forms];
  snprintf(begin, sizeof begin, "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '%us'%s",
           s->lease_seconds, s->forms_vary ? fixed_forms : "");
  return command(s, conn, begin, what, err);
}

/* A process that freezes in here, or whose machine goes, would keep all others from the column's
 * row: the server ends its transaction after a lease's time. */
static vecmill_status run_transaction(pg_store *s, PGconn *conn, void *context,
                                      vecmill_error *err) {
  transaction *t = context;
  char state[6];
  vecmill_status status = begin_transaction(s, conn, t->what, err);
  if (status == VECMILL_OK) status = t->body(s, conn, t->context, err);
  if (status == VECMILL_OK) return command(s, conn, "COMMIT", t->what, err);
  snprintf(state, sizeof state, "%s", pg_last_state()); /* of what failed, not of the rollback */
  if (PQstatus(conn) == CONNECTION_OK && PQtransactionStatus(conn) != PQTRANS_IDLE)
    command(s, conn, "ROLLBACK", t->what, NULL);
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
  vecmill_status status = open_connection(s, c, err);
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
                  command(s, c->conn, "ROLLBACK", "cannot end a search", NULL) == VECMILL_OK);
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

/* --- open and close --- */

static void close_store(store *base) {
  pg_store *s = pg_of(base);
  if (!s) return;
  pg_end_beat(s);
  for (unsigned i = 0; i < PG_MAX_CONNECTIONS; i++) {
    PQfinish(s->connections[i].conn);
    pthread_mutex_destroy(&s->connections[i].mutex);
  }
  for (size_t i = 0; s->keywords && s->keywords[i]; i++) mem_free(s->keywords[i]);
  for (size_t i = 0; s->values && s->values[i]; i++) {
    explicit_bzero(s->values[i], strlen(s->values[i])); /* one of them may be a password */
    mem_free(s->values[i]);
  }
  for (size_t i = 0; i < s->n_keys; i++) {
    mem_free(s->keys[i].name);
    mem_free(s->keys[i].type);
  }
  char *texts[] = {s->shown,      s->schema_wanted, s->state,       s->schema,
                   s->table,      s->where,         s->text_column, s->id_list,
                   s->column_id,  s->vector_column, s->keys_sql,    s->table_sql,
                   s->table_name, s->vector_type,   s->index,       s->vector_schema};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) mem_free(texts[i]);
  for (size_t i = 0; i < sizeof s->maker_text / sizeof *s->maker_text; i++)
    mem_free(s->maker_text[i]);
  mem_free(s->keywords);
  mem_free(s->values);
  str_fini(&s->cut);
  str_fini(&s->selection);
  pg_metrics_fini(&s->metrics);
  str_fini(&s->settled);
  pthread_mutex_destroy(&s->commit_mutex);
  pthread_cond_destroy(&s->writer_is_free);
  pthread_mutex_destroy(&s->beat_mutex);
  pthread_cond_destroy(&s->beat_wake);
  mem_free(s);
}

static const store_operations pg_operations = {
    .close = close_store,
    .jobs = pg_store_jobs,
    .find = pg_store_find,
    .record = pg_store_record,
    .inspect = pg_store_inspect,
    .sample = pg_store_sample,
    .begin = pg_store_begin,
    .metrics_find = pg_store_metrics_find,
    .metrics_begin = pg_store_metrics_begin,
    .metrics_count = pg_store_metrics_count,
    .metrics_page = pg_store_metrics_page,
    .metrics_commit = pg_store_metrics_commit,
    .metrics_count_twins = pg_store_metrics_count_twins,
    .preview = pg_store_preview,
    .count = pg_store_count,
    .pass_begin = pg_store_pass_begin,
    .claim = pg_store_claim,
    .commit = pg_store_commit,
    .n_removed = pg_store_n_removed,
    .page_free = pg_store_page_free,
    .scan = pg_store_scan,
    .scan_near = pg_store_scan_near,
    .read_text = pg_store_read_text,
    .key_json = pg_key_json,
    .key_compare = pg_key_compare,
};

static size_t count_words(const char *const *words) {
  size_t n = 0;
  while (words && words[n]) n++;
  return n;
}

/* The caller's keywords, and what every connection of ours has; theirs win. */
static bool copy_keywords(pg_store *s, const pg_settings *settings) {
  static const char *const ours[][2] = {{"fallback_application_name", "vecmill"},
                                        {"client_encoding", "UTF8"},
                                        {"connect_timeout", "15"}};
  size_t n = count_words(settings->keywords), n_ours = sizeof ours / sizeof *ours;
  s->keywords = mem_calloc(n + n_ours + 1, sizeof *s->keywords);
  s->values = mem_calloc(n + n_ours + 1, sizeof *s->values);
  if (!s->keywords || !s->values) return false;
  /* later ones win, but for client_encoding, which is ours */
  size_t at = 0;
  const char *word, *value;
  for (size_t i = 0; i < n + n_ours; i++) {
    /* connect_timeout first, then theirs, then what they cannot change */
    bool first = i == 0, last = i > n;
    word = first ? ours[2][0] : last ? ours[i - n - 1][0] : settings->keywords[i - 1];
    value = first ? ours[2][1] : last ? ours[i - n - 1][1] : settings->values[i - 1];
    if (!value) continue;
    s->keywords[at] = mem_strdup(word);
    s->values[at] = mem_strdup(value);
    if (!s->keywords[at] || !s->values[at]) return false;
    at++;
  }
  return true;
}

bool store_pg_knows(const char *keyword) {
  PQconninfoOption *all = PQconndefaults();
  bool found = !all; /* memory is out: libpq will say so */
  for (PQconninfoOption *one = all; one && one->keyword; one++)
    if (strcmp(one->keyword, keyword) == 0) found = true;
  PQconninfoFree(all);
  return found;
}

int store_pg_library(void) {
  return PQlibVersion();
}

/* user@host:port/database, as the connection came out. */
static char *shown_connection(const PGconn *conn) {
  str text = {0};
  const char *host = PQhost(conn), *port = PQport(conn);
  str_append_format(&text, "%s@%s%s%s/%s", PQuser(conn), host && *host ? host : "local",
                    port && *port ? ":" : "", port ? port : "", PQdb(conn));
  return text.data;
}

vecmill_status store_open_pg(const pg_settings *settings, const int *stop, store **store_out,
                             vecmill_error *err) {
  pg_store *s = mem_calloc(1, sizeof *s);
  if (!s) return err_set_memory(err, "PostgreSQL", sizeof *s);
  s->base.operations = &pg_operations;
  s->stop = stop;
  for (unsigned i = 0; i < PG_MAX_CONNECTIONS; i++)
    pthread_mutex_init(&s->connections[i].mutex, NULL);
  pthread_mutex_init(&s->beat_mutex, NULL);
  pthread_mutex_init(&s->commit_mutex, NULL);
  pthread_cond_init(&s->writer_is_free, NULL);
  pthread_cond_init(&s->beat_wake, NULL);
  s->n_connections = settings->n_connections ? settings->n_connections : PG_USUAL_CONNECTIONS;
  if (s->n_connections > PG_MAX_CONNECTIONS) s->n_connections = PG_MAX_CONNECTIONS;
  s->n_write_connections =
      s->n_connections > PG_MORE_WRITERS ? s->n_connections - PG_MORE_WRITERS + 1 : 1;
  /* one more: it gets its message ready while the others' are under way */
  s->base.n_writers = s->n_write_connections + 1;
  s->lease_seconds = settings->lease_seconds ? settings->lease_seconds : 60;
  s->wait_seconds = settings->wait_seconds ? settings->wait_seconds : WAIT_SECONDS;
  s->vector_dimension = -1;
  s->state = mem_strdup(settings->state_schema ? settings->state_schema : "vecmill");
  s->schema_wanted = settings->schema ? mem_strdup(settings->schema) : NULL;
  vecmill_status status = VECMILL_OK;
  if (!s->state || (settings->schema && !s->schema_wanted) || !copy_keywords(s, settings))
    status = err_set_memory(err, "PostgreSQL", sizeof *s);
  pg_connection *c = &s->connections[PG_READER];
  if (status == VECMILL_OK) status = open_connection(s, c, err);
  if (status == VECMILL_OK) status = pg_settle_encoding(s, err);
  if (status == VECMILL_OK) status = open_connection(s, c, err);
  if (status == VECMILL_OK) {
    s->shown = settings->shown ? mem_strdup(settings->shown) : shown_connection(c->conn);
    if (!s->shown) status = err_set_memory(err, "PostgreSQL", sizeof *s);
  }
  if (status != VECMILL_OK) close_store(&s->base);
  else *store_out = &s->base;
  return status;
}
