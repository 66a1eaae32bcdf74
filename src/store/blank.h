/* Which texts hold nothing to embed, and which are not what they should be. */
#ifndef STORE_BLANK_H
#define STORE_BLANK_H

#include <stdbool.h>
#include <stddef.h>

/* Whether n bytes are nothing but characters of Unicode's White_Space property (none at all
 * counts). */
bool store_is_blank(const char *text, size_t n);

/* Whether n bytes are well-formed UTF-8. */
bool store_is_utf8(const char *text, size_t n);

#endif
