/*
 * Which table a word means: its name as it is spelled, schema.table, or both quoted as in SQL.
 */
#include <string.h>

#include "base/mem.h"
#include "store/pg_parts.h"

static vecmill_status missing_table(pg_store *s, const char *name, vecmill_error *err) {
  str sql = {0}, list = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql,
                  "SELECT string_agg(n, ', ' ORDER BY n) FROM (SELECT CASE WHEN "
                  "strpos(nspname || relname, '.') > 0 THEN quote_ident(nspname) || '.' || "
                  "quote_ident(relname) WHEN pg_table_is_visible(c.oid) THEN relname ELSE nspname "
                  "|| '.' || relname END AS n "
                  "FROM pg_class AS c JOIN pg_namespace AS s ON s.oid = relnamespace "
                  "WHERE relkind IN ('r', 'p') AND nspname NOT IN ('pg_catalog', "
                  "'information_schema') AND nspname !~ '^pg_' AND nspname <> $1::text "
                  "ORDER BY 1 LIMIT 20) AS names");
  pg_add_text(&p, s->state);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the catalog", &rows, err);
  if (status == VECMILL_OK) str_append_text(&list, pg_text(rows, 0, 0));
  if (status == VECMILL_OK)
    status = err_set(err, VECMILL_ERROR_NOT_FOUND, "%s: no table %s (%s%s)", s->shown, name,
                     list.n ? "tables: " : "the database holds no table that this user sees",
                     list.n ? list.data : "");
  PQclear(rows);
  str_fini(&sql);
  str_fini(&list);
  return status;
}

/* Rows of (oid, schema, name, kind, those that inherit from it, both names as in SQL) of those for
 * which `condition` holds on $1 and $2. */
static vecmill_status look_up(pg_store *s, const char *condition, const char *schema,
                              const char *name, PGresult **rows_out, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PQclear(*rows_out);
  str_append_text(&sql, "SELECT c.oid::text, nspname::text, relname::text, relkind::text, (SELECT "
                        "string_agg(i::regclass::text, ', ') FROM (SELECT inhrelid AS i FROM "
                        "pg_inherits WHERE inhparent = c.oid ORDER BY 1 LIMIT 10) AS h), "
                        "quote_ident(nspname) || '.' || quote_ident(relname) FROM "
                        "pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace "
                        "WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND ");
  str_append_format(&sql, "%s ORDER BY 6", condition);
  pg_add_text(&p, schema);
  pg_add_text(&p, name);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the catalog", rows_out, err);
  str_fini(&sql);
  return status;
}

static const char by_name[] = "relname = $2::text AND CASE WHEN $1::text IS NULL THEN "
                              "pg_table_is_visible(c.oid) ELSE nspname = $1::text END";
/* A schema and a table with a dot between them, wherever in the word that is. */
static const char by_both[] = "nspname::text || '.' || relname::text = $2::text AND nspname = "
                              "coalesce($1::text, nspname)";

/* One part of a name, quoted ("" within is a quote) or in lower case. False: it is none. */
static bool take_part(const char **at, str *part) {
  const char *c = *at;
  bool is_quoted = *c == '"', is_closed = !is_quoted;
  for (c += is_quoted; *c && (is_quoted || (*c != '.' && *c != '"')); c++) {
    is_closed = !is_quoted || (*c == '"' && *++c != '"');
    if (is_quoted && is_closed) break;
    str_append_char(part, is_quoted ? *c : str_lower(*c));
  }
  *at = c;
  return part->n > 0 && is_closed && (*c == '\0' || *c == '.');
}

/* "schema"."table" as SQL has it, either of them in quotes, or "table". */
static vecmill_status look_up_quoted(pg_store *s, const char *name, PGresult **rows_out,
                                     vecmill_error *err) {
  str parts[2] = {{0}, {0}};
  const char *at = name;
  bool is_any = take_part(&at, &parts[0]), is_one = is_any && *at == '\0';
  bool is_two = is_any && *at == '.' && (at++, take_part(&at, &parts[1])) && *at == '\0';
  const char *schema = is_two ? parts[0].data : s->schema_wanted;
  bool fits =
      (is_one || is_two) && (!s->schema_wanted || !schema || strcmp(schema, s->schema_wanted) == 0);
  vecmill_status status = VECMILL_OK;
  if (parts[0].failed || parts[1].failed) status = err_set_memory(err, name, strlen(name));
  else if (fits) status = look_up(s, by_name, schema, parts[is_two].data, rows_out, err);
  str_fini(&parts[0]);
  str_fini(&parts[1]);
  return status;
}

static vecmill_status ambiguous(const pg_store *s, const char *name, const PGresult *rows,
                                vecmill_error *err) {
  str list = {0};
  for (int i = 0; i < PQntuples(rows); i++)
    str_append_format(&list, "%s%s", i ? ", " : "", pg_text(rows, i, 5));
  vecmill_status status =
      err_set(err, VECMILL_ERROR_ARGUMENT, "%s: %s may be any of %s (give it so, with its quotes)",
              s->shown, name, list.failed ? "several" : list.data);
  str_fini(&list);
  return status;
}

vecmill_status pg_find_relation(pg_store *s, const char *name, PGresult **rows_out,
                                vecmill_error *err) {
  char *folded = mem_strdup(name);
  if (!folded) return err_set_memory(err, name, strlen(name));
  for (char *c = folded; *c; c++) *c = str_lower(*c);
  const char *const tries[][2] = {
      {by_name, name}, {by_name, folded}, {by_both, name}, {by_both, folded}};
  vecmill_status status = VECMILL_OK;
  size_t n_tries = strchr(name, '.') ? 4 : 2;
  int n = 0;
  for (size_t i = 0; status == VECMILL_OK && n == 0 && i < n_tries; i++) {
    status = look_up(s, tries[i][0], s->schema_wanted, tries[i][1], rows_out, err);
    if (status == VECMILL_OK) n = PQntuples(*rows_out);
  }
  mem_free(folded);
  if (status == VECMILL_OK && n == 0 && strchr(name, '"')) {
    status = look_up_quoted(s, name, rows_out, err);
    if (status == VECMILL_OK) n = PQntuples(*rows_out);
  }
  if (status == VECMILL_OK && n == 0) return missing_table(s, name, err);
  return status == VECMILL_OK && n > 1 ? ambiguous(s, name, *rows_out, err) : status;
}
