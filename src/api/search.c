#include <vecmill/search.h>

#include "base/mem.h"
#include "ingest/query.h"

vecmill_status vecmill_search_run(const vecmill_search_options *options,
                                  vecmill_search_result *result_out, vecmill_error *err) {
  return query_run(options, result_out, err);
}

void vecmill_search_result_fini(vecmill_search_result *result) {
  for (size_t i = 0; i < result->n_hits; i++) {
    mem_free(result->hits[i].id_json);
    mem_free(result->hits[i].text);
  }
  mem_free(result->hits);
  mem_free(result->model);
  mem_free(result->index);
  mem_free(result->advice);
  *result = (vecmill_search_result){0};
}
