/*
 * A search, all of it: the column and what made it, the query's vector, the scan.
 *
 * The query's prefix: "query: " if the column was made with the "passage: " of the E5 family, whose
 * questions and passages are told apart that way, unless a model that is not named as an E5 has a
 * prompt "query" of its own, which then comes first; else what the column was made with.
 */
#include "ingest/query.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "config/pg_settings.h"
#include "ingest/database.h"
#include "ingest/maker.h"
#include "ingest/nearest.h"
#include "provider/local.h"

/* --- the query's vector --- */

static vecmill_status embed_one(provider *p, const char *text, float *vector_out,
                                vecmill_error *err) {
  provider_worker *worker = NULL;
  provider_item item = {0};
  vecmill_status status = p->operations->worker_open(p, &worker, err);
  if (status != VECMILL_OK) return status;
  status = p->operations->prepare(p, worker, text, strlen(text), &item, err);
  if (status == VECMILL_OK) status = p->operations->run(p, worker, &item, 1, &vector_out, err);
  mem_free(item.data);
  p->operations->worker_close(p, worker);
  return status;
}

/* The model that made the column, found by the name in the record, held to the identity there. */
static vecmill_status open_maker(const store_columns *columns, const store_maker *record,
                                 ingest_maker *m_out, vecmill_error *err) {
  vecmill_status status = ingest_maker_choose(record->model, NULL, NULL, m_out, err);
  if (status == VECMILL_OK) status = ingest_maker_open(m_out, record->prefix, NULL, record, err);
  store_columns made = *columns;
  made.text_column = record->text_column; /* another may be shown beside the scores */
  return status == VECMILL_OK ? ingest_maker_match(m_out, record, &made, err) : status;
}

static vecmill_status embed_query(const vecmill_search_options *options,
                                  const store_columns *columns, const store_maker *record,
                                  float **vector_out, vecmill_error *err) {
  ingest_maker maker = {0};
  provider *p = NULL;
  float *vector = mem_alloc_aligned(record->dimension, sizeof(float));
  vecmill_status status = vector ? open_maker(columns, record, &maker, err)
                                 : err_set_memory(err, "search", record->dimension * sizeof(float));
  if (status == VECMILL_OK)
    status = provider_open_local(maker.model, ingest_maker_query_prefix(&maker, record), &p, err);
  if (status == VECMILL_OK) status = embed_one(p, options->query, vector, err);
  if (p) p->operations->close(p);
  ingest_maker_fini(&maker);
  if (status == VECMILL_OK) *vector_out = vector;
  else mem_free(vector);
  return status;
}

/* --- all of it --- */

static vecmill_status check_options(const vecmill_search_options *options, vecmill_error *err) {
  if (options->database && !*options->database)
    return err_set(err, VECMILL_ERROR_ARGUMENT, "--db is empty (give a file, or leave it out)");
  if (!options->table || !*options->table || !options->query)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "no table or no query (give both: vecmill search TABLE QUERY --db FILE)");
  if (options->k > VECMILL_SEARCH_MAX_K)
    return err_set(err, VECMILL_ERROR_ARGUMENT, "k %zu: too many rows (1 to %d)", options->k,
                   VECMILL_SEARCH_MAX_K);
  return ingest_check_where(options->where, err);
}

/* The command that gives the rows their vectors, for a POSIX shell; NULL: out of memory. */
static char *advise(const vecmill_search_options *options) {
  char *shown =
      options->database ? config_database_shown(options->config, options->database) : NULL;
  const struct {
    const char *option, *word;
  } said[] = {{"--schema", options->schema},
              {"--state-schema", options->state_schema},
              {"--id-column", options->id_column},
              {"--text-column", options->text_column},
              {"--vector-column", options->vector_column},
              {"--db", shown}};
  str command = {.failed = options->database && !shown};
  str_append_text(&command, "vecmill ingest ");
  str_append_shell(&command, options->table);
  for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
    if (!said[i].word) continue;
    str_append_format(&command, " %s ", said[i].option);
    str_append_shell(&command, said[i].word);
  }
  mem_free(shown);
  if (command.failed) str_fini(&command);
  return command.data;
}

static vecmill_status find_column(store *s, const vecmill_search_options *options,
                                  store_columns *columns_out, store_maker *record_out,
                                  vecmill_error *err) {
  store_target target = {.table = options->table,
                         .id_column = options->id_column,
                         .text_column = options->text_column,
                         .vector_column = options->vector_column,
                         .where = options->where,
                         .only_reads = true};
  bool found = false;
  vecmill_status status = s->operations->find(s, &target, columns_out, err);
  if (status != VECMILL_OK) return status;
  if (!columns_out->has_vector_column) {
    char *command = advise(options);
    status = command ? err_set(err, VECMILL_ERROR_NOT_FOUND, "table %s: no column %s (%s makes it)",
                               columns_out->table, columns_out->vector_column, command)
                     : err_set_memory(err, "search", strlen(options->table));
    mem_free(command);
    return status;
  }
  status = s->operations->record(s, record_out, &found, err);
  if (status == VECMILL_OK && !found)
    status =
        err_set(err, VECMILL_ERROR_NOT_FOUND,
                "table %s: nothing says which model made column %s (vecmill ingest with --model "
                "checks that and records it)",
                columns_out->table, columns_out->vector_column);
  if (status == VECMILL_OK && record_out->is_doubtful)
    log_warning("table %s: not the table that its record was made for (restored, or another one of "
                "that name?); searched as if %s had made its column %s (vecmill ingest checks that)",
                columns_out->table, record_out->model, columns_out->vector_column);
  return status;
}

static vecmill_status search(store *s, const vecmill_search_options *options,
                             vecmill_search_result *result_out, vecmill_error *err) {
  store_columns columns;
  store_maker record;
  float *query = NULL;
  vecmill_status status = find_column(s, options, &columns, &record, err);
  if (status != VECMILL_OK) return status;
  result_out->model = mem_strdup(record.model);
  uint64_t start_ns = clock_now_ns();
  status = embed_query(options, &columns, &record, &query, err);
  if (status != VECMILL_OK) return status;
  uint64_t embedded_ns = clock_now_ns();
  status =
      nearest_scan(s, query, record.dimension, options->k ? options->k : VECMILL_SEARCH_DEFAULT_K,
                   options->exact != 0, result_out, err);
  result_out->embed_seconds = (double)(embedded_ns - start_ns) * 1e-9;
  result_out->scan_seconds = (double)(clock_now_ns() - embedded_ns) * 1e-9;
  mem_free(query);
  if (status != VECMILL_OK || result_out->n_scanned > 0 || options->where) return status;
  result_out->advice = advise(options);
  if (!result_out->advice) return err_set_memory(err, "search", strlen(options->table));
  return status;
}

vecmill_status query_run(const vecmill_search_options *options, vecmill_search_result *result_out,
                         vecmill_error *err) {
  store *s = NULL;
  ingest_database where = {.config = options->config,
                           .database = options->database,
                           .schema = options->schema,
                           .state_schema = options->state_schema};
  *result_out = (vecmill_search_result){0};
  vecmill_status status = check_options(options, err);
  if (status == VECMILL_OK) status = ingest_open_database(&where, NULL, &s, err);
  if (status != VECMILL_OK) return status;
  status = search(s, options, result_out, err);
  s->operations->close(s);
  return status;
}
