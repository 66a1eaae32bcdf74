/* Which texts hold nothing to embed. */
#ifndef STORE_BLANK_H
#define STORE_BLANK_H

#include <stdbool.h>
#include <stddef.h>

/* Whether n bytes are nothing but characters of Unicode's White_Space property (none at all
 * counts). */
bool store_is_blank(const char *text, size_t n);

#endif
