/* The body of vecmill_search_run. */
#ifndef INGEST_QUERY_H
#define INGEST_QUERY_H

#include <vecmill/search.h>

vecmill_status query_run(const vecmill_search_options *options, vecmill_search_result *result_out,
                         vecmill_error *err);

#endif
