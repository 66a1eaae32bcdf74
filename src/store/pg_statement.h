/*
 * Connections to a PostgreSQL server, statements and transactions on them, and what went wrong.
 */
#ifndef STORE_PG_STATEMENT_H
#define STORE_PG_STATEMENT_H

#include "store/pg_store.h"

/* --- pg_hosts.c --- */

/* How many are named; 1 too where none is, or where libpq must say that lists do not fit. */
size_t pg_n_hosts(const pg_store *s);

/* What libpq is given for the i-th of several: s->keywords with these values. pg_host_fini after
 * failure too, which is for want of memory. */
#define PG_HOST_LISTS 3
typedef struct pg_host {
  const char **values;
  char *items[PG_HOST_LISTS];
} pg_host;
bool pg_host_init(pg_host *h, const pg_store *s, size_t i);
void pg_host_fini(pg_host *h);

/* --- pg_passfile.c --- */

/* One that others may read is warned of, and libpq kept from looking into it, by a keyword more,
 * the n_keywords-th: there must be room. False: memory is out. */
bool pg_pass_over_passfile(pg_store *s, size_t n_keywords);

/* --- pg_connect.c --- */

/* How long the server is still waited for once a stop was asked for. */
#define PG_STOP_GRACE_NS 2000000000ull

/* How many connections there are to be; before any but the first is open. */
void pg_share_out(pg_store *s, unsigned n_connections);
/* Opens all connections that the run will use: whether the server has room for them is better known
 * before the first row. Fewer where one more is not answered. */
vecmill_status pg_open_all(pg_store *s, vecmill_error *err);
/* Makes a connection that is missing or lost; with its mutex held. */
vecmill_status pg_open_connection(pg_store *s, pg_connection *c, vecmill_error *err);
/* Waits until the socket can be read or written, a tick at most. False: neither. */
bool pg_wait_for_socket(PGconn *conn, bool to_write);
bool pg_stop_asked(const pg_store *s);

/* --- pg_statement.c --- */

/* Parameters of one statement: text, or binary where n_bytes is given. */
typedef struct pg_params {
  const char *values[PG_MAX_PARAMS];
  int lengths[PG_MAX_PARAMS], formats[PG_MAX_PARAMS];
  Oid types[PG_MAX_PARAMS];
  int n;
  size_t n_bytes; /* of the binary ones */
} pg_params;

/* Of a message, a server takes no more (PQ_LARGE_MESSAGE_LIMIT); less room for the rest of it. */
#define PG_MOST_BYTES (((size_t)1 << 30) - (1 << 16))

void pg_add_text(pg_params *p, const char *value);
void pg_add_binary(pg_params *p, const str *value);

/*
 * Runs one statement (where forms_vary, in a transaction of its own); results come in binary, so
 * that queries cast all but vectors to text. A
 * connection that was lost is made anew and the statement sent again, as it is after a deadlock or
 * a serialization failure: the statement must bear that. The caller clears *result_out. Errors:
 * DATABASE, MEMORY, STOPPED (a stop was asked for and the server did not answer in time).
 */
vecmill_status pg_run(pg_store *s, pg_role role, const str *sql, const pg_params *params,
                      const char *what, PGresult **result_out, vecmill_error *err);

/* Several statements without parameters in one message, which the server runs as one transaction.
 */
vecmill_status pg_run_script(pg_store *s, pg_role role, const char *sql, const char *what,
                             vecmill_error *err);

/*
 * A transaction: `body` runs its statements by pg_step on the connection it is given. After a lost
 * connection, a deadlock or a serialization failure all of it is done again, so that `body` must
 * set what it gives out anew each time. Rolled back when `body` fails.
 */
typedef vecmill_status pg_body(pg_store *s, PGconn *conn, void *context, vecmill_error *err);
vecmill_status pg_transact(pg_store *s, pg_role role, pg_body *body, void *context,
                           const char *what, vecmill_error *err);
/* Words without parameters or answer, "SAVEPOINT a" and the like: in such a transaction, or not. */
vecmill_status pg_command(pg_store *s, PGconn *conn, const char *sql, const char *what,
                          vecmill_error *err);
vecmill_status pg_step(pg_store *s, PGconn *conn, const str *sql, const pg_params *params,
                       const char *what, PGresult **result_out, vecmill_error *err);

/* Starts a statement whose rows come one by one; pg_next_row gives them, NULL at the end. The
 * connection is this caller's until pg_stream_end. */
vecmill_status pg_stream_begin(pg_store *s, const str *sql, const pg_params *params,
                               const char *what, vecmill_error *err);
vecmill_status pg_next_row(pg_store *s, const char *what, PGresult **row_out, vecmill_error *err);
void pg_stream_end(pg_store *s);

/* Whether statements of this thread are cancelled as soon as a stop is asked for, and not after the
 * time that a commit is given: for what takes long and leaves nothing half done. */
void pg_stop_at_once(bool at_once);

/* A field as text; "" for NULL. */
const char *pg_text(const PGresult *result, int row, int column);
int64_t pg_integer(const PGresult *result, int row, int column);

/* --- pg_error.c: what went wrong, in words --- */

/* The error code of the last failed call of this thread, as "42501"; "" where there was none. */
const char *pg_last_state(void);
bool pg_state_is(const char *class_or_code);
/* Whether a policy of row-level security said so, or a RAISE of PL/pgSQL's, and not the server
 * itself: fields of the error that are the same in every language tell (execMain.c, pl_exec.c). */
bool pg_is_raised(void);
/* Whether the database itself refused a row, and not the statement or the server. A policy of
 * row-level security, and a trigger by any code of its own, may say so for whatever reason; but who
 * raises what the server says of itself (the connection, what it cannot do, a conflict, want of
 * something, an operator, its system) means that. */
bool pg_is_refusal(void);
/* Of a row of a commit, as far as the server names the table whose rule it was. */
const char *pg_what_was_refused(const pg_store *s);
void pg_forget_state(void);
void pg_set_state(const char *state);

vecmill_status pg_connection_error(pg_store *s, PGconn *conn, vecmill_error *err);
/* `result` NULL: the connection is lost. */
vecmill_status pg_result_error(pg_store *s, PGconn *conn, const PGresult *result, const char *what,
                               vecmill_error *err);

#endif
