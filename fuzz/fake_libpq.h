/*
 * A libpq whose server is a row of bytes: whatever is asked is answered with the next answer that
 * they tell. In front of the real one, so that everything of the PostgreSQL store runs as it is.
 *
 * An answer is a byte, of which 7 bits count, and what follows:
 *
 *   0        the statement went well; how many rows it met: a text
 *   1        rows: a byte each for the number of columns and rows, then each field as a text
 *   2        an error: the code (5 bytes) and a text
 *   3        the connection is lost, or cannot be made: a text
 *   4        the server wants to send or receive a COPY
 *   else     as 0, without the text
 *
 * A text is its length in a byte, or 255 for NULL, or 254 and two bytes, and as many bytes. When
 * the bytes are at their end the connection is lost, and a stop is asked for.
 */
#ifndef FUZZ_FAKE_LIBPQ_H
#define FUZZ_FAKE_LIBPQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The bytes that answer from now on, borrowed; *stop is set when waiting would be in vain. */
void fake_libpq_answers(const uint8_t *bytes, size_t n_bytes, int *stop);

/* What is left of them: the next byte, 0 at the end. */
uint8_t fake_libpq_byte(void);

#endif
