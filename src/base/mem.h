/*
 * Memory. Every allocation of the library goes through here, so that sizes are
 * checked for overflow and tests can make the n-th allocation fail.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

#define MEM_CACHE_LINE 64

/* Zeroed memory for n objects of `size` bytes; NULL on overflow or exhaustion. n = 0 gives a valid
 * pointer. */
void *mem_calloc(size_t n, size_t size);

/* Grows or shrinks to n objects of `size` bytes; the old block stays valid when NULL comes back. */
void *mem_realloc(void *block, size_t n, size_t size);

/* Uninitialised, aligned to 64 bytes, n x size bytes rounded up to 64. Freed by mem_free. */
void *mem_alloc_aligned(size_t n, size_t size);

/* A NUL-terminated copy of n bytes, or of a string. */
char *mem_strndup(const char *text, size_t n);
char *mem_strdup(const char *text);

void mem_free(void *block); /* NULL is allowed */

/* a * b and a + b; false when the result does not fit. */
bool mem_mul(size_t a, size_t b, size_t *product_out);
bool mem_add(size_t a, size_t b, size_t *sum_out);

/*
 * For tests: the allocation `n_more` calls from now (0 is the next one) and all
 * later ones fail; a negative value turns this off. Process-wide.
 */
void mem_fail_after(long n_more);

#endif
