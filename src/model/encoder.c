/*
 * The encoder: ids to vectors, on the kernels of nn.h. The mathematics is in docs/model.md.
 *
 * A batch is sequences packed end to end. Every operator but attention and
 * pooling sees one tall matrix of all its tokens; those two go text by text.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "model/model_parts.h"

struct model_scratch {
  size_t max_tokens;
  size_t ld_hidden, ld_qkv, ld_ffn; /* row strides */
  float *hidden;                    /* (max_tokens, hidden): what one layer hands to the next */
  float *qkv;                       /* (max_tokens, 3 hidden); free after attention, then `sums` */
  float *context;                   /* (max_tokens, hidden): what attention gives */
  float *ffn;                       /* (max_tokens, intermediate) */
  float *attention;                 /* the attention kernel's own */
  float *word;                      /* one row of the word embeddings, converted */
  float *weights;                   /* 1, 2, .. longest text: weighted mean pooling */
  float *pooled[2];                 /* one vector on its way through the modules */
};

static size_t widest_vector(const model_config *c) {
  size_t widest = c->hidden * POOL_N;
  for (size_t i = 0; i < c->n_modules; i++)
    if (c->modules[i].n_out > widest) widest = c->modules[i].n_out;
  return widest;
}

vecmill_status model_scratch_open(const model *m, size_t max_tokens, model_scratch **scratch_out,
                                  vecmill_error *err) {
  const model_config *c = &m->config;
  if (max_tokens < c->max_tokens) max_tokens = c->max_tokens;
  model_scratch *s = mem_calloc(1, sizeof *s);
  if (!s) return err_set_memory(err, "encoder scratch", sizeof *s);
  s->max_tokens = max_tokens;
  s->ld_hidden = nn_row_stride(c->hidden);
  s->ld_qkv = nn_row_stride(3 * c->hidden);
  s->ld_ffn = nn_row_stride(c->intermediate);
  size_t head_dim = c->hidden / c->n_heads, n_vector = nn_row_stride(widest_vector(c));
  s->hidden = mem_alloc_aligned(max_tokens, s->ld_hidden * sizeof(float));
  s->qkv = mem_alloc_aligned(max_tokens, s->ld_qkv * sizeof(float));
  s->context = mem_alloc_aligned(max_tokens, s->ld_hidden * sizeof(float));
  s->ffn = mem_alloc_aligned(max_tokens, s->ld_ffn * sizeof(float));
  s->attention =
      mem_alloc_aligned(m->kernels->attention_f32_n_floats(c->max_tokens, head_dim), sizeof(float));
  s->word = mem_alloc_aligned(s->ld_hidden, sizeof(float));
  s->weights = mem_alloc_aligned(c->max_tokens, sizeof(float));
  for (int i = 0; i < 2; i++) s->pooled[i] = mem_alloc_aligned(n_vector, sizeof(float));
  if (!s->hidden || !s->qkv || !s->context || !s->ffn || !s->attention || !s->word || !s->weights ||
      !s->pooled[0] || !s->pooled[1]) {
    size_t n_floats = max_tokens * (2 * s->ld_hidden + s->ld_qkv + s->ld_ffn);
    model_scratch_close(&s);
    return err_set_memory(err, "encoder scratch", n_floats * sizeof(float));
  }
  for (size_t i = 0; i < c->max_tokens; i++) s->weights[i] = (float)(i + 1);
  *scratch_out = s;
  return VECMILL_OK;
}

void model_scratch_close(model_scratch **scratch) {
  model_scratch *s = *scratch;
  if (!s) return;
  mem_free(s->hidden);
  mem_free(s->qkv);
  mem_free(s->context);
  mem_free(s->ffn);
  mem_free(s->attention);
  mem_free(s->word);
  mem_free(s->weights);
  mem_free(s->pooled[0]);
  mem_free(s->pooled[1]);
  mem_free(s);
  *scratch = NULL;
}

static vecmill_status check_batch(const model *m, const model_scratch *s, const int32_t *ids,
                                  const size_t *offsets, size_t n_texts, vecmill_error *err) {
  if (offsets[n_texts] > s->max_tokens)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "batch: %zu tokens, more than the %zu there is room for", offsets[n_texts],
                   s->max_tokens);
  for (size_t i = 0; i < n_texts; i++)
    if (offsets[i + 1] <= offsets[i] || offsets[i + 1] - offsets[i] > m->config.max_tokens)
      return err_set(err, VECMILL_ERROR_ARGUMENT,
                     "text %zu of a batch: not between 1 and %zu tokens", i, m->config.max_tokens);
  for (size_t i = 0; i < offsets[n_texts]; i++)
    if (ids[i] < 0 || (size_t)ids[i] >= m->config.n_vocab)
      return err_set(err, VECMILL_ERROR_ARGUMENT, "token id %d: outside the vocabulary of %zu",
                     (int)ids[i], m->config.n_vocab);
  return VECMILL_OK;
}

/* hidden = LayerNorm(word + position + token type). */
static void embed_tokens(const model *m, model_scratch *s, const int32_t *ids,
                         const size_t *offsets, size_t n_texts) {
  const model_config *c = &m->config;
  const model_weights *w = &m->weights;
  const float *table = st_f32_in_place(w->words);
  for (size_t i = 0; i < n_texts; i++)
    for (size_t t = offsets[i]; t < offsets[i + 1]; t++) {
      const float *word = table ? table + (size_t)ids[t] * c->hidden : s->word;
      if (!table) st_read_f32(w->words, (size_t)ids[t] * c->hidden, c->hidden, s->word);
      m->kernels->add3_f32(c->hidden, word, w->positions + (t - offsets[i]) * c->hidden,
                           w->token_type, s->hidden + t * s->ld_hidden);
    }
  m->kernels->layer_norm_f32(offsets[n_texts], c->hidden, s->hidden, s->ld_hidden,
                             w->embedding_norm.gamma, w->embedding_norm.beta, c->layer_norm_eps,
                             s->hidden, s->ld_hidden);
}

static void multiply(const model *m, size_t n_tokens, const model_linear *w, const float *x,
                     size_t ldx, enum nn_activation act, const float *residual, size_t ldr,
                     float *y, size_t ldy) {
  m->kernels->matmul_f32(n_tokens, w->n, w->k, x, ldx, w->packed, w->bias, act, residual, ldr, y,
                         ldy);
}

static void normalise(const model *m, size_t n_tokens, const model_norm *norm, const float *x,
                      float *y, size_t ld) {
  m->kernels->layer_norm_f32(n_tokens, m->config.hidden, x, ld, norm->gamma, norm->beta,
                             m->config.layer_norm_eps, y, ld);
}

static void run_layer(const model *m, const model_layer *layer, model_scratch *s,
                      const size_t *offsets, size_t n_texts) {
  const model_config *c = &m->config;
  size_t n = offsets[n_texts], head_dim = c->hidden / c->n_heads, ld = s->ld_hidden;
  float scale = (float)(1.0 / sqrt((double)head_dim)), *sums = s->qkv;
  multiply(m, n, &layer->qkv, s->hidden, ld, NN_LINEAR, NULL, 0, s->qkv, s->ld_qkv);
  for (size_t i = 0; i < n_texts; i++)
    m->kernels->attention_f32(offsets[i + 1] - offsets[i], c->n_heads, head_dim, scale,
                              s->qkv + offsets[i] * s->ld_qkv, s->ld_qkv,
                              s->context + offsets[i] * ld, ld, s->attention);
  multiply(m, n, &layer->attention_out, s->context, ld, NN_LINEAR, s->hidden, ld, sums, ld);
  normalise(m, n, &layer->attention_norm, sums, s->hidden, ld);
  multiply(m, n, &layer->up, s->hidden, ld, c->activation, NULL, 0, s->ffn, s->ld_ffn);
  multiply(m, n, &layer->down, s->ffn, s->ld_ffn, NN_LINEAR, s->hidden, ld, sums, ld);
  normalise(m, n, &layer->output_norm, sums, s->hidden, ld);
}

/* One mode over the rows of one text, into y. */
static void pool_rows(const model *m, const model_scratch *s, enum model_pooling mode,
                      size_t n_rows, const float *rows, float *y) {
  const nn_kernels *k = m->kernels;
  size_t n = m->config.hidden;
  float count = (float)n_rows; /* at least 1: the reference's clamps never act */
  switch (mode) {
    case POOL_CLS: memcpy(y, rows, n * sizeof *y); break;
    case POOL_LAST_TOKEN: memcpy(y, rows + (n_rows - 1) * s->ld_hidden, n * sizeof *y); break;
    case POOL_MAX: k->max_rows_f32(n_rows, n, rows, s->ld_hidden, y); break;
    case POOL_WEIGHTED_MEAN:
      k->weighted_sum_rows_f32(n_rows, n, rows, s->ld_hidden, s->weights, y);
      k->divide_f32(n, y, count * (count + 1) / 2, y);
      break;
    case POOL_MEAN:
    case POOL_MEAN_SQRT_LEN:
      k->sum_rows_f32(n_rows, n, rows, s->ld_hidden, y);
      k->divide_f32(n, y, mode == POOL_MEAN ? count : sqrtf(count), y);
      break;
    case POOL_N: break;
  }
}

/* Rows to the finished vector, through the modules in order. */
static void finish_text(const model *m, model_scratch *s, size_t n_rows, const float *rows,
                        float *vector) {
  const model_config *c = &m->config;
  float *now = s->pooled[0], *next = s->pooled[1];
  size_t n = 0;
  for (size_t i = 0; i < c->modules[0].n_pooling; i++, n += c->hidden)
    pool_rows(m, s, c->modules[0].pooling[i], n_rows, rows, now + n);
  for (size_t i = 1; i < c->n_modules; i++) {
    if (c->modules[i].kind == MODULE_DENSE) {
      multiply(m, 1, &m->weights.dense[i], now, n, c->modules[i].activation, NULL, 0, next,
               c->modules[i].n_out);
      float *before = now;
      now = next;
      next = before;
      n = c->modules[i].n_out;
    } else {
      float norm = sqrtf(m->vec->squared_norm_f32(n, now));
      m->kernels->divide_f32(n, now, norm > 1e-12f ? norm : 1e-12f, now);
    }
  }
  memcpy(vector, now, c->dimension * sizeof *vector); /* truncate_dim cuts, as the reference does */
}

vecmill_status model_encode(const model *m, model_scratch *s, const int32_t *ids,
                            const size_t *offsets, size_t n_texts, float *const *vectors_out,
                            vecmill_error *err) {
  if (n_texts == 0) return VECMILL_OK;
  vecmill_status status = check_batch(m, s, ids, offsets, n_texts, err);
  if (status != VECMILL_OK) return status;
  embed_tokens(m, s, ids, offsets, n_texts);
  for (size_t i = 0; i < m->weights.n_layers; i++)
    run_layer(m, &m->weights.layers[i], s, offsets, n_texts);
  for (size_t i = 0; i < n_texts; i++)
    finish_text(m, s, offsets[i + 1] - offsets[i], s->hidden + offsets[i] * s->ld_hidden,
                vectors_out[i]);
  return VECMILL_OK;
}

double model_n_operations(const model *m, size_t n_tokens) {
  double l = (double)n_tokens, h = (double)m->config.hidden, f = (double)m->config.intermediate;
  return (double)m->config.n_layers * l * (8 * h * h + 4 * h * f + 4 * l * h);
}
