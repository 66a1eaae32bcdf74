/* A whole run: store, model and pipeline joined. The body of vecmill_ingest_run. */
#ifndef INGEST_RUN_H
#define INGEST_RUN_H

#include <vecmill/ingest.h>

vecmill_status ingest_run(const vecmill_ingest_options *options, vecmill_ingest_report *report_out,
                          vecmill_error *err);

#endif
