/* Nearest rows by cosine. */
#ifndef INGEST_NEAREST_H
#define INGEST_NEAREST_H

#include <vecmill/search.h>

#include "store/store.h"

/*
 * The k rows of the store whose vectors have the highest cosine with `query` (dimension floats),
 * best first, equal scores in key order. Fills hits, n_hits, n_scanned, n_skipped; the caller
 * releases the result. After find. Not `exact`: an index of the database's may choose the rows that
 * are compared; index in the result names it.
 */
vecmill_status nearest_scan(store *s, const float *query, size_t dimension, size_t k, bool exact,
                            vecmill_search_result *result_out, vecmill_error *err);

#endif
