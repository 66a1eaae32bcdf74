/* vecmill ingest TABLE [BATCH] [--db DB]: a vector beside every row. */
#include <vecmill/ingest.h>

#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <vecmill/log.h>

#include "command.h"
#include "progress.h"

static const char usage[] =
    "Usage: vecmill ingest TABLE [BATCH] [--db DB] [options]\n"
    "Embeds every row of TABLE that has a text and no vector yet. BATCH rows (default "
    "EMBED_BATCH_SIZE, else 100) are committed together.\n"
    "\n"
    "  --db DB              an SQLite file, postgresql://.. or \"host=.. dbname=..\"; without it\n"
    "                       PG_HOST, PGHOST and so on say which PostgreSQL\n"
    "  --schema S           PostgreSQL: of the table (or say S.TABLE)\n"
    "  --state-schema S     PostgreSQL: where vecmill keeps its state, default vecmill\n"
    "  --lease SECONDS      PostgreSQL: how long a silent process keeps its rows, default 60\n"
    "  --connections N      PostgreSQL: at most, default 4; more commit side by side\n"
    "  --model NAME|DIR     default: EMBED_MODEL, else what made the column, else the default "
    "model\n"
    "  --workers N|auto     default: EMBED_WORKERS, else auto: one a processor that this process "
    "may "
    "use\n"
    "  --device D           auto or cpu; default: EMBED_DEVICE, else auto\n"
    "  --sleep S            seconds that a worker rests after each BATCH rows that it embedded;\n"
    "                       default: EMBED_SLEEP, else 0\n"
    "  --id-column C        default: the primary key; A,B for a composite one\n"
    "  --text-column C      default: found by its name, else the only text column\n"
    "  --vector-column C    default: embedding, in PostgreSQL else the only column of vectors; "
    "added if "
    "missing\n"
    "  --where SQL          only rows that meet a condition\n"
    "  --limit N            only the first N rows in key order, embedded or not\n"
    "  --prefix STR         put before every text, as it is; default: EMBED_PREFIX, else what made "
    "the column,\n"
    "                       else the model's own\n"
    "  --progress MODE      auto, bar, lines, json or off\n"
    "  --wordlist FILE      words of a language, one a line, for hawaiian_word_ratio "
    "(docs/metrics.md)\n"
    "  --wordlist-overrides FILE  JSON beside it: words to take off the list or to put there\n"
    "  --metrics-table T    where metrics of the texts go; default: sentence_metrics for "
    "sentences,\n"
    "                       document_metrics for documents and contents, else TABLE_metrics, if it "
    "is "
    "there\n"
    "  --create-metrics     make that table if it is missing\n"
    "  --metrics-only       embed nothing: metrics for rows that have a vector and lack them; not\n"
    "                       with --changed, --retry-failed, --prefix\n"
    "  --dry-run            write nothing: tell how many rows and tokens, and how long it would "
    "take\n"
    "  --retry-failed       also try rows again that failed in an earlier run\n"
    "  --changed            also rows whose text is no longer the one that their vector was made "
    "from\n"
    "  --help, -h           this\n";

enum {
  OPTION_DB = 1,
  OPTION_SCHEMA,
  OPTION_STATE,
  OPTION_LEASE,
  OPTION_CONNECTIONS,
  OPTION_MODEL,
  OPTION_WORKERS,
  OPTION_DEVICE,
  OPTION_SLEEP,
  OPTION_ID,
  OPTION_TEXT,
  OPTION_VECTOR,
  OPTION_WHERE,
  OPTION_LIMIT,
  OPTION_PREFIX,
  OPTION_PROGRESS,
  OPTION_RETRY,
  OPTION_CHANGED,
  OPTION_WORDLIST,
  OPTION_OVERRIDES,
  OPTION_METRICS_TABLE,
  OPTION_CREATE_METRICS,
  OPTION_METRICS_ONLY,
  OPTION_DRY_RUN,
  OPTION_HELP
};

static const struct option long_options[] = {
    {"db", required_argument, NULL, OPTION_DB},
    {"schema", required_argument, NULL, OPTION_SCHEMA},
    {"state-schema", required_argument, NULL, OPTION_STATE},
    {"lease", required_argument, NULL, OPTION_LEASE},
    {"connections", required_argument, NULL, OPTION_CONNECTIONS},
    {"model", required_argument, NULL, OPTION_MODEL},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"device", required_argument, NULL, OPTION_DEVICE},
    {"sleep", required_argument, NULL, OPTION_SLEEP},
    {"id-column", required_argument, NULL, OPTION_ID},
    {"text-column", required_argument, NULL, OPTION_TEXT},
    {"vector-column", required_argument, NULL, OPTION_VECTOR},
    {"where", required_argument, NULL, OPTION_WHERE},
    {"limit", required_argument, NULL, OPTION_LIMIT},
    {"prefix", required_argument, NULL, OPTION_PREFIX},
    {"progress", required_argument, NULL, OPTION_PROGRESS},
    {"retry-failed", no_argument, NULL, OPTION_RETRY},
    {"changed", no_argument, NULL, OPTION_CHANGED},
    {"wordlist", required_argument, NULL, OPTION_WORDLIST},
    {"wordlist-overrides", required_argument, NULL, OPTION_OVERRIDES},
    {"metrics-table", required_argument, NULL, OPTION_METRICS_TABLE},
    {"create-metrics", no_argument, NULL, OPTION_CREATE_METRICS},
    {"metrics-only", no_argument, NULL, OPTION_METRICS_ONLY},
    {"dry-run", no_argument, NULL, OPTION_DRY_RUN},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

static vecmill_ingest_control control;
static volatile sig_atomic_t stopped_by;

/* The first signal ends the run in good order; the second one, once more of the same kind, ends the
 * process. */
static void on_signal(int number) {
  stopped_by = number;
  vecmill_ingest_stop(&control);
}

static void catch_signals(void) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  signal(SIGPIPE, SIG_IGN); /* who read the progress has gone: the work goes on */
}

static void on_log(void *context, vecmill_log_level level, const char *text) {
  (void)context;
  if (level <= VECMILL_LOG_NOTE) progress_message(text);
}

/* One option into the struct; COMMAND_GO_ON or an exit status. */
static int take_option(int option, vecmill_ingest_options *options, command_words *words,
                       progress_mode *mode) {
  uint64_t number = 0;
  switch (option) {
    case OPTION_DB: options->database = command_database(optarg); break;
    case OPTION_MODEL: options->model = optarg; break;
    case OPTION_ID: options->id_column = optarg; break;
    case OPTION_TEXT: options->text_column = optarg; break;
    case OPTION_VECTOR: options->vector_column = optarg; break;
    case OPTION_WHERE: options->where = optarg; break;
    case OPTION_PREFIX: options->prefix = optarg; break;
    case OPTION_RETRY: options->retry_failed = 1; break;
    case OPTION_CHANGED: options->changed = 1; break;
    case OPTION_WORDLIST: options->wordlist = optarg; break;
    case OPTION_OVERRIDES: options->wordlist_overrides = optarg; break;
    case OPTION_METRICS_TABLE: options->metrics_table = optarg; break;
    case OPTION_CREATE_METRICS: options->create_metrics = 1; break;
    case OPTION_METRICS_ONLY: options->metrics_only = 1; break;
    case OPTION_DRY_RUN: options->dry_run = 1; break;
    case OPTION_WORKERS: words->workers = optarg; break;
    case OPTION_DEVICE: words->device = optarg; break;
    case OPTION_SLEEP: words->sleep = optarg; break;
    case OPTION_SCHEMA: options->schema = optarg; break;
    case OPTION_STATE: options->state_schema = optarg; break;
    case OPTION_LEASE:
      if (!command_number(optarg, 1, 86400, &number))
        return command_usage_error("--lease %s: not a number of seconds (1 to 86400)", optarg);
      options->lease_seconds = (unsigned)number;
      break;
    case OPTION_CONNECTIONS:
      if (!command_number(optarg, 1, 1000, &number))
        return command_usage_error("--connections %s: not a number of connections (1 to 1000)",
                                   optarg);
      options->n_connections = (unsigned)number;
      break;
    case OPTION_LIMIT:
      if (!command_number(optarg, 1, INT64_MAX, &number))
        return command_usage_error("--limit %s: not a number of rows (1 or more)", optarg);
      options->limit = number;
      break;
    case OPTION_PROGRESS:
      if (!progress_mode_named(optarg, mode))
        return command_usage_error("--progress %s: unknown (auto, bar, lines, json or off)",
                                   optarg);
      break;
    case OPTION_HELP: return command_help(usage);
    default: return command_usage_error(NULL, NULL);
  }
  return COMMAND_GO_ON;
}

/* Every setting that a run wants, checked before anything is opened. */
static int take_settings(const command_words *words, vecmill_ingest_options *options,
                         vecmill_config **config_out) {
  vecmill_error error = {0};
  const char *device;
  int exit_status = command_config(words, config_out);
  if (exit_status != COMMAND_GO_ON) return exit_status;
  options->config = *config_out;
  vecmill_status status = vecmill_config_workers(*config_out, &options->n_workers, &error);
  if (status == VECMILL_OK) status = vecmill_config_batch(*config_out, &options->batch, &error);
  if (status == VECMILL_OK) status = vecmill_config_sleep(*config_out, &options->sleep_s, &error);
  if (status == VECMILL_OK) status = vecmill_config_device(*config_out, &device, &error);
  if (status == VECMILL_OK) return COMMAND_GO_ON;
  vecmill_config_close(config_out);
  return command_told(status, &error);
}

static int take_arguments(int argc, char **argv, vecmill_ingest_options *options,
                          command_words *words, progress_mode *mode) {
  int option;
  while ((option = command_next_option(argc, argv, "", long_options)) != -1) {
    int status = take_option(option, options, words, mode);
    if (status != COMMAND_GO_ON) return status;
  }
  if (optind < argc) options->table = argv[optind++];
  if (optind < argc) words->batch = argv[optind++];
  if (optind < argc)
    return command_usage_error("%s: one argument too many (vecmill ingest TABLE [BATCH] [--db DB])",
                               argv[optind]);
  if (!options->table)
    return command_usage_error("ingest: no table named (vecmill ingest TABLE [--db DB])", NULL);
  return COMMAND_GO_ON;
}

int command_ingest(int argc, char **argv) {
  progress_display display;
  progress_mode mode = PROGRESS_AUTO;
  command_words words = {0};
  vecmill_config *config = NULL;
  vecmill_ingest_options options = {
      .control = &control, .on_event = progress_event, .event_context = &display};
  int exit_status = take_arguments(argc, argv, &options, &words, &mode);
  if (exit_status == COMMAND_GO_ON) exit_status = take_settings(&words, &options, &config);
  if (exit_status != COMMAND_GO_ON) return exit_status;

  progress_display_init(&display, mode);
  display.dry_run = options.dry_run;
  display.metrics_only = options.metrics_only;
  vecmill_log_set_handler(on_log, NULL);
  catch_signals();
  vecmill_ingest_report report;
  vecmill_error error = {0};
  vecmill_status status = vecmill_ingest_run(&options, &report, &error);
  progress_summary(&display, &report, status);
  vecmill_log_set_handler(NULL, NULL);
  vecmill_ingest_report_fini(&report);
  vecmill_config_close(&config);
  if (status != VECMILL_OK) progress_message(error.text);
  /* A lock that was still held when the signal came is the signal's end too. */
  if (stopped_by && (status == VECMILL_ERROR_STOPPED || status == VECMILL_ERROR_BUSY))
    return 128 + stopped_by;
  return command_exit_status(status);
}
