#include "ingest/maker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "config/prefix.h"
#include "embed/embed.h"
#include "provider/counted.h"
#include "provider/local.h"

#define N_PROOF_ROWS 20
#define MIN_PROOF_COSINE 0.99
#define SAME_COSINE 0.9999 /* the same text, prefix and model, computed by others or kept as half */

void ingest_maker_fini(ingest_maker *m) {
  if (m->provider) m->provider->operations->close(m->provider);
  model_close(&m->model);
  model_location_fini(&m->location);
  mem_free(m->identity);
  mem_free(m->prefix);
  *m = (ingest_maker){0};
}

vecmill_status ingest_maker_choose(const char *named, const config *c, const store_maker *record,
                                   ingest_maker *m_out, vecmill_error *err) {
  const char *name = named;
  m_out->reason = "named";
  if (!name && config_find(c, "EMBED_MODEL", &m_out->said))
    name = m_out->said.text, m_out->reason = "EMBED_MODEL";
  m_out->was_named = name != NULL;
  if (!name && record) name = record->model, m_out->reason = "it made this column";
  vecmill_status status = model_find(name, &m_out->location, err);
  if (status != VECMILL_OK) return config_blame(&m_out->said, status, err);
  if (name) return VECMILL_OK;
  bool is_default = strcmp(m_out->location.name, MODEL_DEFAULT_NAME) == 0;
  m_out->reason = is_default ? "the default" : "the only model here";
  return VECMILL_OK;
}

/* A hub snapshot's folder and a model's own are named after it, whatever name led there. */
static bool is_e5(const ingest_maker *m) {
  return prefix_is_e5(m->location.name) || prefix_is_e5(m->location.directory);
}

/* The model's own, for the texts of a table. */
static const char *document_prefix(const ingest_maker *m) {
  if (is_e5(m)) return PREFIX_E5_PASSAGE;
  const char *prompt = model_prompt(m->model, "document");
  if (!prompt) prompt = model_prompt(m->model, "passage");
  if (!prompt) prompt = model_default_prompt(m->model);
  return prompt ? prompt : "";
}

/* The record's is for the record's model: another one has its own. mem_free. */
static char *choose_prefix(ingest_maker *m, const char *prefix, const config *c,
                           const store_maker *record) {
  if (prefix) return mem_strdup(prefix);
  m->has_said_prefix = config_find(c, "EMBED_PREFIX", &m->said_prefix);
  if (m->has_said_prefix) return prefix_completed(m->said_prefix.text);
  if (record && strcmp(record->revision, m->identity) == 0) return mem_strdup(record->prefix);
  return mem_strdup(document_prefix(m));
}

const char *ingest_maker_query_prefix(const ingest_maker *m, const store_maker *record) {
  bool of_passages = strcmp(record->prefix, PREFIX_E5_PASSAGE) == 0;
  const char *prompt = model_prompt(m->model, "query");
  if (prompt && !(of_passages && is_e5(m))) return prompt;
  return of_passages ? PREFIX_E5_QUERY : record->prefix;
}

vecmill_status ingest_maker_open(ingest_maker *m, const char *prefix, const config *c,
                                 const store_maker *record, vecmill_error *err) {
  vecmill_status status = model_identity(m->location.directory, &m->identity, err);
  if (status == VECMILL_OK) status = model_open(m->location.directory, &m->model, err);
  if (status != VECMILL_OK) return status;
  m->prefix = choose_prefix(m, prefix, c, record);
  if (!m->prefix) return err_set_memory(err, "prefix", 1);
  status = provider_open_local(m->model, m->prefix, &m->provider, err);
  const char *counts = getenv("VECMILL_COUNT_CALLS"); /* for tests: a file to count in */
  if (status == VECMILL_OK && counts && *counts) status = provider_count(&m->provider, counts, err);
  if (status != VECMILL_OK) return status;
  const model_info *info = model_get_info(m->model);
  m->maker = (store_maker){.model = m->location.name,
                           .revision = m->identity,
                           .pooling = info->pooling,
                           .prefix = m->prefix,
                           .precision = info->precision,
                           .dimension = info->dimension};
  return VECMILL_OK;
}

static vecmill_status differs(const store_columns *columns, const char *what, const char *made_with,
                              const char *asked_for, const char *advice, vecmill_error *err) {
  return err_set(
      err, VECMILL_ERROR_CONFLICT,
      "table %s: column %s was made with %s \"%s\", not \"%s\" (%s, or another --vector-column)",
      columns->table, columns->vector_column, what, made_with, asked_for, advice);
}

vecmill_status ingest_maker_match(const ingest_maker *m, const store_maker *record,
                                  const store_columns *columns, vecmill_error *err) {
  const store_maker *now = &m->maker;
  if (*record->text_column && strcmp(record->text_column, columns->text_column) != 0)
    return differs(columns, "text column", record->text_column, columns->text_column,
                   "give that --text-column, or none", err);
  if (strcmp(record->revision, now->revision) != 0 || record->dimension != now->dimension) {
    /* The same name with other files is worth saying differently. */
    if (strcmp(record->model, now->model) != 0)
      return differs(columns, "model", record->model, now->model, "use that model", err);
    return differs(columns, "revision", record->revision, now->revision,
                   "use that revision of the model", err);
  }
  if (strcmp(record->pooling, now->pooling) != 0)
    return differs(columns, "pooling", record->pooling, now->pooling, "use that model", err);
  if (strcmp(record->prefix, now->prefix) != 0) {
    vecmill_status status = differs(columns, "prefix", record->prefix, now->prefix,
                                    m->has_said_prefix ? "give that --prefix, or no EMBED_PREFIX"
                                                       : "give that --prefix, or none",
                                    err);
    return config_blame(&m->said_prefix, status, err);
  }
  if (strcmp(record->precision, now->precision) != 0)
    return differs(columns, "precision", record->precision, now->precision, "use that precision",
                   err);
  return VECMILL_OK;
}

/* --- proof by embedding again --- */

static void nothing_more(embed_job *job) {
  (void)job;
}

static double cosine(const float *a, const float *b, size_t n) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < n; i++) {
    ab += (double)a[i] * b[i];
    aa += (double)a[i] * a[i];
    bb += (double)b[i] * b[i];
  }
  return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

/* Between what is stored and what the model gives. */
typedef struct cosines {
  double lowest, highest;
  size_t n_rows, n_close, n_same;
} cosines;

static vecmill_status embed_again(const ingest_maker *m, const store_page *page, cosines *out,
                                  vecmill_error *err) {
  size_t dimension = m->maker.dimension;
  embed *e = NULL;
  embed_options options = {.n_workers = 1};
  embed_text texts[N_PROOF_ROWS];
  float *vectors = mem_calloc(N_PROOF_ROWS * dimension, sizeof *vectors);
  if (!vectors) return err_set_memory(err, "vectors", N_PROOF_ROWS * dimension * sizeof *vectors);
  for (size_t i = 0; i < page->n_rows; i++)
    texts[i] = (embed_text){.text = page->rows[i].text,
                            .n_bytes = page->rows[i].n_text_bytes,
                            .vector = vectors + i * dimension};
  embed_job job = {.texts = texts, .n_texts = page->n_rows, .done = nothing_more};
  vecmill_status status = embed_open(m->provider, &options, &e, err);
  if (status == VECMILL_OK) status = embed_submit(e, &job, err);
  if (status == VECMILL_OK) embed_drain(e);
  embed_close(&e);
  *out = (cosines){.lowest = 1, .highest = -1, .n_rows = page->n_rows};
  for (size_t i = 0; i < page->n_rows; i++) {
    if (status == VECMILL_OK && texts[i].status != VECMILL_OK)
      status =
          err_set(err, texts[i].status, "%s", texts[i].reason ? texts[i].reason : "cannot embed");
    double now =
        status == VECMILL_OK ? cosine(texts[i].vector, page->rows[i].vector, dimension) : 1;
    if (!(now >= out->lowest)) out->lowest = now;
    if (now > out->highest) out->highest = now;
    out->n_close += now >= MIN_PROOF_COSINE;
    out->n_same += now >= SAME_COSINE;
    mem_free(texts[i].reason);
  }
  mem_free(vectors);
  return status;
}

/* What the furthest must come to. */
static double least_of(const ingest_maker *m, const store_maker *in_doubt, bool agrees) {
  bool is_same_model = in_doubt && strcmp(in_doubt->revision, m->maker.revision) == 0;
  return is_same_model && !agrees ? SAME_COSINE : MIN_PROOF_COSINE;
}

/* Whether what was asked for made them. Texts may have been edited after their vectors were made:
 * of a record in doubt that agrees one row is enough, and half of them where it names another
 * model, which comes close to none. But where only the text column or the prefix differs many
 * rows may come close that were not made so. Where nothing is recorded, half of them that are as
 * good as the same are enough. */
static bool is_proven(const ingest_maker *m, const cosines *found, const store_maker *in_doubt,
                      bool agrees) {
  if (found->n_rows == 0) return agrees;
  if (agrees) return found->n_close > 0;
  if (in_doubt && strcmp(in_doubt->revision, m->maker.revision) != 0)
    return 2 * found->n_close >= found->n_rows;
  if (!in_doubt && 2 * found->n_same >= found->n_rows) return true;
  return found->lowest >= least_of(m, in_doubt, agrees);
}

/* There is no hash by which --changed could find them. */
static void tell_others(const store_columns *columns, const cosines *found) {
  size_t n_others = found->n_rows - found->n_close;
  if (n_others > 0)
    log_warning("table %s: column %s: %zu of %zu vectors that were looked at are not what this "
                "model makes of their texts (edited since, or made otherwise; to have such rows "
                "embedded again, set their vectors to NULL)",
                columns->table, columns->vector_column, n_others, found->n_rows);
}

vecmill_status ingest_maker_prove(const ingest_maker *m, store *s, const store_columns *columns,
                                  const store_maker *in_doubt, vecmill_error *err) {
  bool agrees = in_doubt && ingest_maker_match(m, in_doubt, columns, NULL) == VECMILL_OK;
  if (!m->was_named && in_doubt && !agrees) return ingest_maker_match(m, in_doubt, columns, err);
  if (!m->was_named && !agrees)
    return err_set(err, VECMILL_ERROR_CONFLICT,
                   "table %s: column %s holds vectors and nothing says which model made them (name "
                   "it with --model, "
                   "or give another --vector-column)",
                   columns->table, columns->vector_column);
  store_page page;
  cosines found = {0};
  vecmill_status status = s->operations->sample(s, m->maker.dimension, N_PROOF_ROWS, &page, err);
  if (status != VECMILL_OK) return status;
  if (page.n_rows > 0) status = embed_again(m, &page, &found, err);
  s->operations->page_free(s, &page);
  if (status != VECMILL_OK) return status;
  if (is_proven(m, &found, in_doubt, agrees)) {
    if (!in_doubt) tell_others(columns, &found);
    return VECMILL_OK;
  }
  if (found.n_rows == 0)
    return err_set(err, VECMILL_ERROR_CONFLICT,
                   "table %s: column %s holds vectors, but beside no text, so that nothing "
                   "can prove that %s made them (give another --vector-column)",
                   columns->table, columns->vector_column, m->maker.model);
  return err_set(
      err, VECMILL_ERROR_CONFLICT,
      "table %s: column %s was not made by %s%s: of %zu rows embedded again the %s has cosine %.4f, "
      "below %g (name the model that made it, check --prefix, or give another --vector-column)",
      columns->table, columns->vector_column, m->maker.model,
      in_doubt && !agrees ? " as it is asked for" : "", found.n_rows,
      agrees ? "nearest" : "furthest", agrees ? found.highest : found.lowest,
      least_of(m, in_doubt, agrees));
}
