#include "command.h"
#include "progress.h"

#include <jansson.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static pthread_mutex_t draw_mutex = PTHREAD_MUTEX_INITIALIZER;
static char shown[1024]; /* the bar on the screen; "" when there is none */

bool progress_mode_named(const char *word, progress_mode *mode_out) {
  static const char *const words[] = {"auto", "bar", "lines", "json", "off"};
  for (int i = 0; i < 5; i++)
    if (strcmp(word, words[i]) == 0) {
      *mode_out = (progress_mode)i;
      return true;
    }
  return false;
}

void progress_display_init(progress_display *display, progress_mode mode) {
  const char *term = getenv("TERM");
  bool can_move =
      isatty(STDERR_FILENO) && isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
  setlocale(LC_CTYPE, "");
  display->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
  display->dry_run = display->metrics_only = false;
  display->mode = mode != PROGRESS_AUTO ? mode : can_move ? PROGRESS_BAR : PROGRESS_LINES;
}

/* --- the bar --- */

static unsigned terminal_width(void) {
  struct winsize size;
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

/* "0:07", "12:34", "3:02:01". */
static void format_duration(double seconds, char *out, size_t n_room) {
  unsigned long s = seconds > 0 && seconds < 4e9 ? (unsigned long)(seconds + 0.5) : 0;
  if (s >= 3600) snprintf(out, n_room, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
  else snprintf(out, n_room, "%lu:%02lu", s / 60, s % 60);
}

/* Appends what fits; the line stays terminated. */
static size_t append(char *line, size_t at, size_t n_room, const char *text) {
  size_t n = strlen(text);
  if (at + n + 1 > n_room) return at;
  memcpy(line + at, text, n + 1);
  return at + n;
}

/* `width` columns of bar, eighths of a column where the terminal can show them. */
static size_t append_meter(char *line, size_t at, size_t n_room, double share, unsigned width,
                           bool utf8) {
  static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  unsigned n_eighths = (unsigned)(share * width * 8), full = n_eighths / 8, part = n_eighths % 8;
  if (!utf8) part = 0;
  for (unsigned i = 0; i < width; i++) {
    const char *cell = i < full            ? (utf8 ? "█" : "#")
                       : i == full && part ? eighths[part]
                       : utf8              ? " "
                                           : ".";
    at = append(line, at, n_room, cell);
  }
  return at;
}

size_t progress_format_bar(const vecmill_ingest_event *event, unsigned width, bool utf8,
                           char *line_out, size_t n_room) {
  double share = event->n_total ? (double)event->n_done / (double)event->n_total : 1;
  char head[64], count[64], rates[64], tokens[64], eta[64], time[32];
  snprintf(head, sizeof head, "%3.0f%% ", floor(share * 100));
  snprintf(count, sizeof count, " %llu/%llu", (unsigned long long)event->n_done,
           (unsigned long long)event->n_total);
  snprintf(rates, sizeof rates, "  %.0f rows/s", event->rows_per_s);
  snprintf(tokens, sizeof tokens, "  %.0f tokens/s", event->tokens_per_s);
  format_duration(event->eta_s, time, sizeof time);
  if (event->n_done >= event->n_total)
    format_duration(event->seconds, time, sizeof time), snprintf(eta, sizeof eta, "  %s", time);
  else snprintf(eta, sizeof eta, "  ETA %s", event->eta_s < 0 ? "-:--" : time);

  /* What does not fit goes, the least wanted first; the percentage stays. All of it is ASCII: a
   * byte is a column. */
  const char *parts[] = {count, eta, rates, tokens};
  size_t used = strlen(head), n_parts = 0;
  while (n_parts < 4 && used + strlen(parts[n_parts]) <= width) used += strlen(parts[n_parts++]);
  unsigned meter = width > used + 6 ? (unsigned)(width - used - 2) : 0;
  if (meter > 50) meter = 50;

  line_out[0] = '\0';
  size_t at = append(line_out, 0, n_room, strlen(head) <= width ? head : "");
  if (meter) {
    at = append(line_out, at, n_room, utf8 ? "▕" : "[");
    at = append_meter(line_out, at, n_room, share < 1 ? share : 1, meter, utf8);
    at = append(line_out, at, n_room, utf8 ? "▏" : "]");
  }
  for (size_t i = 0; i < n_parts; i++) at = append(line_out, at, n_room, parts[i]);
  return at;
}

/* The last column stays free: a terminal wraps there. */
static void draw_bar(const progress_display *display, const vecmill_ingest_event *event) {
  unsigned width = terminal_width();
  pthread_mutex_lock(&draw_mutex);
  progress_format_bar(event, width > 1 ? width - 1 : 1, display->utf8, shown, sizeof shown);
  fprintf(stderr, "\r%s\033[K", shown);
  fflush(stderr);
  pthread_mutex_unlock(&draw_mutex);
}

static void end_bar(void) {
  pthread_mutex_lock(&draw_mutex);
  if (shown[0]) fputc('\n', stderr);
  shown[0] = '\0';
  pthread_mutex_unlock(&draw_mutex);
}

void progress_message(const char *text) {
  pthread_mutex_lock(&draw_mutex);
  if (shown[0]) fprintf(stderr, "\r\033[K");
  command_show_error(text);
  if (shown[0]) fprintf(stderr, "%s\033[K", shown);
  fflush(stderr);
  pthread_mutex_unlock(&draw_mutex);
}

/* --- lines --- */

/* "name=0.856", or "name=n/a" where there was nothing to average. */
static void print_average(const char *name, double value, int n_decimals) {
  if (value < 0) printf(" %s=n/a", name);
  else printf(" %s=%.*f", name, n_decimals, value);
}

static void print_averages(double ratio, double words, double length, double entities) {
  print_average("avg_ratio", ratio, 3);
  print_average("avg_wc", words, 1);
  print_average("avg_len", length, 1);
  print_average("avg_ec", entities, 2);
}

/* The form of these lines is what scripts read: it stays. */
static void print_line(const vecmill_ingest_event *event) {
  switch (event->kind) {
    case VECMILL_INGEST_CONFIGURED:
      command_show(stdout, "Configuration: workers=%u, batch_size=%zu, table=%s\n",
                   event->n_workers, event->batch, event->table);
      break;
    case VECMILL_INGEST_MODEL:
      command_show(stdout, "Loading model '%s' on device '%s'...\n", event->model, event->device);
      break;
    case VECMILL_INGEST_TABLE:
      command_show(stdout, "Using table=%s, id_col=%s, text_col=%s, batch_size=%zu\n", event->table,
                   event->id_columns, event->text_column, event->batch);
      break;
    case VECMILL_INGEST_REMAINING:
      command_show(stdout, "Remaining to %s in %s: %llu\n",
                   event->metrics_only ? "measure" : "embed", event->table,
                   (unsigned long long)event->n_total);
      break;
    case VECMILL_INGEST_STARTED:
      printf("Using parallel processing with %u workers\n", event->n_workers);
      break;
    case VECMILL_INGEST_BATCH:
      printf("Processed batch: %llu Progress: %llu / %llu", (unsigned long long)event->n_batch,
             (unsigned long long)event->n_done, (unsigned long long)event->n_total);
      if (event->metrics_table) {
        printf(" |");
        print_averages(event->avg_ratio, event->avg_word_count, event->avg_length,
                       event->avg_entity_count);
      }
      putchar('\n');
      break;
    case VECMILL_INGEST_TICK: return;
  }
  fflush(stdout);
}

/* --- JSON --- */

static void print_json(json_t *object) {
  char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
  if (text) puts(text);
  fflush(stdout);
  free(text);
  json_decref(object);
}

static json_int_t count_of(uint64_t n) {
  return (json_int_t)n;
}

static json_t *average(double value) {
  return value < 0 ? json_null() : json_real(value);
}

static void add_averages(json_t *object, double ratio, double words, double length,
                         double entities) {
  json_t *more = json_pack("{s:o, s:o, s:o, s:o}", "avg_ratio", average(ratio), "avg_wc",
                           average(words), "avg_len", average(length), "avg_ec", average(entities));
  if (object && more) json_object_update(object, more);
  json_decref(more);
}

static json_t *json_of_progress(const vecmill_ingest_event *event) {
  bool batch = event->kind == VECMILL_INGEST_BATCH;
  json_t *object =
      json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "event",
                batch ? "batch" : "progress", "batch", count_of(batch ? event->n_batch : 0), "done",
                count_of(event->n_done), "total", count_of(event->n_total), "failed",
                count_of(event->n_failed), "in_flight", count_of(event->n_in_flight), "tokens",
                count_of(event->n_tokens), "seconds", event->seconds, "rows_per_s",
                event->rows_per_s, "tokens_per_s", event->tokens_per_s, "eta_s", event->eta_s);
  if (batch && event->metrics_table)
    add_averages(object, event->avg_ratio, event->avg_word_count, event->avg_length,
                 event->avg_entity_count);
  return object;
}

static json_t *json_of_event(const vecmill_ingest_event *event) {
  switch (event->kind) {
    case VECMILL_INGEST_CONFIGURED:
      return json_pack("{s:s, s:i, s:I, s:s}", "event", "configuration", "workers",
                       (int)event->n_workers, "batch_size", count_of(event->batch), "table",
                       event->table);
    case VECMILL_INGEST_MODEL:
      return json_pack("{s:s, s:s, s:s, s:s}", "event", "model", "model", event->model, "device",
                       event->device, "reason", event->model_reason);
    case VECMILL_INGEST_TABLE:
      return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s*}", "event", "table", "table", event->table,
                       "id_column", event->id_columns, "text_column", event->text_column,
                       "vector_column", event->vector_column, "metrics_table",
                       event->metrics_table);
    case VECMILL_INGEST_REMAINING:
      return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "event", "remaining", "remaining",
                       count_of(event->n_total), "rows", count_of(event->n_rows), "had_vector",
                       count_of(event->n_had_vector), "blank", count_of(event->n_blank),
                       "failed_before", count_of(event->n_failed_before), "null_keys",
                       count_of(event->n_null_keys));
    case VECMILL_INGEST_STARTED:
      return json_pack("{s:s, s:i}", "event", "started", "workers", (int)event->n_workers);
    default: return json_of_progress(event);
  }
}

static json_t *json_of_report(const progress_display *display, const vecmill_ingest_report *report,
                              vecmill_status status) {
  json_t *busy = json_array();
  for (unsigned i = 0; i < report->n_workers; i++)
    json_array_append_new(busy, json_real(report->worker_busy[i]));
  json_t *object =
      json_pack("{s:s, s:s, s:s*, s:s*, s:s*, s:I, s:I, s:I, s:I, s:I, s:I}", "event", "summary",
                "status", vecmill_status_name(status), "model", report->model, "table",
                report->table, "vector_column", report->vector_column, "rows",
                count_of(report->n_rows), "had_vector", count_of(report->n_had_vector), "written",
                count_of(report->n_written), "failed", count_of(report->n_failed), "failed_before",
                count_of(report->n_failed_before), "blank", count_of(report->n_blank));
  json_t *edited =
      json_pack("{s:I, s:I, s:I, s:I}", "failed_elsewhere", count_of(report->n_failed_elsewhere),
                "outdated", count_of(report->n_outdated), "removed", count_of(report->n_removed),
                "unknown", count_of(report->n_unknown));
  json_t *more = json_pack(
      "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:f, s:f, s:f, s:o, s:f, s:f, s:f, s:s}",
      "null_keys", count_of(report->n_null_keys), "truncated", count_of(report->n_truncated),
      "repaired", count_of(report->n_repaired), "changed", count_of(report->n_changed),
      "taken_over", count_of(report->n_taken_over), "left", count_of(report->n_left), "tokens",
      count_of(report->n_tokens), "batches", count_of(report->n_batches), "passes",
      (int)report->n_passes, "seconds", report->seconds, "rows_per_s", report->rows_per_s,
      "tokens_per_s", report->tokens_per_s, "worker_busy", busy, "reader_busy", report->reader_busy,
      "embed_busy", report->embed_busy, "writer_busy", report->writer_busy, "limited_by",
      vecmill_ingest_stage_name(report->limited_by));
  if (object && edited) json_object_update(object, edited);
  if (object && more) json_object_update(object, more);
  json_decref(edited);
  json_decref(more);
  if (object && report->metrics_table) {
    json_object_set_new(object, "metrics_table", json_string(report->metrics_table));
    json_object_set_new(object, "measured", json_integer(count_of(report->n_measured)));
    json_object_set_new(object, "frequencies", json_integer(count_of(report->n_frequencies)));
    add_averages(object, report->avg_ratio, report->avg_word_count, report->avg_length,
                 report->avg_entity_count);
  }
  if (object && display->dry_run) {
    json_object_set_new(object, "dry_run", json_true());
    json_object_set_new(object, "remaining", json_integer(count_of(report->n_left)));
    json_object_set_new(object, "sampled", json_integer(count_of(report->n_sampled)));
    json_object_set_new(object, "expected_tokens", json_integer(count_of(report->expected_tokens)));
    json_object_set_new(object, "expected_s", json_real(report->expected_s));
  }
  return object;
}

/* --- all modes --- */

void progress_event(void *context, const vecmill_ingest_event *event) {
  progress_display *display = context;
  bool moves = event->kind == VECMILL_INGEST_BATCH || event->kind == VECMILL_INGEST_TICK;
  if (display->mode == PROGRESS_JSON) print_json(json_of_event(event));
  else if (display->mode == PROGRESS_BAR && moves) draw_bar(display, event);
  else if (display->mode == PROGRESS_BAR || display->mode == PROGRESS_LINES) print_line(event);
}

static void print_metrics(const vecmill_ingest_report *report) {
  if (!report->metrics_table) return;
  command_show(stdout, "Metrics in %s:", report->metrics_table);
  print_averages(report->avg_ratio, report->avg_word_count, report->avg_length,
                 report->avg_entity_count);
  printf("; %llu frequencies written\n", (unsigned long long)report->n_frequencies);
}

static void print_dry(const progress_display *display, const vecmill_ingest_report *report) {
  unsigned long long n_left = report->n_left;
  printf("Dry run: nothing was written. %llu rows to %s", n_left,
         display->metrics_only ? "measure" : "embed");
  if (report->n_sampled > 0) {
    char time[32];
    format_duration(report->expected_s, time, sizeof time);
    printf(", %s%llu tokens, about %.1f s (%s), by %llu rows embedded on trial",
           report->n_sampled < report->n_left ? "about " : "",
           (unsigned long long)report->expected_tokens, report->expected_s, time,
           (unsigned long long)report->n_sampled);
  }
  putchar('\n');
}

static void print_counts(const vecmill_ingest_report *report) {
  const struct {
    uint64_t n;
    const char *what;
  } counts[] = {
      {report->n_failed, "failed"},
      {report->n_failed_elsewhere, "failed in other processes"},
      {report->n_failed_before, "failed in an earlier run, not retried"},
      {report->n_blank, "blank"},
      {report->n_outdated, "edited since their vector was made"},
      {report->n_removed, "blank now, vector removed"},
      {report->n_unknown, "with a vector of unknown text, taken as unchanged"},
      {report->n_null_keys, "with a NULL in the key, passed over"},
      {report->n_truncated, "truncated"},
      {report->n_repaired, "with ill-formed UTF-8, repaired"},
      {report->n_changed, "changed while being embedded"},
      {report->n_taken_over, "given up: their lease ran out, and they were taken over"},
      {report->n_left, "left"},
  };
  bool first = true;
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    if (counts[i].n == 0) continue;
    printf("%s%llu %s", first ? "Rows: " : ", ", (unsigned long long)counts[i].n, counts[i].what);
    first = false;
  }
  if (!first) putchar('\n');
}

static void print_workers(const vecmill_ingest_report *report) {
  printf("Workers busy:");
  for (unsigned i = 0; i < report->n_workers; i++) printf(" %.0f%%", 100 * report->worker_busy[i]);
  printf("; limited by: %s (reader %.0f%%, embed %.0f%%, writer %.0f%% busy)\n",
         vecmill_ingest_stage_name(report->limited_by), 100 * report->reader_busy,
         100 * report->embed_busy, 100 * report->writer_busy);
}

static void print_measured(const vecmill_ingest_report *report) {
  command_show(stdout, "Measured %llu rows of %s into %s: %.1f s, %.0f rows/s\n",
               (unsigned long long)report->n_measured, report->table, report->metrics_table,
               report->seconds, report->rows_per_s);
  print_metrics(report);
}

static void print_summary(const progress_display *display, const vecmill_ingest_report *report,
                          vecmill_status status) {
  if (!report->table) return;
  unsigned long long n_written = report->n_written;
  bool is_done = status == VECMILL_OK || status == VECMILL_ERROR_PARTIAL;
  if (display->dry_run) {
    if (is_done) print_dry(display, report);
    return;
  }
  if (display->metrics_only) {
    if (is_done || report->n_batches > 0) print_measured(report);
    return;
  }
  if (report->n_workers == 0 && !is_done) return; /* refused before it began: stderr says why */
  if (report->n_workers == 0 && is_done) { /* the count found nothing: no worker was started */
    command_show(stdout, "Nothing to embed: %llu of %llu rows of %s have a vector already\n",
                 (unsigned long long)report->n_had_vector, (unsigned long long)report->n_rows,
                 report->table);
    print_counts(report);
    if (report->n_frequencies > 0) print_metrics(report);
    return;
  }
  command_show(stdout,
               "Embedded %llu rows of %s into %s with %s: %llu tokens in %.1f s, %.0f rows/s, %.0f "
               "tokens/s\n",
               n_written, report->table, report->vector_column, report->model ? report->model : "?",
               (unsigned long long)report->n_tokens, report->seconds, report->rows_per_s,
               report->tokens_per_s);
  print_counts(report);
  print_metrics(report);
  if (report->n_workers > 0) print_workers(report);
}

void progress_summary(progress_display *display, const vecmill_ingest_report *report,
                      vecmill_status status) {
  end_bar();
  if (display->mode == PROGRESS_JSON) print_json(json_of_report(display, report, status));
  else if (display->mode != PROGRESS_OFF) print_summary(display, report, status);
  fflush(stdout);
}
