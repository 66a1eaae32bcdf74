/* Names of columns: which are likely, and what is said where one is not there, or where a table is
 * none; the same for every database. */
#ifndef STORE_FIND_NAMES_H
#define STORE_FIND_NAMES_H

#include <stddef.h>

#include "base/err.h"

/* That a text column is likely to have, the likeliest first. */
static const char *const text_names[] = {
    "text",     "body",    "content", "description", "sentence", "hawaiiantext",
    "document", "passage", "chunk",   "message",     "comment",  "review",
    "abstract", "summary", "article", "paragraph",
};
enum { N_TEXT_NAMES = sizeof text_names / sizeof *text_names };

/* How many columns of a table a message names. */
enum { FIND_MOST_NAMES = 40 };

/* NOT_FOUND: `option` names a column that the table, which has these, does not have. */
vecmill_status store_no_such_column(const char *table, const char *name, const char *option,
                                    const char *const *columns, size_t n_columns,
                                    vecmill_error *err);

/* UNSUPPORTED: `name` is a `kind` ("view"), for a run as for a search. */
vecmill_status store_no_table(const char *name, const char *kind, vecmill_error *err);

#endif
