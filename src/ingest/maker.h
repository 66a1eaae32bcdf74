/*
 * Which model works on a column, opened; and whether it is the one that made it.
 */
#ifndef INGEST_MAKER_H
#define INGEST_MAKER_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"
#include "model/find.h"
#include "model/model.h"
#include "provider/provider.h"
#include "store/store.h"

/* A model chosen and, after ingest_maker_open, opened. Initialise with {0}; freed by
 * ingest_maker_fini. */
typedef struct ingest_maker {
  model_location location;
  const char *reason; /* why this model: static */
  bool was_named;     /* by the caller or by EMBED_MODEL */
  config_value said;  /* EMBED_MODEL, if it was that */
  bool has_said_prefix;
  config_value said_prefix; /* EMBED_PREFIX, if it was that */
  char *identity, *prefix;
  model *model;
  provider *provider;
  store_maker maker; /* what goes into the record; points into this struct */
} ingest_maker;

void ingest_maker_fini(ingest_maker *m);

/*
 * `named`, else EMBED_MODEL of `c` (NULL: of the environment), else the record's model (NULL: there
 * is no record), else model_find's own rule. NOT_FOUND when it is not on this machine. `c` must
 * outlive *m_out.
 */
vecmill_status ingest_maker_choose(const char *named, const config *c, const store_maker *record,
                                   ingest_maker *m_out, vecmill_error *err);

/*
 * Opens what was chosen. The prefix before every text is `prefix` if that is not NULL, else
 * EMBED_PREFIX with its closing ": ", else what made the column if there is a record, else that of
 * E5 models where the model's name says it is one, else the model's prompt for documents
 * ("document", "passage"), else its default prompt.
 */
vecmill_status ingest_maker_open(ingest_maker *m, const char *prefix, const config *c,
                                 const store_maker *record, vecmill_error *err);

/* The prefix before a question asked of a column that `record` describes. */
const char *ingest_maker_query_prefix(const ingest_maker *m, const store_maker *record);

/* CONFLICT, with what differs and what to do, unless the record is of this model. */
vecmill_status ingest_maker_match(const ingest_maker *m, const store_maker *record,
                                  const store_columns *columns, vecmill_error *err);

/*
 * For a column with vectors and no record: the model must have been named, and up to twenty rows
 * embedded again must come within cosine 0.99 of what is stored. Beside a record
 * in doubt (NULL: none) that agrees the model may be the record's, and one row is enough, or none
 * at all; where it names another model, half of them; where another prefix or text column, all of
 * them by far closer. CONFLICT otherwise.
 */
vecmill_status ingest_maker_prove(const ingest_maker *m, store *s, const store_columns *columns,
                                  const store_maker *in_doubt, vecmill_error *err);

#endif
