/*
 * A connection string of libpq, taken apart: postgresql:// addresses and KEYWORD=VALUE strings.
 *
 * Beyond libpq, an address may be written as other programs have it: its scheme in any case, with a
 * driver (postgresql+psycopg2://, SQLAlchemy's), with blanks or a pair of quotes around the whole
 * (what a shell takes out of an .env file). A value that itself looks like an address is refused,
 * and so is one that holds a = of its own, as in host=h;password=..: libpq would quote it.
 *
 * The grammar is that of "Connection Strings" in PostgreSQL's manual (chapter libpq, 34.1.1). It is
 * taken apart here, and not in libpq, for the sake of its passwords: messages leave them out, the
 * command overwrites them in its own argument list, and what libpq would quote in an error is
 * refused before libpq sees it. No error of this file holds any of the string's text.
 */
#ifndef CONFIG_CONNINFO_H
#define CONFIG_CONNINFO_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define CONNINFO_MAX_BYTES 65536
#define CONNINFO_MAX_SECRETS 8

/* A keyword of libpq. */
typedef struct conninfo_keyword {
  const char *name;
  const char *variable; /* of libpq's environment; NULL: none */
  bool is_secret;
} conninfo_keyword;

/* The i-th, NULL past the end. */
const conninfo_keyword *conninfo_keyword_at(size_t i);
int conninfo_find_keyword(const char *name, size_t n); /* its index, -1 */

#define CONNINFO_N_KEYWORDS 52

/* Where a secret stands in the text: bytes of the value, and of all that goes when it is left out.
 */
typedef struct conninfo_secret {
  size_t value_from, value_to, from, to;
} conninfo_secret;

/* Initialise with {0}; conninfo_fini overwrites the values before it frees them. */
typedef struct conninfo {
  char *values[CONNINFO_N_KEYWORDS]; /* NULL: not said; the last one said of each keyword */
  conninfo_secret secrets[CONNINFO_MAX_SECRETS];
  size_t n_secrets;
  size_t from, to; /* the text without what stands around it */
} conninfo;

void conninfo_fini(conninfo *c);

/* postgresql:// or postgres://, or a string that begins with a keyword and =. */
bool conninfo_is(const char *text);

/* Numbers from 1 to 65535, or nothing, with commas between them. */
bool conninfo_are_ports(const char *text);

/* An address inside a value: ://, or a : with an @ after it. */
bool conninfo_is_doubtful(const char *value);

/* Of a text that is no connection and names no file: whether it was meant for one, of whatever
 * program. Nothing of such a text is told. */
bool conninfo_is_meant(const char *text);

/* ARGUMENT when it cannot be taken apart, without any of its text. */
vecmill_status conninfo_parse(const char *text, conninfo *conninfo_out, vecmill_error *err);

/* `text` without its secrets (mem_free); of one that cannot be taken apart nothing but its form.
 * NULL when memory is out. */
char *conninfo_shown(const char *text);

/* Overwrites the secrets in place with x; of a text that cannot be taken apart, or is no
 * connection, all that may hold one. */
void conninfo_hide(char *text);

#endif
