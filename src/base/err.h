/* Filling a vecmill_error. The one way in which a room reports a failure. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stddef.h>
#include <vecmill/status.h>

#if defined(__GNUC__)
#define BASE_PRINTF(format_index, first_index)                                                     \
  __attribute__((format(printf, format_index, first_index)))
#else
#define BASE_PRINTF(format_index, first_index)
#endif

/* `text` was cut off by the end of its `size` bytes: it says so, at a character boundary. */
void err_mark_cut(char *text, size_t size);

/*
 * Formats "what: why (what to do)" into `err` (which may be NULL) and returns
 * `status`, so that callers can write `return err_set(...)`. Line breaks and
 * other control characters become spaces: an error is one line.
 */
vecmill_status err_set(vecmill_error *err, vecmill_status status, const char *format, ...)
    BASE_PRINTF(3, 4);

/* For a failed system call on `path`: adds strerror(errno_value). NOT_FOUND for ENOENT, else IO. */
vecmill_status err_set_errno(vecmill_error *err, int errno_value, const char *what,
                             const char *path);

/* "WHAT: out of memory (needs N bytes)". */
vecmill_status err_set_memory(vecmill_error *err, const char *what, unsigned long long n_bytes);

#endif
