/* Texts: what is done to them before they are tokenized. */
#ifndef VECMILL_TEXT_H
#define VECMILL_TEXT_H

#include <stddef.h>

#include <vecmill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes before the first ill-formed UTF-8 sequence; n_bytes when the text is well-formed. */
VECMILL_API size_t vecmill_text_valid_prefix(const char *text, size_t n_bytes);

/*
 * Copies a text, each maximal subpart of an ill-formed sequence becoming U+FFFD (Unicode 15, 3.9):
 * the text as every call that embeds takes it. `copy_out` has room for 3 x n_bytes. Returns the
 * bytes written; *n_replaced_out (may be NULL) is the number of U+FFFD put in.
 */
VECMILL_API size_t vecmill_text_repair(const char *text, size_t n_bytes, char *copy_out,
                                       size_t *n_replaced_out);

#ifdef __cplusplus
}
#endif
#endif
