/*
 * Ingest into PostgreSQL where the vectors cost nothing, and the bare statements that it is
 * compared with.
 *
 *   bench-ingest run    DB TABLE BATCH CONNECTIONS WORKERS [metrics]   the pipeline and the store
 *   bench-ingest copy   DB TABLE BATCH CONNECTIONS     COPY into a staging table + UPDATE .. FROM
 *   bench-ingest unnest DB TABLE BATCH CONNECTIONS     UPDATE .. FROM unnest of binary arrays
 *
 * TABLE has `id bigint PRIMARY KEY` and `embedding vector(384)`, no vectors yet. Prints one JSON
 * object: rows, and the seconds from the first statement of the work to the last commit's answer.
 * The bare ways get their ids and vectors ready before the clock starts, and their connections are
 * open; `run` is timed from before it connects. DB is a conninfo string. scripts/bench_ingest.py
 * runs it.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "base/thread.h"
#include "free_provider.h"
#include "ingest/database.h"
#include "ingest/measure.h"
#include "ingest/pipeline.h"

#define MAX_CONNECTIONS 16

static void die(const char *what, const char *why) {
  fprintf(stderr, "bench-ingest: %s: %s\n", what, why);
  exit(1);
}

static void print(const char *way, uint64_t n_rows, uint64_t ns) {
  printf("{\"way\": \"%s\", \"rows\": %" PRIu64 ", \"seconds\": %.6f}\n", way, n_rows,
         (double)ns * 1e-9);
}

/* --- run --- */

static void check(vecmill_status status, const vecmill_error *error) {
  if (status != VECMILL_OK) die("run", error->text);
}

static void run(const char *database, const char *table, size_t batch, unsigned n_connections,
                unsigned n_workers, bool measures) {
  vecmill_error error = {0};
  store *s = NULL;
  store_columns columns;
  store_counts counts;
  ingest_outcome outcome;
  bool has_vectors;
  store_target target = {.table = table, .text_column = "text"};
  store_maker maker = {.model = "free",
                       .revision = "free",
                       .pooling = "mean",
                       .prefix = "",
                       .precision = "fp32",
                       .dimension = FREE_DIMENSION};
  ingest_database where = {.database = database, .n_connections = n_connections};
  uint64_t from_ns = clock_now_ns();
  check(ingest_open_database(&where, NULL, &s, &error), &error);
  check(s->operations->find(s, &target, &columns, &error), &error);
  store_metrics_target metrics = {.creates = true};
  const char *metrics_table = NULL;
  if (measures) check(s->operations->metrics_find(s, &metrics, &metrics_table, &error), &error);
  check(s->operations->inspect(s, FREE_DIMENSION, &has_vectors, &error), &error);
  check(s->operations->begin(s, &maker, &error), &error);
  if (measures) check(s->operations->metrics_begin(s, &error), &error);
  check(s->operations->count(s, &counts, &error), &error);
  ingest_plan plan = {.store = s,
                      .provider = &free_provider,
                      .batch = batch,
                      .n_workers = n_workers,
                      .measures = measures,
                      .n_total = counts.n_left};
  check(ingest_pipeline_run(&plan, &outcome, &error), &error);
  uint64_t n_twins = 0;
  if (measures) check(measure_settle(s, NULL, NULL, &n_twins, &error), &error);
  s->operations->close(s);
  uint64_t ns = clock_now_ns() - from_ns;
  fprintf(stderr, "reader %.0f%%, writer %.0f%% busy, %.3f s of %.3f in the pipeline\n",
          100 * outcome.reader_busy, 100 * outcome.writer_busy, outcome.seconds, (double)ns * 1e-9);
  print("run", outcome.n_written, ns);
}

/* --- the bare ways --- */

/* What one connection has to write: messages made before the clock starts. */
typedef struct bare {
  PGconn *conn;
  bool copies;
  size_t n_pages;
  str *ids, *vectors; /* arrays of unnest, one a page; COPY's data in `vectors` */
} bare;

static void append_int16(str *out, uint16_t value) {
  uint16_t wire = htons(value);
  str_append(out, &wire, sizeof wire);
}

static void append_int32(str *out, uint32_t value) {
  uint32_t wire = htonl(value);
  str_append(out, &wire, sizeof wire);
}

static void append_id(str *out, uint64_t id) {
  append_int32(out, 8);
  append_int32(out, (uint32_t)(id >> 32));
  append_int32(out, (uint32_t)id);
}

static void append_vector(str *out, uint64_t id) {
  float numbers[FREE_DIMENSION];
  free_vector((uint32_t)id, numbers);
  append_int32(out, 4 + 4 * FREE_DIMENSION);
  append_int16(out, FREE_DIMENSION);
  append_int16(out, 0);
  for (size_t i = 0; i < FREE_DIMENSION; i++) {
    uint32_t bits;
    memcpy(&bits, &numbers[i], sizeof bits);
    append_int32(out, bits);
  }
}

static void begin_array(str *out, Oid element, size_t n) {
  append_int32(out, 1);
  append_int32(out, 0);
  append_int32(out, element);
  append_int32(out, (uint32_t)n);
  append_int32(out, 1);
}

static PGresult *ask(PGconn *conn, const char *sql) {
  PGresult *result = PQexec(conn, sql);
  ExecStatusType status = PQresultStatus(result);
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_COPY_IN)
    die(sql, PQerrorMessage(conn));
  return result;
}

static void tell(PGconn *conn, const char *sql) {
  PQclear(ask(conn, sql));
}

static void make_page(bare *b, size_t page, const uint64_t *ids, size_t n, Oid vector) {
  str *id_array = &b->ids[page], *data = &b->vectors[page];
  if (b->copies) {
    static const char signature[11] = "PGCOPY\n\377\r\n"; /* the NUL at its end is part of it */
    str_append(data, signature, sizeof signature);
    append_int32(data, 0);
    append_int32(data, 0);
  } else {
    begin_array(id_array, 20, n);
    begin_array(data, vector, n);
  }
  for (size_t i = 0; i < n; i++) {
    if (b->copies) append_int16(data, 2);
    append_id(b->copies ? data : id_array, ids[i]);
    append_vector(data, ids[i]);
  }
  if (b->copies) append_int16(data, 0xFFFF);
  if (data->failed || id_array->failed) die("page", "out of memory");
}

static void write_copied(bare *b, const char *update, const str *data) {
  tell(b->conn, "BEGIN");
  tell(b->conn, "COPY staging FROM STDIN (FORMAT binary)");
  if (PQputCopyData(b->conn, data->data, (int)data->n) != 1 || PQputCopyEnd(b->conn, NULL) != 1)
    die("COPY", PQerrorMessage(b->conn));
  for (PGresult *result; (result = PQgetResult(b->conn)); PQclear(result))
    if (PQresultStatus(result) != PGRES_COMMAND_OK) die("COPY", PQerrorMessage(b->conn));
  tell(b->conn, update);
  tell(b->conn, "COMMIT");
}

static void write_arrays(bare *b, const char *update, const str *ids, const str *vectors) {
  const char *values[] = {ids->data, vectors->data};
  int lengths[] = {(int)ids->n, (int)vectors->n}, formats[] = {1, 1};
  PGresult *result = PQexecParams(b->conn, update, 2, NULL, values, lengths, formats, 1);
  if (PQresultStatus(result) != PGRES_COMMAND_OK) die(update, PQerrorMessage(b->conn));
  PQclear(result);
}

static const char *update_sql;

static void *write_all(void *context) {
  bare *b = context;
  for (size_t i = 0; i < b->n_pages; i++) {
    if (b->copies) write_copied(b, update_sql, &b->vectors[i]);
    else write_arrays(b, update_sql, &b->ids[i], &b->vectors[i]);
  }
  return NULL;
}

static PGconn *connect_to(const char *database) {
  PGconn *conn = PQconnectdb(database);
  if (PQstatus(conn) != CONNECTION_OK) die("connect", PQerrorMessage(conn));
  return conn;
}

/* Pages of consecutive ids, dealt out in turn. */
static void bare_run(const char *database, const char *table, size_t batch, unsigned n_connections,
                     bool copies) {
  bare all[MAX_CONNECTIONS] = {0};
  pthread_t threads[MAX_CONNECTIONS];
  str sql = {0}, update = {0};
  PGconn *conn = connect_to(database);
  PGresult *found = ask(conn, "SELECT 'vector'::regtype::oid");
  Oid vector = (Oid)strtoul(PQgetvalue(found, 0, 0), NULL, 10);
  PQclear(found);
  str_append_format(&sql, "SELECT id FROM %s WHERE embedding IS NULL ORDER BY id", table);
  found = ask(conn, sql.data);
  size_t n_rows = (size_t)PQntuples(found), n_pages = (n_rows + batch - 1) / batch;
  uint64_t *ids = calloc(n_rows + 1, sizeof *ids);
  for (size_t i = 0; i < n_rows; i++) ids[i] = strtoull(PQgetvalue(found, (int)i, 0), NULL, 10);
  PQclear(found);
  PQfinish(conn);
  if (copies)
    str_append_format(&update, "UPDATE %s SET embedding = s.v FROM staging AS s WHERE %s.id = s.id",
                      table, table);
  else
    str_append_format(&update,
                      "UPDATE %s SET embedding = d.v FROM unnest($1::bigint[], "
                      "$2::vector[]) AS d(id, v) WHERE %s.id = d.id",
                      table, table);
  update_sql = update.data;
  for (unsigned c = 0; c < n_connections; c++) {
    bare *b = &all[c];
    *b = (bare){.conn = connect_to(database),
                .copies = copies,
                .ids = calloc(n_pages, sizeof(str)),
                .vectors = calloc(n_pages, sizeof(str))};
    /* a planner without statistics would read the whole table for each page */
    tell(b->conn, "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = "
                  "off; SET jit = off");
    if (copies)
      tell(b->conn, "CREATE TEMP TABLE staging(id bigint, v vector) ON COMMIT DELETE ROWS");
  }
  for (size_t page = 0; page < n_pages; page++) {
    bare *b = &all[page % n_connections];
    size_t from = page * batch, n = n_rows - from < batch ? n_rows - from : batch;
    make_page(b, b->n_pages++, ids + from, n, vector);
  }
  uint64_t from_ns = clock_now_ns();
  vecmill_error error;
  for (unsigned c = 0; c < n_connections; c++)
    if (thread_start(&threads[c], write_all, &all[c], &error) != VECMILL_OK)
      die("thread", error.text);
  for (unsigned c = 0; c < n_connections; c++) pthread_join(threads[c], NULL);
  print(copies ? "copy" : "unnest", n_rows, clock_now_ns() - from_ns);
  for (unsigned c = 0; c < n_connections; c++) PQfinish(all[c].conn);
}

int main(int argc, char **argv) {
  bool measures = argc == 8 && strcmp(argv[7], "metrics") == 0,
       runs = (argc == 7 || measures) && strcmp(argv[1], "run") == 0,
       copies = argc == 6 && strcmp(argv[1], "copy") == 0,
       unnests = argc == 6 && strcmp(argv[1], "unnest") == 0;
  if (!runs && !copies && !unnests)
    die("usage", "run|copy|unnest DB TABLE BATCH CONNECTIONS [WORKERS [metrics]]");
  free_init();
  size_t batch = strtoull(argv[4], NULL, 10);
  unsigned n_connections = (unsigned)strtoul(argv[5], NULL, 10);
  if (batch == 0 || n_connections > MAX_CONNECTIONS || (n_connections == 0 && !runs))
    die("usage", "BATCH from 1, CONNECTIONS from 1 to 16");
  if (runs)
    run(argv[2], argv[3], batch, n_connections, (unsigned)strtoul(argv[6], NULL, 10), measures);
  else bare_run(argv[2], argv[3], batch, n_connections, copies);
  return 0;
}
