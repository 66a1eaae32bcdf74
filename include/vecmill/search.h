/*
 * Rows of a table found by meaning: exact cosine over every vector of a column, or over those that
 * an index of pgvector's chooses.
 *
 * The query is embedded by the model that made the column. Vectors are streamed
 * past it, never all in memory; norms are computed, not assumed to be 1.
 */
#ifndef VECMILL_SEARCH_H
#define VECMILL_SEARCH_H

#include <stddef.h>
#include <stdint.h>

#include <vecmill/config.h>
#include <vecmill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VECMILL_SEARCH_DEFAULT_K 10
#define VECMILL_SEARCH_MAX_K 1000000

/* Initialise with {0}; strings are borrowed for the call. */
typedef struct vecmill_search_options {
  const char *database; /* as for an ingest, and so the next four */
  const char *schema, *state_schema;
  const char *table;
  const char *query;            /* NUL-terminated UTF-8 */
  const char *id_column;        /* NULL: the primary key */
  const char *text_column;      /* NULL: found */
  const char *vector_column;    /* NULL: "embedding" */
  const char *where;            /* SQL condition */
  const vecmill_config *config; /* where the connection's settings are; NULL: the environment */
  size_t k;                     /* best rows wanted; 0: VECMILL_SEARCH_DEFAULT_K */
  int exact; /* not 0: compare every vector, though the database has an index that could guess */
} vecmill_search_options;

typedef struct vecmill_search_hit {
  char *id_json; /* 17, "name" or ["a",2] */
  float score;   /* cosine, -1 to 1 */
  /* n_text_bytes as stored, NUL-terminated, NUL allowed inside; NULL if the row went away */
  char *text;
  size_t n_text_bytes;
} vecmill_search_hit;

typedef struct vecmill_search_result {
  char *model;
  vecmill_search_hit *hits; /* best first; equal scores in key order */
  size_t n_hits;
  char *index;        /* of pgvector's, which chose the rows to compare; NULL: exact */
  uint64_t n_scanned; /* vectors compared; where the server looked for the nearest, those it sent */
  /* not compared: another size than the model's, a zero vector, NaN or infinity */
  uint64_t n_skipped;
  char *advice; /* the command that gives rows vectors, where none has one; NULL otherwise */
  double embed_seconds, scan_seconds;
} vecmill_search_result;

/*
 * *result_out is always initialised; release it with vecmill_search_result_fini.
 * NOT_FOUND: no table, no column, no record of what made it, or its model is not here. CONFLICT:
 * the model here is not the one that made the column. ARGUMENT: k above VECMILL_SEARCH_MAX_K.
 */
VECMILL_API vecmill_status vecmill_search_run(const vecmill_search_options *options,
                                              vecmill_search_result *result_out,
                                              vecmill_error *err);
VECMILL_API void vecmill_search_result_fini(vecmill_search_result *result);

#ifdef __cplusplus
}
#endif
#endif
