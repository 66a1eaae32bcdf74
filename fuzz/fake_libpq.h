/*
 * A libpq whose server is a list of bytes: what it answers to which statement. In front of the real
 * one, so that everything of the PostgreSQL store runs as it is.
 *
 * The list is entries of a needle (a text) and an answer. A statement is answered by the first
 * entry whose needle occurs in it and that has not answered yet; an empty needle occurs in all.
 * What no entry answers goes well and has no rows. An answer is a byte, and what follows:
 *
 *   0        the statement went well; how many rows it met: a text
 *   1        rows: a byte each for the number of columns and rows, then each field as a text
 *   2        an error: the code (5 bytes) and a text
 *   3        the connection is lost, or cannot be made: a text
 *   4        the server wants to send a COPY
 *   else     as 0, without the text
 *   + 128    and the entry stays, for every statement to come
 *
 * A text is its length in a byte, or 255 for NULL, or 254 and two bytes, and as many bytes.
 * Connecting is the statement "connect", what PQparameterStatus tells are statements "parameter
 * NAME" with one row of one field. After 2,000 statements the connection is lost for good, and a
 * stop is asked for.
 */
#ifndef FUZZ_FAKE_LIBPQ_H
#define FUZZ_FAKE_LIBPQ_H

#include <stddef.h>
#include <stdint.h>

/* The list from now on, borrowed; *stop is set when waiting would be in vain. */
void fake_libpq_answers(const uint8_t *bytes, size_t n_bytes, int *stop);

#endif
