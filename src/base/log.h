/* Warnings and notes to whoever listens: see vecmill/log.h. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <vecmill/log.h>

#include "base/err.h"

/* One line, same form as an error: "what: why (what to do)". Costs a lock; not for inner loops. */
void log_write(vecmill_log_level level, const char *format, ...) BASE_PRINTF(2, 3);

#define log_warning(...) log_write(VECMILL_LOG_WARNING, __VA_ARGS__)
#define log_note(...) log_write(VECMILL_LOG_NOTE, __VA_ARGS__)

#endif
