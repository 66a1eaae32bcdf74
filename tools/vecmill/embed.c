/*
 * vecmill embed: a vector for every record of a file, in order.
 *
 * Records go to the workers in blocks; a ring of blocks is under way at once,
 * and the oldest is written as soon as it is done, so memory does not grow with the file.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vecmill/embed.h>

#include "command.h"
#include "output.h"
#include "records.h"

#define BLOCK_RECORDS 64

static const char usage[] =
    "Usage: vecmill embed [FILE|-] [--model NAME|DIR] [--workers N|auto] [--device auto|cpu] "
    "[--input lines|jsonl] [--format jsonl|npy] [-o FILE]\n"
    "Writes a vector for every record, in order; an empty text has one too.\n"
    "\n"
    "  --model NAME|DIR     default: EMBED_MODEL, else the default model\n"
    "  --workers N|auto     default: EMBED_WORKERS, else auto: one a processor that this process "
    "may "
    "use\n"
    "  --device D           auto or cpu; default: EMBED_DEVICE, else auto\n"
    "  --input FORM         lines (default): a text a line; jsonl: {\"text\": ...} and other "
    "fields a line\n"
    "  --format FORM        jsonl (default): the fields that came in and \"embedding\"; npy: "
    "float32 (n, d)\n"
    "  -o FILE              written whole or not at all; default: standard output\n"
    "  --help, -h           this\n";

enum { OPTION_MODEL = 1, OPTION_WORKERS, OPTION_DEVICE, OPTION_INPUT, OPTION_FORMAT, OPTION_HELP };

static const struct option long_options[] = {
    {"model", required_argument, NULL, OPTION_MODEL},
    {"workers", required_argument, NULL, OPTION_WORKERS},
    {"device", required_argument, NULL, OPTION_DEVICE},
    {"input", required_argument, NULL, OPTION_INPUT},
    {"format", required_argument, NULL, OPTION_FORMAT},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

typedef struct arguments {
  command_words words;
  const char *path, *out_path;
  vecmill_config *config;
  unsigned n_workers;
  bool is_jsonl_in, is_npy;
} arguments;

typedef struct block {
  vecmill_embed_job job;
  record records[BLOCK_RECORDS];
  vecmill_embed_text texts[BLOCK_RECORDS];
  float *vectors;
  bool is_done;
  struct run *run;
} block;

typedef struct run {
  records input;
  output out;
  vecmill_embedder *embedder;
  size_t dimension;
  block *blocks; /* a ring */
  size_t n_blocks, oldest, n_under_way;
  size_t n_failed;
  pthread_mutex_t mutex; /* of is_done */
  pthread_cond_t ended;
} run;

static void block_done(vecmill_embed_job *job) {
  block *b = job->user;
  pthread_mutex_lock(&b->run->mutex);
  b->is_done = true;
  pthread_cond_signal(&b->run->ended);
  pthread_mutex_unlock(&b->run->mutex);
}

static vecmill_status write_block(run *r, block *b, vecmill_error *error) {
  vecmill_status status = VECMILL_OK;
  for (size_t i = 0; i < b->job.n_texts; i++) {
    vecmill_embed_text *t = &b->texts[i];
    bool failed = t->status != VECMILL_OK;
    if (failed && status == VECMILL_OK)
      fprintf(stderr, "vecmill: record %zu: %s\n", r->out.n_written + 1,
              t->reason ? t->reason : "cannot be embedded");
    r->n_failed += failed;
    if (status == VECMILL_OK)
      status = output_write(&r->out, &b->records[i], failed ? NULL : t->vector, error);
    vecmill_embed_text_clear(t);
  }
  return status;
}

/* Waits for the oldest block under way and writes it. */
static vecmill_status finish_oldest(run *r, bool write, vecmill_error *error) {
  block *b = &r->blocks[r->oldest];
  pthread_mutex_lock(&r->mutex);
  while (!b->is_done) pthread_cond_wait(&r->ended, &r->mutex);
  pthread_mutex_unlock(&r->mutex);
  r->oldest = (r->oldest + 1) % r->n_blocks;
  r->n_under_way--;
  if (write) return write_block(r, b, error);
  for (size_t i = 0; i < b->job.n_texts; i++) vecmill_embed_text_clear(&b->texts[i]);
  return VECMILL_OK;
}

/* Reads up to a block of records and hands them over. */
static vecmill_status submit_block(run *r, bool *is_end, vecmill_error *error) {
  block *b = &r->blocks[(r->oldest + r->n_under_way) % r->n_blocks];
  size_t n = 0;
  vecmill_status status = VECMILL_OK;
  while (n < BLOCK_RECORDS) {
    status = records_next(&r->input, &b->records[n], is_end, error);
    if (status != VECMILL_OK || *is_end) break;
    b->texts[n] = (vecmill_embed_text){.text = b->records[n].text,
                                       .n_bytes = b->records[n].n_text_bytes,
                                       .vector = b->vectors + n * r->dimension};
    n++;
  }
  if (status != VECMILL_OK || n == 0) return status;
  b->is_done = false;
  b->job = (vecmill_embed_job){.texts = b->texts, .n_texts = n, .done = block_done, .user = b};
  status = vecmill_embedder_submit(r->embedder, &b->job, error);
  if (status == VECMILL_OK) r->n_under_way++;
  return status;
}

static vecmill_status embed_all(run *r, vecmill_error *error) {
  bool is_end = false;
  vecmill_status status = VECMILL_OK;
  while (status == VECMILL_OK && !is_end) {
    if (r->n_under_way == r->n_blocks) status = finish_oldest(r, true, error);
    if (status == VECMILL_OK) status = submit_block(r, &is_end, error);
  }
  while (r->n_under_way > 0) {
    vecmill_status ended = finish_oldest(r, status == VECMILL_OK, error);
    if (status == VECMILL_OK) status = ended;
  }
  return status;
}

static vecmill_status open_blocks(run *r, vecmill_error *error) {
  r->n_blocks = 4 * (size_t)vecmill_embedder_n_workers(r->embedder) + 4;
  r->blocks = calloc(r->n_blocks, sizeof *r->blocks);
  bool ok = r->blocks != NULL;
  for (size_t i = 0; ok && i < r->n_blocks; i++) {
    r->blocks[i].run = r;
    r->blocks[i].vectors = malloc(BLOCK_RECORDS * r->dimension * sizeof(float));
    ok = r->blocks[i].vectors != NULL;
  }
  if (ok) return VECMILL_OK;
  error->status = VECMILL_ERROR_MEMORY;
  snprintf(error->text, sizeof error->text, "embed: out of memory");
  return VECMILL_ERROR_MEMORY;
}

static void close_blocks(run *r) {
  for (size_t i = 0; r->blocks && i < r->n_blocks; i++) {
    for (size_t j = 0; j < BLOCK_RECORDS; j++) record_fini(&r->blocks[i].records[j]);
    free(r->blocks[i].vectors);
  }
  free(r->blocks);
}

/* What happened to texts on their way, told once and on stderr. */
static void tell_counts(const run *r, size_t max_tokens) {
  vecmill_embedder_stats stats;
  vecmill_embedder_get_stats(r->embedder, &stats);
  if (stats.n_truncated > 0)
    fprintf(stderr, "vecmill: %llu of %llu texts truncated: longer than the model's %zu tokens\n",
            (unsigned long long)stats.n_truncated, (unsigned long long)stats.n_texts, max_tokens);
  records_tell_repaired(&r->input);
}

static int run_embed(const arguments *a) {
  run r = {.mutex = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
  vecmill_model *model = NULL;
  vecmill_error error = {0};
  vecmill_embedder_options options = {.n_workers = a->n_workers};
  vecmill_status status = records_open(&r.input, a->path, a->is_jsonl_in, &error);
  if (status == VECMILL_OK) status = command_open_model(a->config, &model, &error);
  if (status == VECMILL_OK) {
    r.dimension = vecmill_model_get_info(model)->dimension;
    status = vecmill_embedder_open(model, &options, &r.embedder, &error);
  }
  if (status == VECMILL_OK) status = open_blocks(&r, &error);
  if (status == VECMILL_OK)
    status = output_open(&r.out, a->out_path, a->is_npy, r.dimension, &error);
  if (status == VECMILL_OK) {
    status = embed_all(&r, &error);
    status = output_close(&r.out, status, &error);
  }
  if (status == VECMILL_OK) tell_counts(&r, vecmill_model_get_info(model)->max_tokens);
  vecmill_embedder_close(&r.embedder);
  vecmill_model_close(&model);
  close_blocks(&r);
  records_close(&r.input);
  if (status != VECMILL_OK) command_show_error(error.text);
  return status == VECMILL_OK && r.n_failed > 0 ? command_exit_status(VECMILL_ERROR_PARTIAL)
                                                : command_exit_status(status);
}

static int take_option(int option, arguments *a) {
  bool is_jsonl;
  switch (option) {
    case OPTION_MODEL: a->words.model = optarg; break;
    case 'o': a->out_path = optarg; break;
    case OPTION_WORKERS: a->words.workers = optarg; break;
    case OPTION_DEVICE: a->words.device = optarg; break;
    case OPTION_INPUT:
      if (!records_form_named(optarg, &a->is_jsonl_in))
        return command_usage_error("--input %s: unknown (lines or jsonl)", optarg);
      break;
    case OPTION_FORMAT:
      a->is_npy = strcmp(optarg, "npy") == 0;
      if (!a->is_npy && (!records_form_named(optarg, &is_jsonl) || !is_jsonl))
        return command_usage_error("--format %s: unknown (jsonl or npy)", optarg);
      break;
    case OPTION_HELP: return command_help(usage);
    default: return COMMAND_EXIT_USAGE;
  }
  return COMMAND_GO_ON;
}

static int take_settings(arguments *a) {
  vecmill_error error = {0};
  const char *device;
  int exit_status = command_config(&a->words, &a->config);
  if (exit_status != COMMAND_GO_ON) return exit_status;
  vecmill_status status = vecmill_config_workers(a->config, &a->n_workers, &error);
  if (status == VECMILL_OK) status = vecmill_config_device(a->config, &device, &error);
  return status == VECMILL_OK ? COMMAND_GO_ON : command_told(status, &error);
}

int command_embed(int argc, char **argv) {
  arguments a = {0};
  for (int option; (option = command_next_option(argc, argv, "o:", long_options)) != -1;) {
    int status = take_option(option, &a);
    if (status != COMMAND_GO_ON) return status;
  }
  if (optind < argc) a.path = argv[optind++];
  if (optind < argc) return command_usage_error("%s: one argument too many", argv[optind]);
  int exit_status = take_settings(&a);
  if (exit_status == COMMAND_GO_ON) exit_status = run_embed(&a);
  vecmill_config_close(&a.config);
  return exit_status;
}
