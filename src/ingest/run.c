#include "ingest/run.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "config/config.h"
#include "ingest/backfill.h"
#include "ingest/database.h"
#include "ingest/maker.h"
#include "ingest/pipeline.h"
#include "ingest/preview.h"

typedef struct run {
  const vecmill_ingest_options *options;
  vecmill_ingest_report *report;
  vecmill_ingest_event event; /* what is known so far */
  store *store;
  store_columns columns;
  store_maker record;
  bool has_record;
  ingest_maker maker;
  store_counts counts;
  size_t batch;
  wordlist *list;
  const char *metrics_table; /* NULL: no metrics */
  uint64_t n_worn;           /* of the rows left, as in ingest_outcome */
} run;

static void send(run *r, vecmill_ingest_event_kind kind) {
  r->event.kind = kind;
  if (r->options->on_event) r->options->on_event(r->options->event_context, &r->event);
}

static const int *stop_flag(const vecmill_ingest_options *options) {
  return options->control ? &options->control->stop : NULL;
}

static bool stop_asked(const run *r) {
  const int *stop = stop_flag(r->options);
  return stop && __atomic_load_n(stop, __ATOMIC_RELAXED) != 0;
}

/* --- before the first write --- */

static vecmill_status check_options(const vecmill_ingest_options *options, vecmill_error *err) {
  if (options->database && !*options->database)
    return err_set(err, VECMILL_ERROR_ARGUMENT, "--db is empty (give a file, or leave it out)");
  if (!options->table || !*options->table)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "no table named (give one: vecmill ingest TABLE --db FILE)");
  if (options->batch > CONFIG_MAX_BATCH)
    return err_set(err, VECMILL_ERROR_ARGUMENT, "batch %zu: too large (1 to 1000000 rows)",
                   options->batch);
  if (options->n_workers > CONFIG_MAX_WORKERS)
    return err_set(err, VECMILL_ERROR_ARGUMENT, "workers %u: too many (1 to 4096, or auto)",
                   options->n_workers);
  if (options->wordlist_overrides && !options->wordlist)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "--wordlist-overrides %s: without a word list (give --wordlist FILE too)",
                   options->wordlist_overrides);
  if (options->metrics_table && !*options->metrics_table)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "--metrics-table is empty (give a name, or leave it out)");
  if (!(options->sleep_s >= 0 && options->sleep_s <= CONFIG_MAX_SLEEP_S))
    return err_set(err, VECMILL_ERROR_ARGUMENT, "sleep %g: not a number of seconds (0 to 86400)",
                   options->sleep_s);
  return ingest_check_where(options->where, err);
}

/* What says which rows are embedded, or as what, would say nothing where none is. */
static vecmill_status check_metrics_only(const vecmill_ingest_options *options,
                                         vecmill_error *err) {
  const char *option = !options->metrics_only  ? NULL
                       : options->changed      ? "--changed"
                       : options->retry_failed ? "--retry-failed"
                       : options->prefix       ? "--prefix"
                                               : NULL;
  if (!option) return VECMILL_OK;
  return err_set(err, VECMILL_ERROR_ARGUMENT,
                 "%s: not with --metrics-only, which embeds nothing (leave one of them out)",
                 option);
}

static vecmill_status open_store(run *r, vecmill_error *err) {
  const vecmill_ingest_options *options = r->options;
  store_target target = {.table = options->table,
                         .id_column = options->id_column,
                         .text_column = options->text_column,
                         .vector_column = options->vector_column,
                         .where = options->where,
                         .limit = options->limit,
                         .retry_failed = options->retry_failed != 0,
                         .changed = options->changed != 0,
                         .only_reads = options->dry_run || options->metrics_only};
  ingest_database where = {.config = options->config,
                           .database = options->database,
                           .schema = options->schema,
                           .state_schema = options->state_schema,
                           .lease_seconds = options->lease_seconds,
                           .n_connections = options->n_connections};
  vecmill_status status = ingest_open_database(&where, stop_flag(options), &r->store, err);
  if (status == VECMILL_OK)
    status = r->store->operations->find(r->store, &target, &r->columns, err);
  return status;
}

static void report_averages(vecmill_ingest_report *report, const ingest_sums *sums) {
  report->avg_ratio = measure_average(sums->ratio, sums->n_ratio);
  report->avg_word_count = measure_average(sums->word_count, sums->n);
  report->avg_length = measure_average(sums->length, sums->n);
  report->avg_entity_count = measure_average(sums->entity_count, sums->n);
}

/* Before the first row: a list or a table that is missing is told now. */
static vecmill_status open_metrics(run *r, vecmill_error *err) {
  const vecmill_ingest_options *options = r->options;
  store_metrics_target target = {.table = options->metrics_table,
                                 .is_asked = options->metrics_table || options->wordlist ||
                                             options->metrics_only,
                                 .words = r->list ? wordlist_fingerprint(r->list) : 0,
                                 .creates = options->create_metrics != 0};
  vecmill_status status =
      r->store->operations->metrics_find(r->store, &target, &r->metrics_table, err);
  if (status != VECMILL_OK || !r->metrics_table) return status;
  r->event.metrics_table = r->metrics_table;
  r->report->metrics_table = mem_strdup(r->metrics_table);
  report_averages(r->report, &(ingest_sums){0});
  return VECMILL_OK;
}

static vecmill_status open_model(run *r, vecmill_error *err) {
  const store_maker *record = r->has_record ? &r->record : NULL;
  vecmill_status status =
      ingest_maker_choose(r->options->model, r->options->config, record, &r->maker, err);
  if (status != VECMILL_OK) return status;
  r->event.model = r->maker.location.name;
  r->event.model_reason = r->maker.reason;
  r->event.device = "cpu";
  r->report->model = mem_strdup(r->maker.location.name);
  send(r, VECMILL_INGEST_MODEL);
  return ingest_maker_open(&r->maker, r->options->prefix, r->options->config, record, err);
}

/* Whether this model may write into this column; then everything is ready for it. */
static vecmill_status begin(run *r, vecmill_error *err) {
  const store_operations *operations = r->store->operations;
  bool has_vectors = false, is_sure = r->has_record && !r->record.is_doubtful;
  vecmill_error mismatch = {0};
  vecmill_status status = VECMILL_OK, match = VECMILL_OK;
  /* The column's first vectors may be those of another process, which began beside this one: then
   * there is a record by now. */
  status = operations->inspect(r->store, r->maker.maker.dimension, &has_vectors, err);
  if (status == VECMILL_OK && has_vectors && !r->has_record) {
    status = operations->record(r->store, &r->record, &r->has_record, err);
    is_sure = r->has_record && !r->record.is_doubtful;
  }
  if (r->has_record) match = ingest_maker_match(&r->maker, &r->record, &r->columns, &mismatch);
  /* A record that no vector stands behind is begin's to replace, and one that is in doubt. */
  if (match != VECMILL_OK && is_sure && (has_vectors || status != VECMILL_OK)) {
    if (err) *err = mismatch;
    return match;
  }
  if (status == VECMILL_OK && !is_sure && has_vectors)
    status = ingest_maker_prove(&r->maker, r->store, &r->columns, r->has_record ? &r->record : NULL,
                                err);
  if (r->options->dry_run) return status;
  if (status == VECMILL_OK) status = operations->begin(r->store, &r->maker.maker, err);
  if (status == VECMILL_OK && r->metrics_table) status = operations->metrics_begin(r->store, err);
  if (status == VECMILL_OK) status = operations->count(r->store, &r->counts, err);
  return status;
}

static void tell_table(run *r) {
  r->event.table = r->columns.table;
  r->event.id_columns = r->columns.id_columns;
  r->event.text_column = r->columns.text_column;
  r->event.vector_column = r->columns.vector_column;
  r->report->table = mem_strdup(r->columns.table);
  r->report->vector_column = mem_strdup(r->columns.vector_column);
  send(r, VECMILL_INGEST_TABLE);
}

/* With --retry-failed what is counted as failed has been tried again already, by others of the run.
 */
static void tell_counts(run *r) {
  const store_counts *counts = &r->counts;
  uint64_t n_failed_before = r->options->retry_failed ? 0 : counts->n_failed;
  vecmill_ingest_report *report = r->report;
  r->event.n_rows = report->n_rows = counts->n_rows;
  r->event.n_had_vector = report->n_had_vector = counts->n_done;
  r->event.n_blank = report->n_blank = counts->n_blank;
  r->event.n_failed_before = report->n_failed_before = n_failed_before;
  r->event.n_null_keys = report->n_null_keys = counts->n_null_keys;
  r->event.n_outdated = report->n_outdated = counts->n_outdated;
  r->event.n_unknown = report->n_unknown = counts->n_unknown;
  r->event.n_total = report->n_left = counts->n_left;
  send(r, VECMILL_INGEST_REMAINING);
}

/* --- the pipeline --- */

static void on_start(void *context, unsigned n_workers) {
  run *r = context;
  r->event.n_workers = n_workers;
  r->event.eta_s = -1;
  send(r, VECMILL_INGEST_STARTED);
}

static void set_averages(vecmill_ingest_event *event, const ingest_sums *sums) {
  event->avg_ratio = measure_average(sums->ratio, sums->n_ratio);
  event->avg_word_count = measure_average(sums->word_count, sums->n);
  event->avg_length = measure_average(sums->length, sums->n);
  event->avg_entity_count = measure_average(sums->entity_count, sums->n);
}

static void on_progress(void *context, const ingest_progress *now) {
  run *r = context;
  const progress *p = now->progress;
  vecmill_ingest_event *event = &r->event;
  event->n_total = p->n_total;
  event->n_done = p->n_done;
  event->n_tokens = p->n_tokens;
  event->n_batch = now->n_batch;
  event->n_failed = now->n_failed;
  event->n_in_flight = now->n_in_flight;
  event->seconds = progress_seconds(p, now->now_ns);
  event->rows_per_s = progress_rate(p, now->now_ns);
  event->tokens_per_s = progress_token_rate(p, now->now_ns);
  event->eta_s = progress_eta(p, now->now_ns);
  set_averages(event, now->sums);
  send(r, now->is_tick ? VECMILL_INGEST_TICK : VECMILL_INGEST_BATCH);
}

static vecmill_ingest_stage least_blocked(const ingest_outcome *outcome) {
  /* Workers that rest are not blocked: it is they for whom the others wait. */
  double working = outcome->embed_busy + outcome->embed_rest, waiting = outcome->reader_waiting;
  if (waiting > working && waiting > outcome->reader_busy && waiting > outcome->writer_busy)
    return VECMILL_INGEST_STAGE_WAITING;
  /* What was embedded may all have been held up where it is written. */
  if (outcome->n_batches == 0 && outcome->n_tokens == 0) return VECMILL_INGEST_STAGE_NONE;
  if (working >= outcome->reader_busy && working >= outcome->writer_busy)
    return VECMILL_INGEST_STAGE_EMBED;
  return outcome->writer_busy > outcome->reader_busy ? VECMILL_INGEST_STAGE_WRITER
                                                     : VECMILL_INGEST_STAGE_READER;
}

/* The report takes over what the outcome owns. */
static void report_outcome(vecmill_ingest_report *report, ingest_outcome *outcome) {
  uint64_t n_settled = outcome->n_written + outcome->n_failed;
  report->n_written = outcome->n_written;
  report->n_failed = outcome->n_failed;
  report->n_changed = outcome->n_changed;
  report->n_taken_over = outcome->n_taken_over;
  report->n_left = outcome->n_left;
  report->n_truncated = outcome->n_truncated;
  report->n_repaired = outcome->n_repaired;
  report->n_tokens = outcome->n_tokens;
  report->n_batches = outcome->n_batches;
  report->n_passes = outcome->n_passes;
  report->seconds = outcome->seconds;
  report->rows_per_s = outcome->seconds > 0 ? (double)n_settled / outcome->seconds : 0;
  report->tokens_per_s = outcome->seconds > 0 ? (double)outcome->n_tokens / outcome->seconds : 0;
  report->n_workers = outcome->n_workers;
  report->worker_busy = outcome->worker_busy;
  report->reader_busy = outcome->reader_busy;
  report->embed_busy = outcome->embed_busy;
  report->writer_busy = outcome->writer_busy;
  report->limited_by = least_blocked(outcome);
  report->first_failure = outcome->first_failure;
  report_averages(report, &outcome->sums);
}

static vecmill_status run_pipeline(run *r, vecmill_error *err) {
  ingest_outcome outcome;
  ingest_plan plan = {.store = r->store,
                      .provider = r->maker.provider,
                      .batch = r->batch,
                      .n_workers = r->options->n_workers,
                      .sleep_ns = (uint64_t)(r->options->sleep_s * 1e9),
                      .n_total = r->counts.n_left,
                      .n_run_total = r->counts.n_run_total,
                      .n_run_done = r->counts.n_run_done,
                      .measures = r->metrics_table != NULL,
                      .list = r->list,
                      .stop = stop_flag(r->options),
                      .on_progress = on_progress,
                      .on_start = on_start,
                      .context = r};
  vecmill_status status = ingest_pipeline_run(&plan, &outcome, err);
  uint64_t n_settled = outcome.n_written + outcome.n_failed;
  /* Ended early: all that is not settled is left, claimed or not. */
  if (status != VECMILL_OK)
    outcome.n_left = r->counts.n_left > n_settled ? r->counts.n_left - n_settled : 0;
  else r->n_worn = outcome.n_worn;
  report_outcome(r->report, &outcome);
  return status;
}

static vecmill_status some_failed(const run *r, uint64_t n_rows, const char *how,
                                  const char *reason, vecmill_error *err) {
  const char *schema = r->columns.failures_schema;
  return err_set(err, VECMILL_ERROR_PARTIAL,
                 "table %s: %llu rows %s%s (see %s%s%s; --retry-failed tries them again)",
                 r->columns.table, (unsigned long long)n_rows, how, reason, schema ? schema : "",
                 schema ? "." : "", r->columns.failures);
}

/* Rows that were left because no pass got them done. */
static vecmill_status some_left(const run *r, vecmill_error *err) {
  unsigned long long n_worn = r->n_worn, n_changing = r->report->n_left - r->n_worn;
  if (n_worn == 0)
    return err_set(
        err, VECMILL_ERROR_PARTIAL,
        "table %s: %llu rows kept changing while they were embedded (run again when they rest)",
        r->columns.table, n_changing);
  char others[80] = "";
  if (n_changing > 0) snprintf(others, sizeof others, "; %llu more kept changing", n_changing);
  return err_set(
      err, VECMILL_ERROR_PARTIAL,
      "table %s: %llu rows were embedded %d times or more, and each time a trigger or another "
      "program took the vector away or changed the text%s (end that and run again)",
      r->columns.table, n_worn, TRIES_UNTIL_WORN, others);
}

static vecmill_status final_status(const run *r, vecmill_error *err) {
  const vecmill_ingest_report *report = r->report;
  vecmill_error left;
  bool some_failed_too = report->n_failed + report->n_failed_elsewhere + report->n_failed_before;
  if (r->n_worn > 0 && some_failed_too) { /* what is told of those would hide it */
    some_left(r, &left);
    log_warning("%s", left.text);
  }
  if (report->n_failed > 0)
    return some_failed(r, report->n_failed, "could not be embedded, the first because: ",
                       report->first_failure ? report->first_failure : "out of memory", err);
  if (report->n_failed_elsewhere > 0)
    return some_failed(r, report->n_failed_elsewhere,
                       "could not be embedded by the other processes of this run", "", err);
  if (report->n_failed_before > 0)
    return some_failed(r, report->n_failed_before,
                       "failed in an earlier run and were not tried again", "", err);
  return report->n_left > 0 ? some_left(r, err) : VECMILL_OK;
}

/* --- metrics alone, and a look --- */

static void on_backfill(void *context, const progress *p, uint64_t n_batch,
                        const ingest_sums *sums) {
  ingest_progress now = {.progress = p, .now_ns = clock_now_ns(), .n_batch = n_batch, .sums = sums};
  on_progress(context, &now);
}

static vecmill_status run_metrics_only(run *r, vecmill_error *err) {
  const store_operations *operations = r->store->operations;
  backfill_outcome outcome = {0};
  uint64_t n_total = 0;
  vecmill_status status = VECMILL_OK;
  r->event.metrics_only = 1;
  tell_table(r);
  if (!r->options->dry_run) status = operations->metrics_begin(r->store, err);
  if (status == VECMILL_OK) status = operations->metrics_count(r->store, &n_total, err);
  if (status != VECMILL_OK) return status;
  r->counts = (store_counts){.n_left = n_total, .n_rows = n_total, .n_done = n_total};
  tell_counts(r);
  if (r->options->dry_run) return VECMILL_OK;
  backfill_plan plan = {.store = r->store,
                        .list = r->list,
                        .batch = r->batch,
                        .n_total = n_total,
                        .stop = stop_flag(r->options),
                        .on_batch = on_backfill,
                        .context = r};
  status = backfill_run(&plan, &outcome, err);
  r->report->n_measured = outcome.n_written;
  r->report->n_batches = outcome.n_batches;
  r->report->n_left = n_total > outcome.sums.n ? n_total - outcome.sums.n : 0;
  if (status == VECMILL_OK) r->report->n_left = 0;
  r->report->seconds = outcome.seconds;
  r->report->rows_per_s = outcome.seconds > 0 ? (double)outcome.n_written / outcome.seconds : 0;
  if (outcome.n_written > 0) report_averages(r->report, &outcome.sums); /* else others had them */
  return status == VECMILL_OK ? measure_settle(r->store, r->list, stop_flag(r->options),
                                               &r->report->n_frequencies, err)
                              : status;
}

static vecmill_status run_dry(run *r, vecmill_error *err) {
  store_page picked;
  preview_estimate estimate = {0};
  vecmill_status status =
      r->store->operations->preview(r->store, PREVIEW_MAX_ROWS, &r->counts, &picked, err);
  if (status != VECMILL_OK) return status;
  tell_counts(r);
  status = preview_measure(r->maker.provider, r->options->n_workers, r->store, &picked,
                           r->counts.n_left, stop_flag(r->options), &estimate, err);
  r->store->operations->page_free(r->store, &picked);
  r->report->n_sampled = estimate.n_sampled;
  r->report->expected_tokens = (uint64_t)(estimate.n_tokens + 0.5);
  r->report->expected_s = estimate.seconds + preview_rests_s(r->counts.n_left, r->event.n_workers,
                                                             r->batch, r->options->sleep_s);
  return status;
}

/* A run that is shared is done when all its rows are, whoever had them. */
static vecmill_status look_elsewhere(run *r, vecmill_error *err) {
  vecmill_ingest_report *report = r->report;
  uint64_t n = 0, n_known = report->n_failed + report->n_failed_before;
  if (!r->store->operations->count_failed) return VECMILL_OK;
  vecmill_status status = r->store->operations->count_failed(r->store, &n, err);
  report->n_failed_elsewhere = n > n_known ? n - n_known : 0;
  return status;
}

static vecmill_status run_all(run *r, vecmill_error *err) {
  r->event.table = r->options->table;
  r->event.batch = r->batch;
  r->event.n_workers = r->options->n_workers ? r->options->n_workers : thread_n_cpus();
  send(r, VECMILL_INGEST_CONFIGURED);
  vecmill_status status = VECMILL_OK;
  if (r->options->wordlist)
    status = wordlist_open(r->options->wordlist, r->options->wordlist_overrides, &r->list, err);
  if (status == VECMILL_OK) status = open_store(r, err);
  if (status == VECMILL_OK) status = open_metrics(r, err);
  if (status == VECMILL_OK && r->options->metrics_only) return run_metrics_only(r, err);
  if (status == VECMILL_OK)
    status = r->store->operations->record(r->store, &r->record, &r->has_record, err);
  if (status == VECMILL_OK) status = open_model(r, err);
  if (status != VECMILL_OK) return status;
  tell_table(r);
  status = begin(r, err);
  if (status != VECMILL_OK) return status;
  if (r->options->dry_run) return run_dry(r, err);
  tell_counts(r);
  if (stop_asked(r))
    return err_set(err, VECMILL_ERROR_STOPPED, "stopped before the first row (run again to go on)");
  if (r->counts.n_left > 0) status = run_pipeline(r, err);
  if (status == VECMILL_OK && (r->counts.n_left > 0 || r->options->retry_failed))
    status = look_elsewhere(r, err);
  r->report->n_removed = r->store->operations->n_removed(r->store);
  /* a run that was cut off has left this to the next one, though that has nothing to embed */
  if (status == VECMILL_OK && r->metrics_table)
    status =
        measure_settle(r->store, r->list, stop_flag(r->options), &r->report->n_frequencies, err);
  return status == VECMILL_OK ? final_status(r, err) : status;
}

vecmill_status ingest_run(const vecmill_ingest_options *options, vecmill_ingest_report *report_out,
                          vecmill_error *err) {
  *report_out = (vecmill_ingest_report){0};
  vecmill_status status = check_options(options, err);
  if (status == VECMILL_OK) status = check_metrics_only(options, err);
  if (status != VECMILL_OK) return status;
  run r = {.options = options, .report = report_out};
  r.batch = options->batch ? options->batch : VECMILL_INGEST_DEFAULT_BATCH;
  status = run_all(&r, err);
  ingest_maker_fini(&r.maker);
  wordlist_close(&r.list);
  if (r.store) r.store->operations->close(r.store);
  return status;
}
