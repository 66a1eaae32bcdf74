/*
 * SQL in pieces, and keys, arrays and vectors as the server has them.
 */
#ifndef STORE_PG_SQL_H
#define STORE_PG_SQL_H

#include "store/pg_statement.h"

/* The name, as SQL, of the collation of the pg_attribute a; NULL: its type has none. */
#define PG_COLLATION_OF_A                                                                          \
  "(SELECT quote_ident(ln.nspname) || '.' || quote_ident(l.collname) FROM pg_collation AS l "      \
  "JOIN pg_namespace AS ln ON ln.oid = l.collnamespace WHERE l.oid = a.attcollation)"

/* The type's name as SQL, whatever the search path is, and without a modifier (char, bit: of any
 * length). Its oid follows, and a bracket. */
#define PG_TYPE_NAME_OF                                                                            \
  "(SELECT CASE WHEN tn.nspname = 'pg_catalog' THEN format_type(ty.oid, -1) ELSE "                 \
  "quote_ident(tn.nspname) || '.' || quote_ident(ty.typname) END FROM pg_type AS ty JOIN "         \
  "pg_namespace AS tn ON tn.oid = ty.typnamespace WHERE ty.oid = "

/* What pg_rewrite and pg_trigger say of a rule or trigger that acts in this session. */
#define PG_ENABLED_STATES                                                                          \
  "('A', CASE current_setting('session_replication_role') WHEN 'replica' THEN 'R' ELSE 'O' END)"

/* Of pg_rewrite: the rule acts in this session; its action is NOTHING (nodes.h: CMD_NOTHING was 6
 * before MERGE came in 15). */
#define PG_RULE_IS_ACTIVE "ev_enabled IN " PG_ENABLED_STATES
#define PG_RULE_DOES_NOTHING                                                                       \
  "ev_action::text LIKE '({QUERY :commandType ' || CASE WHEN "                                     \
  "current_setting('server_version_num')::integer < 150000 THEN 6 ELSE 7 END || ' %'"

/* --- pg_sql.c: SQL and arrays in pieces --- */

void pg_append_name(str *sql, const char *name);
void pg_append_string(str *sql, const char *text);
/* "STATE"."name" */
void pg_append_state(str *sql, const pg_store *s, const char *name);
/* "table"."column" */
void pg_append_column(str *sql, const pg_store *s, const char *column);
/* "table"."vector" IS NOT NULL */
void pg_append_has_vector(str *sql, const pg_store *s);
/* `alias` for something beside the table, whose columns go by its own name: or another one, where
 * the table is called so. */
const char *pg_alias(const pg_store *s, const char *alias);
/* "table"."a", "table"."b" */
void pg_append_keys(str *sql, const pg_store *s);
/* "table"."a"::text, "table"."b"::text */
void pg_append_key_texts(str *sql, const pg_store *s);
/* The key as hashes and failures have it, whose indexes have limits: the ARRAY[..], or, where that
 * is too long for them, the beginnings of its parts and, as one more element, the md5 of each. Of
 * the table's columns (alias NULL), compared as those indexes compare whatever collations the
 * columns have; or of texts ALIASk0, ALIASk1. */
void pg_append_record_key(str *sql, const pg_store *s, const char *alias);
/* ARRAY[..] of these, whole */
void pg_append_key_array(str *sql, const pg_store *s);
/* bigint, text COLLATE "C" */
void pg_append_type(str *sql, const pg_key_column *column);
void pg_key_column_fini(pg_key_column *column);
vecmill_status pg_key_column_init(pg_key_column *column, const char *name, const char *type,
                                  const char *collation, vecmill_error *err);
/* ("a", "b") > (($3)[1]::bigint, ($3)[2]::text): the whole key against an array parameter */
void pg_append_compare(str *sql, const pg_store *s, const char *comparison, const char *array);
/* " AND ..." for each of: where, limit's cut (parameter $cut), keys that are not NULL */
void pg_append_considered(str *sql, const pg_store *s, const char *cut);

/* A key's bytes: for each column its length (4 bytes) and its text. */
void pg_key_append(str *key, const PGresult *result, int row, int first, size_t n);
/* The key as a text[] in PostgreSQL's binary form. */
void pg_key_array(str *array, const void *key, size_t n_key_bytes);
void pg_key_json(const store *s, const void *key, size_t n_key_bytes, str *json_out);
int pg_key_compare(const store *s, const void *a, size_t n_a, const void *b, size_t n_b);
/* Part `index` of a key. */
const char *pg_key_part(const void *key, size_t n_key_bytes, size_t index, size_t *n_out);

/* A one-dimensional array in binary: begin, then each element, then nothing more. */
void pg_array_begin(str *array, Oid element, size_t n);
void pg_array_add(str *array, const void *bytes, size_t n);
void pg_array_add_null(str *array);
void pg_array_add_vector(str *array, const pg_store *s, const float *vector, size_t n);

/* pgvector's wire form of a vector or halfvec. False: a number that it cannot hold. */
bool pg_append_vector(str *out, const pg_store *s, const float *vector, size_t n);
size_t pg_vector_bytes(const pg_store *s, size_t n);
/* Back into floats; false when it is none of `n` numbers. */
bool pg_read_vector(const pg_store *s, const void *bytes, size_t n_bytes, float *out, size_t n);

/* --- pg_metrics_sql.c: what a commit writes of them --- */

/* Binary arrays, a column of metrics each. */
typedef struct pg_metrics_arrays {
  str columns[METRICS_N_OF_TEXT];
} pg_metrics_arrays;

void pg_metrics_arrays_begin(pg_metrics_arrays *a, size_t n);
void pg_metrics_arrays_add(pg_metrics_arrays *a, const store_metrics *metrics);
bool pg_metrics_arrays_failed(const pg_metrics_arrays *a);
void pg_metrics_arrays_fini(pg_metrics_arrays *a);
void pg_metrics_add_params(pg_params *p, const pg_metrics_arrays *a);

/* For an unnest: its parameters, the first of them $first, and their names. */
void pg_metrics_append_unnest(str *sql, int first);
void pg_metrics_append_names(str *sql);
/* For the UPDATE .. RETURNING of that unnest, as d; and ", m AS (..)", which takes them from u. */
void pg_metrics_append_returning(str *sql, const pg_store *s);
void pg_metrics_append_cte(str *sql, const pg_store *s);
/* ", m AS (..)": the rows of metrics of u go, or are emptied where others have columns there. */
void pg_metrics_append_removal(str *sql, const pg_store *s);

/* PREFIX0, PREFIX1 */
void pg_append_numbered(str *sql, const char *prefix, size_t n);
/* " COLLATE .." behind what a join is compared with: that of the metrics' column, where the table's
 * is another */
void pg_metrics_append_collation(str *sql, const pg_key_column *join);
/* "table"."join", .. */
void pg_metrics_append_joins(str *sql, const pg_store *s);
/* " AND "table"."join" IS NOT NULL ..": such rows have no metrics */
void pg_metrics_append_joins_not_null(str *sql, const pg_store *s);
/* " FROM .. WHERE ..": rows with a vector, a text and what metrics go by */
void pg_metrics_append_candidates(str *sql, const pg_store *s);
/* "table"."key", .., what metrics go by, and perhaps the text: each once */
void pg_metrics_append_needed(str *sql, const pg_store *s, bool with_text);
/* "row_number() OVER (..) AS vecmill_i": the place among the rows that share one of metrics */
void pg_metrics_append_place(str *sql, const pg_store *s);
/* ", "table"."join" AS j0, .., "table"."key" AS o0, ..": what the next one reads, with m0 to m3 */
void pg_metrics_append_places(str *sql, const pg_store *s);
/* "INSERT .. SELECT .. FROM source WHERE .. ON CONFLICT .. DO UPDATE": of those that share a row
 * the first in key order. In the order of their key, so that two commits never wait for each other.
 */
void pg_metrics_append_insert(str *sql, const pg_store *s, const char *source);

/* --- pg_metrics.c --- */

/* "CREATE TABLE ..": the metrics' */
void pg_metrics_append_create(str *sql, const pg_store *s);
void pg_metrics_fini(pg_metrics *m);

/* --- pg_encoding.c --- */

/* Which one the database has; the connection may be closed by this, to be opened anew. */
vecmill_status pg_settle_encoding(pg_store *s, vecmill_error *err);
/* "(..)": the text is NULL, or nothing but characters of Unicode's White_Space property, as
 * store_is_blank has it. */
void pg_append_blank(str *sql, const pg_store *s);
/* The same of any column. */
void pg_append_blank_text(str *sql, const pg_store *s, const char *column);

/* --- pg_names.c --- */

typedef struct pg_given_name {
  const char *option, *name; /* name NULL: not given */
  const char *separator;     /* of several names in one; NULL: it is one */
} pg_given_name;

/* ARGUMENT when one of at most PG_MAX_KEYS names is longer than the server's names can be. */
vecmill_status pg_check_names(pg_store *s, const pg_given_name *names, size_t n,
                              vecmill_error *err);

#endif
