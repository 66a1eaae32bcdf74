/*
 * Status codes and error detail.
 *
 * Every call that can fail returns a vecmill_status. The detail is text in a
 * vecmill_error that the caller owns and passes as the last argument; it may be
 * NULL where nobody reads it. Nothing in the library prints, exits or aborts.
 */
#ifndef VECMILL_STATUS_H
#define VECMILL_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define VECMILL_API __attribute__((visibility("default")))
#else
#define VECMILL_API
#endif

/* The numbers are stable: they are part of the ABI. */
typedef enum vecmill_status {
  VECMILL_OK = 0,
  VECMILL_ERROR_ARGUMENT = 1,    /* the caller asked for something impossible */
  VECMILL_ERROR_NOT_FOUND = 2,   /* file, table, column, model or row that is not there */
  VECMILL_ERROR_FORMAT = 3,      /* a file or a reply does not hold what it claims */
  VECMILL_ERROR_UNSUPPORTED = 4, /* well-formed, but vecmill cannot honour it (yet) */
  VECMILL_ERROR_IO = 5,          /* the system refused a read, a write or a map */
  VECMILL_ERROR_MEMORY = 6,      /* an allocation failed */
  VECMILL_ERROR_BUSY = 7,        /* somebody else holds what is needed */
  VECMILL_ERROR_CONFLICT = 8,    /* what is stored was made by something else */
  VECMILL_ERROR_STOPPED = 9,     /* the caller asked to stop; what was done is kept */
  VECMILL_ERROR_PARTIAL = 10,    /* finished, but some rows or texts failed; each has its reason */
  VECMILL_ERROR_DATABASE = 11,   /* the database refused; its words are in the text */
  VECMILL_ERROR_INTERNAL = 12    /* a defect in vecmill */
} vecmill_status;

/*
 * Room for all that the owners of a PostgreSQL database are asked to run, whatever its tables,
 * columns, types and users are called in 63 bytes each.
 */
#define VECMILL_ERROR_TEXT_SIZE 32768

/*
 * What went wrong, for a person: "what: why (what to do)", UTF-8, one line,
 * NUL-terminated; if it were longer, cut at a character boundary, and it ends in "... (cut)".
 * Initialise with {0}. A call that succeeds leaves it as it was. It is large: not for threads
 * whose stacks are less than 256 KiB.
 */
typedef struct vecmill_error {
  vecmill_status status;
  char text[VECMILL_ERROR_TEXT_SIZE];
} vecmill_error;

/* A short stable name, such as "not-found". Never NULL. */
VECMILL_API const char *vecmill_status_name(vecmill_status status);

#ifdef __cplusplus
}
#endif
#endif
