/*
 * vecmill bench: how fast this machine embeds, as a share of what its registers can do.
 *
 * A speed alone says little on a shared machine. Each turn measures the
 * register peak, the matrix microkernel on data in L1 and the work itself, on
 * as many threads; the share is the median of the turns' ratios. A turn whose
 * peak is under 85 % of the quiet peak was disturbed: it is left out and counted.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <vecmill/embed.h>
#include <vecmill/system.h>

#include "command.h"
#include "corpus.h"

#define N_TURNS 9
#define MAX_TURNS 27   /* disturbed ones included */
#define TURN_SECONDS 2 /* of work */
#define MAX_TURN_SECONDS 60
#define SHORTEST_TURN_SECONDS 0.01
#define PEAK_SHARE 0.125 /* of a turn's work, for each measure beside it */
#define MIN_QUIET 0.85

static const char usage[] =
    "Usage: vecmill bench embed [--input FILE] [--workers N|auto] [--model NAME|DIR] "
    "[--seconds N] [--json]\n"
    "       vecmill bench kernels [--workers N|auto] [--seconds N] [--json]\n"
    "Rates beside the register peak and the matrix microkernel, measured in turns on as many "
    "threads.\n"
    "\n"
    "  --input FILE         texts: {\"text\": ...} a line if it ends in .jsonl, else a text a "
    "line;\n"
    "                       default: made-up words, the same ones always\n"
    "  --workers N|auto     default auto: one a processor that this process may use\n"
    "  --model NAME|DIR     default: EMBED_MODEL, else the default model\n"
    "  --seconds N          of work a turn, at least nine turns; default 2; 0: as short as can be\n"
    "  --json               one object a line for each result\n"
    "  --help, -h           this\n";

enum { OPTION_MODEL = 1, OPTION_WORKERS, OPTION_INPUT, OPTION_SECONDS, OPTION_JSON, OPTION_HELP };

static const struct option long_options[] = {
    {"model", required_argument, NULL, OPTION_MODEL},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"input", required_argument, NULL, OPTION_INPUT},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"json", no_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

typedef struct arguments {
  command_words words;
  const char *input;
  unsigned n_workers;
  double seconds;
  bool is_json;
} arguments;

/* The turns of one result; rates in operations a second. */
typedef struct turns {
  double peak[MAX_TURNS], microkernel[MAX_TURNS], rate[MAX_TURNS];
  size_t n;
  double seconds; /* of work in each */
} turns;

typedef struct summary {
  double share, share_low, share_high, of_microkernel, rate, peak, quiet_peak;
  size_t n_kept, n_discarded;
} summary;

static double now_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, size_t n) {
  qsort(values, n, sizeof *values, by_value);
  return n == 0 ? 0 : n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/*
 * What one core's registers do while the host is quiet, fp32, operations a second: measured on Zen
 * 3, 4 and 5 (AMD family and model numbers of their Processor Programming References). Zen 4 runs
 * 512 bits as two halves, Zen 5 at once. 0: unknown, the best turn counts.
 */
static double known_quiet_peak(void) {
  int family = 0, model = 0;
  char line[256];
  vecmill_system system;
  vecmill_system_get(&system);
  bool is_avx512 = strcmp(system.kernels, "avx512") == 0;
  if (!is_avx512 && strcmp(system.kernels, "avx2") != 0) return 0;
  FILE *file = fopen("/proc/cpuinfo", "re");
  if (!file) return 0;
  while (fgets(line, sizeof line, file) && !(family && model))
    if (sscanf(line, "cpu family : %d", &family) != 1) sscanf(line, "model : %d", &model);
  fclose(file);
  if (family == 26) return is_avx512 ? 251e9 : 125.5e9;
  if (family != 25) return 0;
  bool is_zen4 = (model >= 0x10 && model <= 0x1F) || (model >= 0x60 && model <= 0xAF);
  return is_zen4 ? 117e9 : 98e9;
}

static double quiet_peak(const turns *t, unsigned n_workers) {
  double quiet = known_quiet_peak() * n_workers;
  for (size_t i = 0; quiet == 0 && i < t->n; i++)
    if (t->peak[i] > quiet) quiet = t->peak[i];
  return quiet;
}

static size_t n_quiet(const turns *t, unsigned n_workers) {
  double quiet = quiet_peak(t, n_workers);
  size_t n = 0;
  for (size_t i = 0; i < t->n; i++) n += t->peak[i] >= MIN_QUIET * quiet;
  return n;
}

static summary summarise(const turns *t, unsigned n_workers) {
  double shares[MAX_TURNS], of_micro[MAX_TURNS], rates[MAX_TURNS], peaks[MAX_TURNS];
  summary s = {.quiet_peak = quiet_peak(t, n_workers)};
  size_t n = 0;
  for (size_t i = 0; i < t->n; i++) {
    if (t->peak[i] < MIN_QUIET * s.quiet_peak) continue;
    shares[n] = t->rate[i] / t->peak[i];
    of_micro[n] = t->microkernel[i] > 0 ? t->rate[i] / t->microkernel[i] : 0;
    rates[n] = t->rate[i];
    peaks[n++] = t->peak[i];
  }
  s.n_kept = n;
  s.n_discarded = t->n - n;
  s.share = median(shares, n);
  s.share_low = n ? shares[0] : 0;
  s.share_high = n ? shares[n - 1] : 0;
  s.of_microkernel = median(of_micro, n);
  s.rate = median(rates, n);
  s.peak = median(peaks, n);
  return s;
}

static vecmill_status measure(const turns *t, const char *kernel, unsigned n_workers,
                              double *rate_out, vecmill_error *error) {
  vecmill_system_speed speed;
  vecmill_status status =
      vecmill_system_measure(kernel, n_workers, t->seconds * PEAK_SHARE, &speed, error);
  *rate_out = status == VECMILL_OK ? speed.operations_per_second : 0;
  return status;
}

/* The peak is what the turn's two neighbours say: before the work and after it. */
static vecmill_status measure_around(turns *t, unsigned n_workers, double before,
                                     vecmill_error *error) {
  double after;
  vecmill_status status = measure(t, "peak_fma_f32", n_workers, &after, error);
  t->peak[t->n++] = (before + after) / 2;
  return status;
}

static void print_summary(const char *name, unsigned n_workers, const summary *s,
                          const char *more_json, const char *more_text, bool is_json) {
  if (is_json) {
    vecmill_system system;
    vecmill_system_get(&system);
    printf("{\"name\": \"%s\", \"workers\": %u, \"kernels\": \"%s\", \"value\": %.4g, \"unit\": "
           "\"op/s\", \"peak\": %.4g, \"share\": %.4f, "
           "\"share_low\": %.4f, \"share_high\": %.4f, \"share_of_microkernel\": %.4f, "
           "\"quiet_peak\": %.4g, \"pairs\": %zu, "
           "\"discarded\": %zu%s}\n",
           name, n_workers, system.kernels, s->rate, s->peak, s->share, s->share_low, s->share_high,
           s->of_microkernel, s->quiet_peak, s->n_kept, s->n_discarded, more_json);
  } else {
    printf("%-28s %u workers  %6.1f of %6.1f Gop/s: %4.1f %% of the register peak (%.1f to %.1f, "
           "%zu pairs, %zu discarded), "
           "%4.1f %% of the microkernel%s\n",
           name, n_workers, s->rate / 1e9, s->peak / 1e9, 100 * s->share, 100 * s->share_low,
           100 * s->share_high, s->n_kept, s->n_discarded, 100 * s->of_microkernel, more_text);
  }
  fflush(stdout);
}

/* --- embed --- */

/* Embeds the next n texts, going round; what it did and how long it took. */
static vecmill_status embed_some(vecmill_embedder *embedder, corpus *c, size_t n,
                                 vecmill_embedder_stats *did, double *seconds,
                                 vecmill_error *error) {
  vecmill_embedder_stats before, after;
  if (n > c->n) n = c->n;
  if (c->next + n > c->n) c->next = 0;
  vecmill_embedder_get_stats(embedder, &before);
  double start = now_seconds();
  vecmill_status status = vecmill_embedder_embed(embedder, c->texts + c->next, n, error);
  *seconds = now_seconds() - start;
  vecmill_embedder_get_stats(embedder, &after);
  c->next += n;
  *did = (vecmill_embedder_stats){.n_texts = after.n_texts - before.n_texts,
                                  .n_tokens = after.n_tokens - before.n_tokens,
                                  .n_operations = after.n_operations - before.n_operations};
  return status;
}

static vecmill_status embed_turns(vecmill_embedder *embedder, corpus *c, turns *t, double *tokens,
                                  double *texts, double *seconds, vecmill_error *error) {
  unsigned n_workers = vecmill_embedder_n_workers(embedder);
  vecmill_embedder_stats did;
  double took = 0, before = 0;
  size_t n = 64 * n_workers;
  vecmill_status status =
      embed_some(embedder, c, n, &did, &took, error); /* warms up, and tells how many fill a turn */
  if (status == VECMILL_OK && took > 0) n = (size_t)((double)did.n_texts * t->seconds / took) + 1;
  while (status == VECMILL_OK && t->n < MAX_TURNS && n_quiet(t, n_workers) < N_TURNS) {
    status = measure(t, "peak_fma_f32", n_workers, &before, error);
    if (status == VECMILL_OK)
      status = measure(t, "microkernel_f32", n_workers, &t->microkernel[t->n], error);
    if (status == VECMILL_OK) status = embed_some(embedder, c, n, &did, &took, error);
    if (status != VECMILL_OK) break;
    t->rate[t->n] = did.n_operations / took;
    *tokens += (double)did.n_tokens;
    *texts += (double)did.n_texts;
    *seconds += took;
    status = measure_around(t, n_workers, before, error);
  }
  return status;
}

static const char *result_name(const char *input) {
  if (!input) return "embed_f32_generated";
  const char *slash = strrchr(input, '/'), *name = slash ? slash + 1 : input;
  if (strstr(name, "long")) return "embed_f32_long";
  return strstr(name, "short") ? "embed_f32_short" : "embed_f32";
}

static vecmill_status bench_embed(const arguments *a, const vecmill_config *settings,
                                  vecmill_error *error) {
  vecmill_model *model = NULL;
  vecmill_embedder *embedder = NULL;
  vecmill_embedder_options options = {.n_workers = a->n_workers};
  corpus c = {0};
  turns t = {.seconds = a->seconds};
  double tokens = 0, texts = 0, seconds = 0;
  vecmill_status status = command_open_model(settings, &model, error);
  size_t dimension = status == VECMILL_OK ? vecmill_model_get_info(model)->dimension : 0;
  if (status == VECMILL_OK)
    status = a->input ? corpus_read(&c, a->input, dimension, error)
                      : corpus_generate(&c, dimension, error);
  if (status == VECMILL_OK) status = vecmill_embedder_open(model, &options, &embedder, error);
  if (status == VECMILL_OK)
    status = embed_turns(embedder, &c, &t, &tokens, &texts, &seconds, error);
  if (status == VECMILL_OK) {
    char more_json[160], more_text[120];
    unsigned n_workers = vecmill_embedder_n_workers(embedder);
    summary s = summarise(&t, n_workers);
    snprintf(more_json, sizeof more_json,
             ", \"texts_per_second\": %.1f, \"tokens_per_second\": %.1f, \"tokens_per_text\": %.1f",
             texts / seconds, tokens / seconds, tokens / texts);
    snprintf(more_text, sizeof more_text, "; %.0f texts/s, %.0f tokens/s, %.1f tokens a text",
             texts / seconds, tokens / seconds, tokens / texts);
    print_summary(result_name(a->input), n_workers, &s, more_json, more_text, a->is_json);
  }
  vecmill_embedder_close(&embedder);
  vecmill_model_close(&model);
  corpus_fini(&c);
  return status;
}

/* --- kernels --- */

static vecmill_status kernel_turns(const char *kernel, unsigned n_workers, turns *t,
                                   vecmill_error *error) {
  vecmill_status status = VECMILL_OK;
  double before = 0;
  while (status == VECMILL_OK && t->n < MAX_TURNS && n_quiet(t, n_workers) < N_TURNS) {
    status = measure(t, "peak_fma_f32", n_workers, &before, error);
    if (status == VECMILL_OK)
      status = measure(t, "microkernel_f32", n_workers, &t->microkernel[t->n], error);
    if (status == VECMILL_OK) status = measure(t, kernel, n_workers, &t->rate[t->n], error);
    if (status == VECMILL_OK) status = measure_around(t, n_workers, before, error);
  }
  return status;
}

static vecmill_status bench_kernels(const arguments *a, vecmill_error *error) {
  vecmill_system system;
  vecmill_system_get(&system);
  unsigned n_workers = a->n_workers ? a->n_workers : system.n_cpus;
  vecmill_status status = VECMILL_OK;
  for (size_t i = 0; status == VECMILL_OK && vecmill_system_kernel(i, NULL); i++) {
    turns t = {.seconds = a->seconds};
    status = kernel_turns(vecmill_system_kernel(i, NULL), n_workers, &t, error);
    if (status != VECMILL_OK) break;
    summary s = summarise(&t, n_workers);
    print_summary(vecmill_system_kernel(i, NULL), n_workers, &s, "", "", a->is_json);
  }
  return status;
}

static int take_option(int option, arguments *a) {
  uint64_t n = 0;
  switch (option) {
    case OPTION_MODEL: a->words.model = optarg; break;
    case OPTION_INPUT: a->input = optarg; break;
    case OPTION_SECONDS:
      if (!command_number(optarg, 0, MAX_TURN_SECONDS, &n))
        return command_usage_error("--seconds %s: not a number of seconds (0 to 60)", optarg);
      a->seconds = n > 0 ? (double)n : SHORTEST_TURN_SECONDS;
      break;
    case OPTION_JSON: a->is_json = true; break;
    case OPTION_WORKERS:
      if (strcmp(optarg, "auto") == 0) break;
      if (!command_number(optarg, 1, 1024, &n))
        return command_usage_error("--workers %s: not a number of workers (1 to 1024, or auto)",
                                   optarg);
      a->n_workers = (unsigned)n;
      break;
    case OPTION_HELP: return command_help(usage);
    default: return COMMAND_EXIT_USAGE;
  }
  return COMMAND_GO_ON;
}

int command_bench(int argc, char **argv) {
  arguments a = {.seconds = TURN_SECONDS};
  for (int option; (option = command_next_option(argc, argv, "", long_options)) != -1;) {
    int exit_status = take_option(option, &a);
    if (exit_status != COMMAND_GO_ON) return exit_status;
  }
  const char *what = optind < argc ? argv[optind++] : "";
  if (optind < argc) return command_usage_error("%s: one argument too many", argv[optind]);
  bool is_embed = strcmp(what, "embed") == 0;
  if (!is_embed && strcmp(what, "kernels") != 0)
    return command_usage_error("bench %s: unknown (embed or kernels)", what);
  if (!is_embed && (a.input || a.words.model))
    return command_usage_error("bench kernels: takes no %s", a.input ? "--input" : "--model");
  vecmill_config *settings = NULL;
  int exit_status = command_config(&a.words, &settings);
  if (exit_status != COMMAND_GO_ON) return exit_status;
  vecmill_error error = {0};
  vecmill_status status = is_embed ? bench_embed(&a, settings, &error) : bench_kernels(&a, &error);
  vecmill_config_close(&settings);
  return command_told(status, &error);
}
