/* See fake_libpq.h. Every field lies in memory of its own, so that a step beyond it is seen. */
#include "fake_libpq.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CODE_BYTES 5

typedef struct field {
  char *bytes; /* NULL: it is NULL */
  int n;
} field;

struct pg_result {
  ExecStatusType status;
  int n_rows, n_columns;
  field *fields;
  char code[CODE_BYTES + 1];
  field words;
};

struct pg_conn {
  ConnStatusType status;
  PGTransactionStatusType transaction;
  bool is_streaming, is_copying;
  PGresult *waiting; /* the answer to what was sent last */
  int next_row;      /* of it, while streaming */
  char words[512];
};

static struct {
  const uint8_t *at, *end;
  int *stop;
} answers;

/* Told on stderr where FAKE_LIBPQ_TELL is set: for writing seeds. */
static bool tells(void) {
  static int is_set = -1;
  if (is_set < 0) is_set = getenv("FAKE_LIBPQ_TELL") != NULL;
  return is_set;
}

void fake_libpq_answers(const uint8_t *bytes, size_t n_bytes, int *stop) {
  answers.at = bytes;
  answers.end = bytes + n_bytes;
  answers.stop = stop;
}

static void ask_to_stop(void) {
  __atomic_store_n(answers.stop, 1, __ATOMIC_RELAXED);
}

uint8_t fake_libpq_byte(void) {
  return answers.at < answers.end ? *answers.at++ : 0;
}

/* --- answers --- */

static void *grab(size_t n, size_t size) {
  void *memory = calloc(n ? n : 1, size);
  if (!memory) abort();
  return memory;
}

static field take_text(void) {
  size_t left, n = fake_libpq_byte();
  if (n == 255) return (field){0};
  if (n == 254) n = fake_libpq_byte(), n |= (size_t)fake_libpq_byte() << 8;
  left = (size_t)(answers.end - answers.at);
  if (n > left) n = left;
  field f = {.bytes = grab(n + 1, 1), .n = (int)n}; /* libpq ends every field with a NUL */
  memcpy(f.bytes, answers.at, n);
  answers.at += n;
  return f;
}

static PGresult *take_rows(PGresult *r) {
  r->status = PGRES_TUPLES_OK;
  r->n_columns = fake_libpq_byte();
  r->n_rows = fake_libpq_byte();
  size_t n = (size_t)r->n_columns * (size_t)r->n_rows;
  r->fields = grab(n, sizeof *r->fields);
  for (size_t i = 0; i < n; i++) r->fields[i] = take_text();
  return r;
}

/* Codes after which the store waits and tries again: it is told to stop, or it would for minutes.
 */
static void stop_waiting(const char *code) {
  static const char *const waited_for[] = {"40", "57P", "08", "533"};
  for (size_t i = 0; i < sizeof waited_for / sizeof *waited_for; i++)
    if (strncmp(code, waited_for[i], strlen(waited_for[i])) == 0) ask_to_stop();
}

static void lose(PGconn *conn) {
  field words = take_text();
  conn->status = CONNECTION_BAD;
  conn->transaction = PQTRANS_UNKNOWN;
  snprintf(conn->words, sizeof conn->words, "%s\n", words.bytes ? words.bytes : "");
  free(words.bytes);
  ask_to_stop();
}

/* The next one, to whatever it was. */
static PGresult *take_answer(PGconn *conn) {
  int kind = answers.at < answers.end ? fake_libpq_byte() & 127 : 3;
  PGresult *r = grab(1, sizeof *r);
  r->status = PGRES_COMMAND_OK;
  if (kind == 0) r->words = take_text();
  if (kind == 1) return take_rows(r);
  if (kind == 4) r->status = PGRES_COPY_OUT;
  if (kind == 2 || kind == 3) r->status = PGRES_FATAL_ERROR;
  if (kind == 3) lose(conn); /* without a code */
  if (kind != 2) return r;
  for (int i = 0; i < CODE_BYTES; i++) r->code[i] = (char)fake_libpq_byte();
  r->words = take_text();
  stop_waiting(r->code);
  return r;
}

/* --- connections --- */

PGconn *PQconnectStartParams(const char *const *keywords, const char *const *values, int expand) {
  (void)keywords, (void)values, (void)expand;
  PGconn *conn = grab(1, sizeof *conn);
  bool is_lost = answers.at >= answers.end || (fake_libpq_byte() & 127) == 3;
  if (is_lost) lose(conn);
  if (tells()) fprintf(stderr, "connect%s\n", is_lost ? ": no" : "");
  return conn;
}

PGconn *PQconnectdbParams(const char *const *keywords, const char *const *values, int expand) {
  return PQconnectStartParams(keywords, values, expand);
}

PostgresPollingStatusType PQconnectPoll(PGconn *conn) {
  return conn->status == CONNECTION_OK ? PGRES_POLLING_OK : PGRES_POLLING_FAILED;
}

void PQfinish(PGconn *conn) {
  if (!conn) return;
  PQclear(conn->waiting);
  free(conn);
}

/* One that is always ready. */
int PQsocket(const PGconn *conn) {
  static int null = -1;
  if (null < 0) null = open("/dev/null", O_RDWR | O_CLOEXEC);
  return conn ? null : -1;
}

ConnStatusType PQstatus(const PGconn *conn) {
  return conn ? conn->status : CONNECTION_BAD;
}

PGTransactionStatusType PQtransactionStatus(const PGconn *conn) {
  return conn->transaction;
}

char *PQerrorMessage(const PGconn *conn) {
  return (char *)conn->words;
}

char *PQhost(const PGconn *conn) {
  (void)conn;
  return (char *)"h";
}

char *PQport(const PGconn *conn) {
  (void)conn;
  return (char *)"5432";
}

char *PQuser(const PGconn *conn) {
  (void)conn;
  return (char *)"u";
}

char *PQdb(const PGconn *conn) {
  (void)conn;
  return (char *)"d";
}

PGVerbosity PQsetErrorVerbosity(PGconn *conn, PGVerbosity verbosity) {
  (void)conn;
  return verbosity;
}

PQnoticeReceiver PQsetNoticeReceiver(PGconn *conn, PQnoticeReceiver receiver, void *context) {
  (void)conn, (void)context;
  return receiver;
}

int PQsetnonblocking(PGconn *conn, int is_on) {
  (void)conn, (void)is_on;
  return 0;
}

PGcancel *PQgetCancel(PGconn *conn) {
  (void)conn;
  return NULL;
}

/* --- statements --- */

static void follow_transaction(PGconn *conn, const char *sql) {
  if (strncmp(sql, "BEGIN", 5) == 0) conn->transaction = PQTRANS_INTRANS;
  if (strncmp(sql, "COMMIT", 6) == 0 || strcmp(sql, "ROLLBACK") == 0)
    conn->transaction = PQTRANS_IDLE;
}

int PQsendQuery(PGconn *conn, const char *sql) {
  if (conn->status != CONNECTION_OK || conn->is_copying) return 0;
  PQclear(conn->waiting);
  conn->waiting = take_answer(conn);
  if (tells())
    fprintf(stderr, "%s\n  -> %s, %d rows\n", sql, PQresStatus(conn->waiting->status),
            conn->waiting->n_rows);
  conn->is_streaming = false;
  conn->next_row = 0;
  if (conn->status == CONNECTION_OK) follow_transaction(conn, sql);
  return 1;
}

int PQsendQueryParams(PGconn *conn, const char *sql, int n, const Oid *types,
                      const char *const *values, const int *lengths, const int *formats,
                      int format) {
  (void)types, (void)format;
  unsigned sum = 0; /* what is sent is there to be read */
  for (int i = 0; i < n; i++)
    for (int j = 0; values[i] && j < (formats[i] ? lengths[i] : (int)strlen(values[i])); j++)
      sum += (unsigned char)values[i][j];
  __asm__ volatile("" : : "r"(sum));
  return PQsendQuery(conn, sql);
}

int PQsetSingleRowMode(PGconn *conn) {
  conn->is_streaming = true;
  return 1;
}

int PQflush(PGconn *conn) {
  return conn->status == CONNECTION_OK ? 0 : -1;
}

int PQisBusy(PGconn *conn) {
  (void)conn;
  return 0;
}

int PQconsumeInput(PGconn *conn) {
  if (conn->is_copying) conn->status = CONNECTION_BAD; /* read after it was broken off */
  return conn->status == CONNECTION_OK;
}

/* One row of the answer as a result of its own. */
static PGresult *split_row(const PGresult *all, int row) {
  PGresult *one = grab(1, sizeof *one);
  *one = (PGresult){.status = PGRES_SINGLE_TUPLE, .n_rows = 1, .n_columns = all->n_columns};
  one->fields = grab((size_t)all->n_columns, sizeof *one->fields);
  for (int i = 0; i < all->n_columns; i++) {
    const field *from = &all->fields[row * all->n_columns + i];
    if (!from->bytes) continue;
    one->fields[i] = (field){grab((size_t)from->n + 1, 1), from->n};
    memcpy(one->fields[i].bytes, from->bytes, (size_t)from->n);
  }
  return one;
}

PGresult *PQgetResult(PGconn *conn) {
  PGresult *all = conn->waiting;
  if (!all) return NULL;
  if (all->status == PGRES_COPY_OUT) { /* again and again, until the COPY is over */
    conn->is_copying = true;
    PGresult *again = grab(1, sizeof *again);
    again->status = PGRES_COPY_OUT;
    return again;
  }
  if (conn->is_streaming && all->status == PGRES_TUPLES_OK && conn->next_row < all->n_rows)
    return split_row(all, conn->next_row++);
  conn->waiting = NULL;
  return all;
}

PGresult *PQexec(PGconn *conn, const char *sql) {
  if (!PQsendQuery(conn, sql)) return NULL;
  PGresult *result = conn->waiting;
  conn->waiting = NULL;
  return result;
}

/* --- results, as libpq answers where there is no such row or column --- */

void PQclear(PGresult *r) {
  if (!r) return;
  for (int i = 0; i < r->n_rows * r->n_columns; i++) free(r->fields[i].bytes);
  free(r->fields);
  free(r->words.bytes);
  free(r);
}

static const field *field_at(const PGresult *r, int row, int column) {
  bool is_there = r && row >= 0 && row < r->n_rows && column >= 0 && column < r->n_columns;
  return is_there ? &r->fields[row * r->n_columns + column] : NULL;
}

ExecStatusType PQresultStatus(const PGresult *r) {
  return r ? r->status : PGRES_FATAL_ERROR;
}

int PQntuples(const PGresult *r) {
  return r ? r->n_rows : 0;
}

char *PQgetvalue(const PGresult *r, int row, int column) {
  const field *f = field_at(r, row, column);
  return !f ? NULL : f->bytes ? f->bytes : (char *)"";
}

int PQgetlength(const PGresult *r, int row, int column) {
  const field *f = field_at(r, row, column);
  return f ? f->n : 0;
}

int PQgetisnull(const PGresult *r, int row, int column) {
  const field *f = field_at(r, row, column);
  return !f || !f->bytes;
}

char *PQresultErrorField(const PGresult *r, int code) {
  if (!r || r->status != PGRES_FATAL_ERROR) return NULL;
  if (code == PG_DIAG_SQLSTATE) return r->code[0] ? (char *)r->code : NULL;
  return r->words.bytes;
}

char *PQcmdTuples(PGresult *r) {
  return r && r->status == PGRES_COMMAND_OK && r->words.bytes ? r->words.bytes : (char *)"";
}
