/*
 * Which table a word means: its name as it is spelled, schema.table, or both quoted as in SQL.
 */
#include <string.h>

#include "base/mem.h"
#include "store/pg_parts.h"

/* Schemas that are neither the server's nor ours, as s. */
#define THEIRS                                                                                     \
  "nspname NOT IN ('pg_catalog', 'information_schema') AND nspname !~ '^pg_' AND nspname <> "      \
  "$1::text"

/* What there is: tables; those of that name elsewhere; schemas, where the one that was named is
 * none. */
static vecmill_status list_what_is(pg_store *s, const char *name, PGresult **row_out,
                                   vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  str_append_text(
      &sql,
      "WITH them AS (SELECT c.oid, nspname, relname FROM pg_class AS c JOIN pg_namespace AS s ON "
      "s.oid = relnamespace WHERE relkind IN ('r', 'p') AND " THEIRS ") SELECT (SELECT "
      "string_agg(n, ', ' ORDER BY n) FROM (SELECT CASE WHEN strpos(nspname || relname, '.') > 0 "
      "THEN quote_ident(nspname) || '.' || quote_ident(relname) WHEN pg_table_is_visible(oid) THEN "
      "relname ELSE nspname || '.' || relname END AS n FROM them ORDER BY 1 LIMIT 20) AS names), "
      "(SELECT string_agg(quote_ident(nspname) || '.' || quote_ident(relname), ', ' ORDER BY "
      "nspname) FROM them WHERE relname IN ($2::text, lower($2::text))), (SELECT "
      "string_agg(nspname, ', ' ORDER BY nspname) FROM pg_namespace WHERE " THEIRS
      " HAVING NOT bool_or(nspname = $3::text))");
  pg_add_text(&p, s->state);
  pg_add_text(&p, name);
  pg_add_text(&p, s->schema_wanted);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the catalog", row_out, err);
  str_fini(&sql);
  return status;
}

static vecmill_status missing_table(pg_store *s, const char *name, vecmill_error *err) {
  PGresult *row = NULL;
  vecmill_status status = list_what_is(s, name, &row, err);
  if (status == VECMILL_OK) {
    const char *tables = pg_text(row, 0, 0), *same = pg_text(row, 0, 1),
               *schemas = pg_text(row, 0, 2);
    const char *schema = s->schema_wanted ? s->schema_wanted : "";
    if (*schemas)
      err_set(err, VECMILL_ERROR_NOT_FOUND, "%s: no schema %s (schemas: %s)", s->shown, schema,
              schemas);
    else if (*same)
      err_set(err, VECMILL_ERROR_NOT_FOUND, "%s: no table %s %s%s (there is %s: name it so%s)",
              s->shown, name, *schema ? "in schema " : "on the search path", schema, same,
              *schema ? ", without --schema" : "");
    else
      err_set(err, VECMILL_ERROR_NOT_FOUND, "%s: no table %s (%s%s)", s->shown, name,
              *tables ? "tables: " : "the database holds no table that this user sees", tables);
    status = VECMILL_ERROR_NOT_FOUND;
  }
  PQclear(row);
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
static vecmill_status look_up_quoted(pg_store *s, const char *wanted, const char *name,
                                     PGresult **rows_out, vecmill_error *err) {
  str parts[2] = {{0}, {0}};
  const char *at = name;
  bool is_any = take_part(&at, &parts[0]), is_one = is_any && *at == '\0';
  bool is_two = is_any && *at == '.' && (at++, take_part(&at, &parts[1])) && *at == '\0';
  const char *schema = is_two ? parts[0].data : wanted;
  bool fits = (is_one || is_two) && (!wanted || !schema || strcmp(schema, wanted) == 0);
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

/* Any number of rows. */
static vecmill_status look_for(pg_store *s, const char *schema, const char *name,
                               PGresult **rows_out, vecmill_error *err) {
  char *folded = mem_strdup(name);
  if (!folded) return err_set_memory(err, name, strlen(name));
  for (char *c = folded; *c; c++) *c = str_lower(*c);
  const char *const tries[][2] = {
      {by_name, name}, {by_name, folded}, {by_both, name}, {by_both, folded}};
  vecmill_status status = VECMILL_OK;
  size_t n_tries = strchr(name, '.') ? 4 : 2;
  int n = 0;
  for (size_t i = 0; status == VECMILL_OK && n == 0 && i < n_tries; i++) {
    status = look_up(s, tries[i][0], schema, tries[i][1], rows_out, err);
    if (status == VECMILL_OK) n = PQntuples(*rows_out);
  }
  mem_free(folded);
  if (status == VECMILL_OK && n == 0 && strchr(name, '"'))
    status = look_up_quoted(s, schema, name, rows_out, err);
  return status;
}

vecmill_status pg_find_relation(pg_store *s, const char *name, PGresult **rows_out,
                                vecmill_error *err) {
  vecmill_status status = look_for(s, s->schema_wanted, name, rows_out, err);
  if (status == VECMILL_OK && PQntuples(*rows_out) == 0) return missing_table(s, name, err);
  return status == VECMILL_OK && PQntuples(*rows_out) > 1 ? ambiguous(s, name, *rows_out, err)
                                                          : status;
}

vecmill_status pg_find_beside(pg_store *s, const char *name, PGresult **rows_out,
                              vecmill_error *err) {
  vecmill_status status = look_for(s, s->schema, name, rows_out, err);
  if (status == VECMILL_OK && PQntuples(*rows_out) == 0 && strpbrk(name, ".\""))
    status = look_for(s, NULL, name, rows_out, err);
  return status == VECMILL_OK && PQntuples(*rows_out) > 1 ? ambiguous(s, name, *rows_out, err)
                                                          : status;
}

/* --- what is to be made --- */

vecmill_status pg_find_schema(pg_store *s, char **name, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT nspname::text, (nspname = $1::text)::text FROM pg_namespace WHERE "
                        "lower(nspname::text COLLATE \"C\") = lower($1::text COLLATE \"C\") "
                        "ORDER BY nspname = $1::text DESC");
  pg_add_text(&p, *name);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the catalog", &rows, err);
  if (status == VECMILL_OK && PQntuples(rows) > 0 &&
      (PQntuples(rows) == 1 || pg_text(rows, 0, 1)[0] == 't')) {
    char *found = mem_strdup(pg_text(rows, 0, 0));
    if (!found) status = err_set_memory(err, *name, strlen(*name));
    else mem_free(*name), *name = found;
  }
  PQclear(rows);
  str_fini(&sql);
  return status;
}

/* Behind one part: without a quote at its head, one within is a letter as others are. */
static bool pass_part(const char **at) {
  str scratch = {0};
  if (**at == '"') {
    bool good = take_part(at, &scratch) || scratch.failed;
    str_fini(&scratch);
    return good;
  }
  size_t n = strcspn(*at, ".");
  *at += n;
  return n > 0;
}

/* One part as it is written, or within SQL's quotes. */
static char *part_as_written(const char *from, size_t n) {
  str part = {0};
  if (*from != '"') str_append(&part, from, n);
  else take_part(&from, &part);
  return part.failed ? NULL : part.data;
}

vecmill_status pg_part_name(pg_store *s, const char *word, char **schema_out, char **table_out,
                            vecmill_error *err) {
  const char *dot = word, *table = word, *end;
  bool good = pass_part(&dot), has_schema = good && *dot == '.';
  end = dot;
  if (has_schema) {
    table = end = dot + 1;
    good = pass_part(&end);
  }
  good = good && *end == '\0';
  if (!good)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "--metrics-table %s: no such table, and no name of one to make (give TABLE or "
                   "SCHEMA.TABLE, either of them in SQL's quotes)",
                   word);
  *table_out = part_as_written(table, (size_t)(end - table));
  *schema_out = has_schema ? part_as_written(word, (size_t)(dot - word)) : mem_strdup(s->schema);
  if (!*table_out || !*schema_out) return err_set_memory(err, word, strlen(word));
  return has_schema && *word != '"' ? pg_find_schema(s, schema_out, err) : VECMILL_OK;
}
