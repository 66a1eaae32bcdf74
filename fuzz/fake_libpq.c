/* See fake_libpq.h. Every field lies in memory of its own, so that a step beyond it is seen. */
#include "fake_libpq.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <stdbool.h>
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
  PGresult *parameter;
  char words[512];
};

#define MAX_ENTRIES 256
#define MAX_STATEMENTS 2000

typedef struct reader {
  const uint8_t *at, *end;
} reader;

typedef struct entry {
  const char *needle;
  size_t n_needle;
  reader answer; /* from its first byte to the end of all bytes */
  bool is_used;
} entry;

static entry entries[MAX_ENTRIES];
static size_t n_entries, n_statements;
static int *stop_flag;

static void ask_to_stop(void) {
  __atomic_store_n(stop_flag, 1, __ATOMIC_RELAXED);
}

/* Told on stderr where FAKE_LIBPQ_TELL is set: for writing seeds. */
static bool tells(void) {
  static int is_set = -1;
  if (is_set < 0) is_set = getenv("FAKE_LIBPQ_TELL") != NULL;
  return is_set;
}

/* --- answers --- */

static void *grab(size_t n, size_t size) {
  void *memory = calloc(n ? n : 1, size);
  if (!memory) abort();
  return memory;
}

static uint8_t take_byte(reader *r) {
  return r->at < r->end ? *r->at++ : 0;
}

/* Where a text lies; NULL: it is NULL. */
static const uint8_t *take_bytes(reader *r, size_t *n_out) {
  size_t n = take_byte(r), left;
  *n_out = 0;
  if (n == 255) return NULL;
  if (n == 254) n = take_byte(r), n |= (size_t)take_byte(r) << 8;
  left = (size_t)(r->end - r->at);
  if (n > left) n = left;
  r->at += n;
  *n_out = n;
  return r->at - n;
}

static field take_text(reader *r) {
  size_t n;
  const uint8_t *from = take_bytes(r, &n);
  if (!from) return (field){0};
  field f = {.bytes = grab(n + 1, 1), .n = (int)n}; /* libpq ends every field with a NUL */
  memcpy(f.bytes, from, n);
  return f;
}

static PGresult *take_rows(reader *from, PGresult *r) {
  r->status = PGRES_TUPLES_OK;
  r->n_columns = take_byte(from);
  r->n_rows = take_byte(from);
  size_t n = (size_t)r->n_columns * (size_t)r->n_rows;
  r->fields = grab(n, sizeof *r->fields);
  for (size_t i = 0; i < n; i++) r->fields[i] = take_text(from);
  return r;
}

/* A lost connection is an error without a code. */
static PGresult *take_answer(reader *from) {
  PGresult *r = grab(1, sizeof *r);
  int kind = take_byte(from) & 127;
  r->status = kind == 2 || kind == 3 ? PGRES_FATAL_ERROR
              : kind == 4            ? PGRES_COPY_OUT
                                     : PGRES_COMMAND_OK;
  if (kind == 1) return take_rows(from, r);
  for (int i = 0; kind == 2 && i < CODE_BYTES; i++) r->code[i] = (char)take_byte(from);
  if (kind == 0 || kind == 2 || kind == 3) r->words = take_text(from);
  return r;
}

void fake_libpq_answers(const uint8_t *bytes, size_t n_bytes, int *stop) {
  reader r = {bytes, bytes + n_bytes};
  stop_flag = stop;
  n_statements = 0;
  for (n_entries = 0; r.at < r.end && n_entries < MAX_ENTRIES; n_entries++) {
    entry *e = &entries[n_entries];
    *e = (entry){.needle = NULL};
    e->needle = (const char *)take_bytes(&r, &e->n_needle);
    e->answer = r;
    PQclear(take_answer(&r));
  }
}

static bool occurs(const entry *e, const char *sql) {
  return !e->needle || memmem(sql, strlen(sql), e->needle, e->n_needle) != NULL;
}

static PGresult *answer(const char *sql) {
  static const uint8_t fine = 5, lost = 3;
  reader from = {&fine, &fine + 1};
  if (++n_statements > MAX_STATEMENTS) {
    from = (reader){&lost, &lost + 1};
    ask_to_stop();
  }
  for (size_t i = 0; n_statements <= MAX_STATEMENTS && i < n_entries; i++) {
    entry *e = &entries[i];
    if (e->is_used || !occurs(e, sql)) continue;
    from = e->answer;
    reader again = from;
    e->is_used = !(take_byte(&again) & 128);
    break;
  }
  PGresult *r = take_answer(&from);
  if (tells()) fprintf(stderr, "%s\n  -> %s, %d rows\n", sql, PQresStatus(r->status), r->n_rows);
  return r;
}

static bool is_loss(const PGresult *r) {
  return r->status == PGRES_FATAL_ERROR && !r->code[0];
}

static void lose(PGconn *conn, const PGresult *r) {
  conn->status = CONNECTION_BAD;
  conn->transaction = PQTRANS_UNKNOWN;
  snprintf(conn->words, sizeof conn->words, "%s\n", r->words.bytes ? r->words.bytes : "");
}

/* --- connections --- */

PGconn *PQconnectStartParams(const char *const *keywords, const char *const *values, int expand) {
  (void)keywords, (void)values, (void)expand;
  PGconn *conn = grab(1, sizeof *conn);
  PGresult *r = answer("connect");
  if (is_loss(r)) lose(conn, r);
  PQclear(r);
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
  PQclear(conn->parameter);
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

const char *PQparameterStatus(const PGconn *conn, const char *name) {
  char question[64];
  PGconn *c = (PGconn *)(uintptr_t)conn;
  snprintf(question, sizeof question, "parameter %s", name);
  PQclear(c->parameter);
  c->parameter = answer(question);
  return PQgetisnull(c->parameter, 0, 0) ? NULL : PQgetvalue(c->parameter, 0, 0);
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
  PGresult *r = conn->waiting = answer(sql);
  conn->is_streaming = false;
  conn->next_row = 0;
  if (is_loss(r)) lose(conn, r);
  else follow_transaction(conn, sql);
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

int PQnfields(const PGresult *r) {
  return r ? r->n_columns : 0;
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
