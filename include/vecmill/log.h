/*
 * Warnings and notes that are not errors.
 *
 * The library is silent until a handler is set. The handler may be called from
 * any thread, one call at a time; it must not call back into the library.
 */
#ifndef VECMILL_LOG_H
#define VECMILL_LOG_H

#include <vecmill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum vecmill_log_level {
  VECMILL_LOG_WARNING = 0,
  VECMILL_LOG_NOTE = 1,
  VECMILL_LOG_DEBUG = 2
} vecmill_log_level;

/* `text` is one line of UTF-8 without a newline, valid during the call. */
typedef void vecmill_log_handler(void *context, vecmill_log_level level, const char *text);

/* NULL silences. Set it before other threads use the library. */
VECMILL_API void vecmill_log_set_handler(vecmill_log_handler *handler, void *context);

#ifdef __cplusplus
}
#endif
#endif
