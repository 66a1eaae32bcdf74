/*
 * Connections to PostgreSQL: opening them, and the store that has them.
 *
 * Nothing here blocks in libpq: whatever waits for the server looks at the stop flag.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/pg_parts.h"

#define TICK_MS 100
#define CONNECT_SECONDS 15
#define FIRST_ANSWER_NS 5000000000ull
/* How long a server that went away is waited for, and a statement tried again. */
#define WAIT_SECONDS 120

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

bool pg_wait_for_socket(PGconn *conn, bool to_write) {
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
    if (stop_ns && now_ns - stop_ns > PG_STOP_GRACE_NS)
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

vecmill_status pg_open_connection(pg_store *s, pg_connection *c, vecmill_error *err) {
  if (c->conn && PQstatus(c->conn) == CONNECTION_OK) return VECMILL_OK;
  PQfinish(c->conn);
  c->conn = NULL;
  size_t n = pg_n_hosts(s);
  return n > 1 ? connect_to_any(s, c, n, err)
               : connect_to(s, c, (const char *const *)s->values, err);
}

/* Whether it answers in time. A pooler may end it too, which has its own limit for those who wait.
 */
static vecmill_status ask_for_answer(pg_store *s, PGconn *conn, bool *answers_out,
                                     vecmill_error *err) {
  uint64_t from_ns = clock_now_ns();
  *answers_out = false;
  if (!PQsendQuery(conn, "SELECT 1")) return VECMILL_OK;
  while (PQflush(conn) > 0 || PQisBusy(conn)) {
    if (pg_stop_asked(s))
      return err_set(err, VECMILL_ERROR_STOPPED, "stopped while connecting to PostgreSQL");
    bool can_read = pg_wait_for_socket(conn, false);
    if (can_read && !PQconsumeInput(conn)) return VECMILL_OK;
    if (!can_read && clock_now_ns() - from_ns > FIRST_ANSWER_NS) return VECMILL_OK;
  }
  for (PGresult *result; (result = PQgetResult(conn)) != NULL; PQclear(result))
    *answers_out |= PQresultStatus(result) == PGRES_TUPLES_OK;
  return VECMILL_OK;
}

void pg_share_out(pg_store *s, unsigned n_connections) {
  s->n_connections = n_connections;
  s->n_write_connections =
      n_connections > PG_MORE_WRITERS ? n_connections - PG_MORE_WRITERS + 1 : 1;
  /* one more: it gets its message ready while the others' are under way */
  s->base.n_writers = s->n_write_connections + 1;
}

/* A pooler that keeps a session for each connection takes one more than it has room for, and lets
 * it wait until another ends: for ever, if that is one of ours. */
vecmill_status pg_open_all(pg_store *s, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  for (unsigned i = 0; status == VECMILL_OK && i < s->n_connections; i++) {
    pg_connection *c = &s->connections[i];
    bool answers = true;
    pthread_mutex_lock(&c->mutex);
    status = pg_open_connection(s, c, err);
    if (status == VECMILL_OK && i > 0) status = ask_for_answer(s, c->conn, &answers, err);
    if (status != VECMILL_OK || !answers) {
      PQfinish(c->conn);
      c->conn = NULL;
    }
    if (status == VECMILL_OK && !answers) {
      pg_share_out(s, i);
      log_warning("%s: no answer on one more connection: going on with %u (where a pooler has no "
                  "room for more: lower --connections, or let it pool by transaction)",
                  s->shown, i);
    }
    pthread_mutex_unlock(&c->mutex);
  }
  return status;
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
  for (size_t i = 0; i < s->n_keys; i++) pg_key_column_fini(&s->keys[i]);
  char *texts[] = {s->shown,         s->schema_wanted, s->state,     s->schema,     s->table,
                   s->where,         s->text_column,   s->id_list,   s->column_id,  s->record_since,
                   s->vector_column, s->keys_sql,      s->table_sql, s->table_name, s->vector_type,
                   s->index,         s->vector_schema};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) mem_free(texts[i]);
  for (size_t i = 0; i < sizeof s->maker_text / sizeof *s->maker_text; i++)
    mem_free(s->maker_text[i]);
  mem_free(s->keywords);
  mem_free(s->values);
  str_fini(&s->more_path);
  str_fini(&s->viewer);
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
    .metrics_settle = pg_store_metrics_settle,
    .preview = pg_store_preview,
    .preview_texts = pg_store_preview_texts,
    .count = pg_store_count,
    .pass_begin = pg_store_pass_begin,
    .n_run_done = pg_store_n_run_done,
    .claim = pg_store_claim,
    .commit = pg_store_commit,
    .n_removed = pg_store_n_removed,
    .count_failed = pg_store_count_failed,
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
  s->keywords = mem_calloc(n + n_ours + 2, sizeof *s->keywords); /* one more: a passfile */
  s->values = mem_calloc(n + n_ours + 2, sizeof *s->values);
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
  return pg_pass_over_passfile(s, at);
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
  unsigned n_wanted = settings->n_connections ? settings->n_connections : PG_USUAL_CONNECTIONS;
  pg_share_out(s, n_wanted < PG_MAX_CONNECTIONS ? n_wanted : PG_MAX_CONNECTIONS);
  s->lease_seconds = settings->lease_seconds ? settings->lease_seconds : 60;
  s->wait_seconds = settings->wait_seconds ? settings->wait_seconds : WAIT_SECONDS;
  s->vector_dimension = -1;
  s->state = mem_strdup(settings->state_schema ? settings->state_schema : "vecmill");
  s->schema_wanted = settings->schema ? mem_strdup(settings->schema) : NULL;
  vecmill_status status = VECMILL_OK;
  if (!s->state || (settings->schema && !s->schema_wanted) || !copy_keywords(s, settings))
    status = err_set_memory(err, "PostgreSQL", sizeof *s);
  pg_connection *c = &s->connections[PG_READER];
  if (status == VECMILL_OK) status = pg_open_connection(s, c, err);
  if (status == VECMILL_OK) status = pg_settle_encoding(s, err);
  if (status == VECMILL_OK) status = pg_open_connection(s, c, err);
  if (status == VECMILL_OK) {
    s->shown = settings->shown ? mem_strdup(settings->shown) : shown_connection(c->conn);
    if (!s->shown) status = err_set_memory(err, "PostgreSQL", sizeof *s);
  }
  if (status != VECMILL_OK) close_store(&s->base);
  else *store_out = &s->base;
  return status;
}
