/*
 * Numbers of the texts, in a table of their own: what is written and removed there, in pieces of
 * SQL and arrays.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <string.h>

#include "store/metrics_table.h"
#include "store/pg_parts.h"

#define INT4_OID 23 /* pg_type.h */
#define FLOAT8_OID 701

/* --- SQL in pieces --- */

void pg_append_numbered(str *sql, const char *prefix, size_t n) {
  for (size_t i = 0; i < n; i++) str_append_format(sql, "%s%s%zu", i ? ", " : "", prefix, i);
}

void pg_metrics_append_collation(str *sql, const pg_key_column *join) {
  if (*join->collation) str_append_format(sql, " COLLATE %s", join->collation);
}

void pg_metrics_append_joins(str *sql, const pg_store *s) {
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    if (i > 0) str_append_text(sql, ", ");
    pg_append_column(sql, s, s->metrics.joins[i].name);
  }
}

void pg_metrics_append_places(str *sql, const pg_store *s) {
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    str_append_text(sql, ", ");
    pg_append_column(sql, s, s->metrics.joins[i].name);
    str_append_format(sql, " AS j%zu", i);
  }
  for (size_t i = 0; s->metrics.is_shared && i < s->n_keys; i++) {
    str_append_text(sql, ", ");
    pg_append_column(sql, s, s->keys[i].name);
    str_append_format(sql, " AS o%zu", i);
  }
}

void pg_metrics_append_joins_not_null(str *sql, const pg_store *s) {
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    str_append_text(sql, " AND ");
    pg_append_column(sql, s, s->metrics.joins[i].name);
    str_append_text(sql, " IS NOT NULL");
  }
}

void pg_metrics_append_candidates(str *sql, const pg_store *s) {
  str_append_format(sql, " FROM %s WHERE ", s->table_sql);
  pg_append_has_vector(sql, s);
  str_append_text(sql, " AND ");
  pg_append_column(sql, s, s->text_column);
  str_append_text(sql, " IS NOT NULL");
  pg_metrics_append_joins_not_null(sql, s);
}

void pg_metrics_append_needed(str *sql, const pg_store *s, bool with_text) {
  const char *names[2 * PG_MAX_KEYS + 1];
  size_t n = 0, n_all = 0;
  for (size_t i = 0; i < s->n_keys; i++) names[n_all++] = s->keys[i].name;
  if (with_text) names[n_all++] = s->text_column;
  for (size_t i = 0; i < s->metrics.n_joins; i++) names[n_all++] = s->metrics.joins[i].name;
  for (size_t i = 0; i < n_all; i++) {
    bool is_new = true;
    for (size_t j = 0; j < n; j++) is_new &= strcmp(names[j], names[i]) != 0;
    if (!is_new) continue;
    if (n > 0) str_append_text(sql, ", ");
    pg_append_column(sql, s, names[i]);
    names[n++] = names[i];
  }
}

void pg_metrics_append_place(str *sql, const pg_store *s) {
  str_append_text(sql, "row_number() OVER (PARTITION BY ");
  pg_metrics_append_joins(sql, s);
  str_append_format(sql, " ORDER BY %s) AS vecmill_i", s->keys_sql);
}

void pg_metrics_append_insert(str *sql, const pg_store *s, const char *source) {
  const pg_metrics *m = &s->metrics;
  str_append_format(sql, "INSERT INTO %s AS m(", m->sql);
  for (size_t i = 0; i < m->n_joins; i++) {
    pg_append_name(sql, m->joins[i].name);
    str_append_text(sql, ", ");
  }
  for (size_t i = 0; i < METRICS_N_OF_TEXT; i++) str_append_format(sql, "%s, ", metrics_columns[i]);
  str_append_text(sql, "updated_at) SELECT ");
  if (m->is_shared) {
    str_append_text(sql, "DISTINCT ON (");
    pg_append_numbered(sql, "j", m->n_joins);
    str_append_text(sql, ") ");
  }
  pg_append_numbered(sql, "j", m->n_joins);
  str_append_format(sql, ", m0, m1, m2, m3, now() FROM %s WHERE j0 IS NOT NULL", source);
  for (size_t i = 1; i < m->n_joins; i++) str_append_format(sql, " AND j%zu IS NOT NULL", i);
  if (m->is_shared) {
    str_append_text(sql, " ORDER BY ");
    pg_append_numbered(sql, "j", m->n_joins);
    str_append_text(sql, ", ");
    pg_append_numbered(sql, "o", s->n_keys);
  }
  str_append_text(sql, " ON CONFLICT (");
  for (size_t i = 0; i < m->n_joins; i++) {
    if (i > 0) str_append_text(sql, ", ");
    pg_append_name(sql, m->joins[i].name);
  }
  str_append_text(sql, ") DO UPDATE SET ");
  for (size_t i = 0; i < METRICS_N_OF_TEXT; i++)
    str_append_format(sql, "%s = excluded.%s, ", metrics_columns[i], metrics_columns[i]);
  str_append_text(sql, "updated_at = excluded.updated_at");
}

/* --- arrays --- */

static void add_integer(str *array, int32_t value) {
  uint32_t wire = htonl((uint32_t)value);
  pg_array_add(array, &wire, sizeof wire);
}

void pg_metrics_arrays_begin(pg_metrics_arrays *a, size_t n) {
  pg_array_begin(&a->columns[0], FLOAT8_OID, n);
  for (size_t i = 1; i < METRICS_N_OF_TEXT; i++) pg_array_begin(&a->columns[i], INT4_OID, n);
}

void pg_metrics_arrays_add(pg_metrics_arrays *a, const store_metrics *metrics) {
  uint64_t bits;
  memcpy(&bits, &metrics->ratio, sizeof bits);
  bits = htobe64(bits);
  if (metrics->has_ratio) pg_array_add(&a->columns[0], &bits, sizeof bits);
  else pg_array_add_null(&a->columns[0]);
  add_integer(&a->columns[1], metrics->word_count);
  add_integer(&a->columns[2], metrics->length);
  add_integer(&a->columns[3], metrics->entity_count);
}

bool pg_metrics_arrays_failed(const pg_metrics_arrays *a) {
  bool failed = false;
  for (size_t i = 0; i < METRICS_N_OF_TEXT; i++) failed |= a->columns[i].failed;
  return failed;
}

void pg_metrics_arrays_fini(pg_metrics_arrays *a) {
  for (size_t i = 0; i < METRICS_N_OF_TEXT; i++) str_fini(&a->columns[i]);
}

void pg_metrics_add_params(pg_params *p, const pg_metrics_arrays *a) {
  for (size_t i = 0; i < METRICS_N_OF_TEXT; i++) pg_add_binary(p, &a->columns[i]);
}

void pg_metrics_append_unnest(str *sql, int first) {
  str_append_format(sql, ", $%d::float8[], $%d::int4[], $%d::int4[], $%d::int4[]", first, first + 1,
                    first + 2, first + 3);
}

void pg_metrics_append_names(str *sql) {
  str_append_text(sql, ", m0, m1, m2, m3");
}

void pg_metrics_append_returning(str *sql, const pg_store *s) {
  str_append_text(sql, ", vecmill_d.m0, vecmill_d.m1, vecmill_d.m2, vecmill_d.m3");
  pg_metrics_append_places(sql, s);
}

/* " AND NOT EXISTS ..": the row may be that of a text of another table of the corpus, which its
 * length then tells: of another text it would be numbers that are wrong. */
static void append_unless_of_sharers(str *sql, const pg_store *s) {
  const pg_metrics *m = &s->metrics;
  for (size_t i = 0; i < METRICS_N_SHARERS && m->sharers[i]; i++) {
    str_append_format(sql, " AND NOT EXISTS (SELECT 1 FROM %s AS x WHERE x.", m->sharers[i]);
    pg_append_name(sql, m->joins[0].name);
    str_append_text(sql, " = m.");
    pg_append_name(sql, m->joins[0].name);
    str_append_text(sql, " AND length(x.text::text) = m.length::numeric AND NOT ");
    pg_append_blank_text(sql, s, "x.text");
    str_append_char(sql, ')');
  }
}

void pg_metrics_append_removal(str *sql, const pg_store *s) {
  const pg_metrics *m = &s->metrics;
  const char *u = pg_alias(s, "u"), *v = pg_alias(s, "v");
  str_append_format(sql, ", m AS (%s %s AS m", m->has_more ? "UPDATE" : "DELETE FROM", m->rows_sql);
  for (size_t i = 0; m->has_more && i < METRICS_N_COLUMNS; i++)
    str_append_format(sql, "%s%s = %s", i ? ", " : " SET ", metrics_columns[i],
                      i + 1 < METRICS_N_COLUMNS ? metrics_nothing(m->is_strict[i]) : "now()");
  str_append_format(sql, " %s u AS %s WHERE true", m->has_more ? "FROM" : "USING", u);
  for (size_t i = 0; i < m->n_joins; i++) {
    str_append_text(sql, " AND m.");
    pg_append_name(sql, m->joins[i].name);
    str_append_format(sql, " = %s.j%zu", u, i);
    pg_metrics_append_collation(sql, &m->joins[i]);
  }
  append_unless_of_sharers(sql, s);
  if (m->is_shared) {
    /* another row's, if there is one: the end of the run puts its numbers there */
    str_append_format(sql, " AND NOT EXISTS (SELECT 1 FROM %s WHERE ", s->table_sql);
    pg_append_column(sql, s, s->vector_column);
    str_append_format(sql, " IS NOT NULL AND NOT EXISTS (SELECT 1 FROM u AS %s WHERE %s.key = ", v,
                      v);
    pg_append_record_key(sql, s, NULL);
    str_append_char(sql, ')');
    for (size_t i = 0; i < m->n_joins; i++) {
      str_append_text(sql, " AND ");
      pg_append_column(sql, s, m->joins[i].name);
      str_append_format(sql, " = %s.j%zu", u, i);
    }
    str_append_char(sql, ')');
  }
  str_append_char(sql, ')');
}

void pg_metrics_append_cte(str *sql, const pg_store *s) {
  str_append_text(sql, ", m AS (");
  pg_metrics_append_insert(sql, s, "(SELECT * FROM u WHERE kept) AS u");
  str_append_char(sql, ')');
}
