#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static vecmill_log_handler *log_handler;
static void *log_context;

void vecmill_log_set_handler(vecmill_log_handler *handler, void *context) {
  pthread_mutex_lock(&log_mutex);
  log_handler = handler;
  log_context = context;
  pthread_mutex_unlock(&log_mutex);
}

void log_write(vecmill_log_level level, const char *format, ...) {
  pthread_mutex_lock(&log_mutex);
  if (log_handler) {
    char text[VECMILL_ERROR_TEXT_SIZE];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0) text[0] = '\0';
    if (n >= (int)sizeof text) err_mark_cut(text, sizeof text);
    log_handler(log_context, level, text);
  }
  pthread_mutex_unlock(&log_mutex);
}
