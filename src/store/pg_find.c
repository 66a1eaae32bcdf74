/*
 * Which table, which columns, in PostgreSQL.
 *
 * A name is looked for as it is written, then in lower case, as SQL would fold it, a column's then
 * without regard to ASCII case; from then on it is spelled as the catalog spells it, and always
 * quoted.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "store/find_names.h"
#include "store/pg_parts.h"

typedef struct column_info {
  const char *name, *type, *collation; /* in the result that lists them */
  const char *unseen;                  /* schema of its type's operators; "": none to be named */
  Oid base_oid;                        /* of its type, or of what that is a domain over */
  int dimension;                       /* of a vector type as declared; -1: any */
  int key_position;                    /* in the primary key, from 1 on; 0: no part of it */
  bool is_text, is_vector, is_half, not_null, generated;
  bool is_long;   /* its values may have any length */
  bool is_steady; /* written the same whatever the session's settings */
} column_info;

typedef struct table_info {
  PGresult *rows;
  column_info *columns;
  size_t n;
  char oid[16];
} table_info;

static void table_info_fini(table_info *info) {
  PQclear(info->rows);
  mem_free(info->columns);
}

static char *lower(const char *name) {
  char *copy = mem_strdup(name);
  for (char *c = copy; c && *c; c++) *c = str_lower(*c);
  return copy;
}

static const column_info *column_spelled(const table_info *info, const char *name) {
  for (size_t i = 0; i < info->n; i++)
    if (strcmp(info->columns[i].name, name) == 0) return &info->columns[i];
  return NULL;
}

/* The only one that is called so but for ASCII case; NULL: none, or several. */
static const column_info *column_sounding(const table_info *info, const char *name) {
  const column_info *found = NULL;
  for (size_t i = 0; i < info->n; i++) {
    if (!str_same(info->columns[i].name, name)) continue;
    if (found) return NULL;
    found = &info->columns[i];
  }
  return found;
}

static const column_info *column_named(const table_info *info, const char *name) {
  const column_info *found = column_spelled(info, name);
  char *folded = found ? NULL : lower(name);
  if (folded) found = column_spelled(info, folded);
  mem_free(folded);
  return found ? found : column_sounding(info, name);
}

/* --- the table --- */

static vecmill_status find_table(pg_store *s, const char *name, table_info *info,
                                 vecmill_error *err) {
  PGresult *rows = NULL;
  str sql = {0};
  vecmill_status status = pg_find_relation(s, name, &rows, err);
  if (status != VECMILL_OK) {
    PQclear(rows);
    return status;
  }
  char kind = pg_text(rows, 0, 3)[0];
  snprintf(info->oid, sizeof info->oid, "%s", pg_text(rows, 0, 0));
  snprintf(s->table_oid, sizeof s->table_oid, "%s", info->oid);
  s->schema = mem_strdup(pg_text(rows, 0, 1));
  s->table = mem_strdup(pg_text(rows, 0, 2));
  if (kind != 'r' && kind != 'p')
    status = store_no_table(name,
                            kind == 'f'   ? "foreign table"
                            : kind == 'm' ? "materialized view"
                                          : "view",
                            err);
  if (kind == 'r') str_append_text(&sql, "ONLY ");
  size_t n_before = sql.n;
  pg_append_name(&sql, s->schema ? s->schema : "");
  str_append_char(&sql, '.');
  pg_append_name(&sql, s->table ? s->table : "");
  s->table_sql = sql.data;
  s->table_name = sql.failed ? NULL : mem_strdup(sql.data + n_before);
  if (!s->schema || !s->table || !s->table_name) status = err_set_memory(err, name, sql.n);
  if (status == VECMILL_OK && strcmp(s->schema, s->state) == 0)
    status = err_set(err, VECMILL_ERROR_ARGUMENT,
                     "table %s: lies in schema %s, where vecmill keeps its own state (name a table "
                     "of yours, or another schema with --state-schema)",
                     s->table, s->schema);
  if (status == VECMILL_OK && kind == 'r' && *pg_text(rows, 0, 4))
    log_note(
        "table %s: its own rows alone, not those of tables that inherit from it: %s (name each "
        "of them for its own)",
        s->table, pg_text(rows, 0, 4));
  PQclear(rows);
  return status;
}

/* Besides strings, booleans and enums: int8, int2, int4, oid, json, numeric, uuid and jsonb
 * (pg_type.dat). All others, even if theirs is such a form, cost two round trips a statement. */
#define STEADY_TYPES "20, 21, 23, 26, 114, 1700, 2950, 3802"

/* One that is NOT VALID, which 18 has, says nothing of the rows that were there before. */
#define NO_NULLS                                                                                   \
  "attnotnull AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = a.attrelid AND "        \
  "contype = 'n' AND NOT convalidated AND conkey = ARRAY[a.attnum])"

/* The schema of the operators that the type's own order is made of (btree is 403, pg_am.dat), as
 * SQL; NULL where the search path leads to them. */
#define UNSEEN_OPERATORS                                                                           \
  "(SELECT quote_ident(pn.nspname) FROM pg_opclass AS k JOIN pg_amop AS m ON m.amopfamily = "      \
  "k.opcfamily AND m.amoplefttype = k.opcintype AND m.amoprighttype = k.opcintype AND "            \
  "m.amopstrategy = 1 JOIN pg_operator AS o ON o.oid = m.amopopr JOIN pg_namespace AS pn ON "      \
  "pn.oid = o.oprnamespace WHERE k.opcdefault AND k.opcmethod = 403 AND k.opcintype = t AND NOT "  \
  "pg_operator_is_visible(o.oid))"

static vecmill_status read_columns(pg_store *s, table_info *info, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  str_append_text(
      &sql,
      /* down to the type that a domain is over, perhaps by way of another; its modifier is the last
       * one's */
      "WITH RECURSIVE base AS (SELECT attnum AS n, atttypid AS t, atttypmod AS m FROM pg_attribute "
      "WHERE attrelid = $1::oid UNION ALL SELECT n, typbasetype, typtypmod FROM base JOIN pg_type "
      "AS d ON d.oid = t AND typtype = 'd') "
      "SELECT attname::text, " PG_TYPE_NAME_OF "atttypid), t::text, m::text, (y.typcategory = "
      "'S')::text, b.typname::text, (" NO_NULLS ")::text, (attgenerated <> '')::text, "
      "coalesce((SELECT array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], a.attnum) FROM "
      "pg_index AS i WHERE i.indrelid = a.attrelid AND i.indisprimary), 0)::text, (y.typcategory "
      "IN ('S', 'B', 'E') OR t IN (" STEADY_TYPES "))::text, CASE WHEN attcollation <> "
      "y.typcollation THEN " PG_COLLATION_OF_A " END, (y.typlen < 0)::text, " UNSEEN_OPERATORS
      " FROM pg_attribute AS a JOIN pg_type AS y ON y.oid = atttypid JOIN base ON n = attnum JOIN "
      "pg_type AS b ON b.oid = t AND b.typtype <> 'd' "
      "WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum");
  pg_add_text(&p, info->oid);
  vecmill_status status =
      pg_run(s, PG_READER, &sql, &p, "cannot read the columns", &info->rows, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  size_t n = (size_t)PQntuples(info->rows);
  info->columns = mem_calloc(n ? n : 1, sizeof *info->columns);
  if (!info->columns) return err_set_memory(err, s->table, n * sizeof *info->columns);
  info->n = n;
  for (size_t i = 0; i < n; i++) {
    int row = (int)i;
    const char *type_name = pg_text(info->rows, row, 5);
    bool is_half = strcmp(type_name, "halfvec") == 0;
    info->columns[i] = (column_info){.name = pg_text(info->rows, row, 0),
                                     .type = pg_text(info->rows, row, 1),
                                     .is_long = pg_text(info->rows, row, 11)[0] == 't',
                                     .collation = pg_text(info->rows, row, 10),
                                     .unseen = pg_text(info->rows, row, 12),
                                     .base_oid = (Oid)pg_integer(info->rows, row, 2),
                                     .dimension = (int)pg_integer(info->rows, row, 3),
                                     .is_text = pg_text(info->rows, row, 4)[0] == 't',
                                     .is_half = is_half,
                                     .is_vector = is_half || strcmp(type_name, "vector") == 0,
                                     .not_null = pg_text(info->rows, row, 6)[0] == 't',
                                     .is_steady = pg_text(info->rows, row, 9)[0] == 't',
                                     .generated = pg_text(info->rows, row, 7)[0] == 't',
                                     .key_position = (int)pg_integer(info->rows, row, 8)};
  }
  return VECMILL_OK;
}

static vecmill_status no_such_column(const pg_store *s, const table_info *info, const char *name,
                                     const char *option, vecmill_error *err) {
  const char *columns[FIND_MOST_NAMES];
  size_t n = 0;
  for (; n < info->n && n < FIND_MOST_NAMES; n++) columns[n] = info->columns[n].name;
  return store_no_such_column(s->table, name, option, columns, n, err);
}

/* --- the key --- */

/* bool; int8, int2, int4, float4, float8, numeric (pg_type.dat), or a domain over one of these. */
static pg_key_form form_of(Oid type) {
  static const Oid numbers[] = {20, 21, 23, 700, 701, 1700};
  if (type == 16) return PG_KEY_BOOLEAN;
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
    if (numbers[i] == type) return PG_KEY_NUMBER;
  return PG_KEY_TEXT;
}

static vecmill_status add_key(pg_store *s, const column_info *column, vecmill_error *err) {
  if (s->n_keys == PG_MAX_KEYS)
    return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                   "table %s: a key of more than %d columns (name fewer with --id-column)",
                   s->table, PG_MAX_KEYS);
  pg_key_column *key = &s->keys[s->n_keys++];
  s->null_keys |= !column->not_null;
  s->forms_vary |= !column->is_steady;
  s->long_keys |= column->is_long;
  if (*column->unseen) {
    s->forms_vary = true;
    str_append_format(&s->more_path, "%s%s", s->more_path.n ? ", " : "", column->unseen);
    if (s->more_path.failed) return err_set_memory(err, column->name, s->more_path.n);
  }
  vecmill_status status =
      pg_key_column_init(key, column->name, column->type, column->collation, err);
  key->form = form_of(column->base_oid);
  return status;
}

static vecmill_status primary_key(pg_store *s, const table_info *info, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  for (int position = 1; status == VECMILL_OK; position++) {
    const column_info *column = NULL;
    for (size_t i = 0; i < info->n; i++)
      if (info->columns[i].key_position == position) column = &info->columns[i];
    if (!column) break;
    status = add_key(s, column, err);
  }
  if (status == VECMILL_OK && s->n_keys == 0)
    status = err_set(err, VECMILL_ERROR_ARGUMENT,
                     "table %s: no primary key, so its rows cannot be told apart (name unique "
                     "columns with --id-column)",
                     s->table);
  return status;
}

static vecmill_status named_key(pg_store *s, const table_info *info, const char *names,
                                vecmill_error *err) {
  char *copy = mem_strdup(names), *rest = copy, *name;
  if (!copy) return err_set_memory(err, names, strlen(names));
  vecmill_status status = VECMILL_OK;
  if (column_named(info, names)) /* a column whose own name holds a comma */
    rest = NULL, status = add_key(s, column_named(info, names), err);
  while (status == VECMILL_OK && (name = strsep(&rest, ",")) != NULL) {
    name += strspn(name, " ");
    for (size_t n = strlen(name); n > 0 && name[n - 1] == ' '; n--) name[n - 1] = '\0';
    const column_info *column = column_named(info, name);
    status = column ? add_key(s, column, err) : no_such_column(s, info, name, "--id-column", err);
  }
  mem_free(copy);
  return status;
}

/* A unique index over just the ids: it proves uniqueness for good, and pages follow it. That of a
 * deferrable constraint does: nobody but the transaction itself sees what is not unique yet. */
static vecmill_status check_unique(pg_store *s, const table_info *info, vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT count(*)::text FROM pg_index AS i WHERE indrelid = $1::oid AND "
                        "indisunique AND indisvalid AND indpred IS NULL AND "
                        "indexprs IS NULL AND indnkeyatts = ");
  str_append_format(&sql, "%zu", s->n_keys);
  for (size_t i = 0; i < s->n_keys; i++) {
    str_append_text(&sql, " AND EXISTS (SELECT 1 FROM pg_attribute AS a WHERE a.attrelid = "
                          "i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:indnkeyatts - 1]) "
                          "AND a.attname = ");
    pg_append_string(&sql, s->keys[i].name);
    str_append_text(&sql, ")");
  }
  pg_add_text(&p, info->oid);
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the indexes", &rows, err);
  str_fini(&sql);
  if (status == VECMILL_OK && pg_integer(rows, 0, 0) == 0)
    status = err_set(err, VECMILL_ERROR_ARGUMENT,
                     "table %s: nothing keeps %s unique (CREATE UNIQUE INDEX on it)", s->table,
                     s->id_list);
  PQclear(rows);
  return status;
}

static vecmill_status settle_key(pg_store *s, const table_info *info, vecmill_error *err) {
  str list = {0}, keys = {0};
  for (size_t i = 0; i < s->n_keys; i++)
    str_append_format(&list, "%s%s", i ? ", " : "", s->keys[i].name);
  pg_append_keys(&keys, s);
  s->id_list = list.data;
  s->keys_sql = keys.data;
  if (list.failed || keys.failed) return err_set_memory(err, s->table, list.n);
  return check_unique(s, info, err);
}

/* --- text and vectors --- */

static bool is_key(const pg_store *s, const char *name) {
  for (size_t i = 0; i < s->n_keys; i++)
    if (strcmp(s->keys[i].name, name) == 0) return true;
  return false;
}

static vecmill_status only_text_column(const pg_store *s, const table_info *info,
                                       const column_info **column_out, vecmill_error *err) {
  str list = {0};
  size_t n = 0;
  for (size_t i = 0; i < info->n; i++) {
    if (!info->columns[i].is_text || is_key(s, info->columns[i].name)) continue;
    str_append_format(&list, "%s%s", n++ ? ", " : "", info->columns[i].name);
    *column_out = &info->columns[i];
  }
  vecmill_status status = VECMILL_OK;
  if (n == 0)
    status = err_set(err, VECMILL_ERROR_ARGUMENT,
                     "table %s: no text column found (name it with --text-column)", s->table);
  if (n > 1)
    status = err_set(err, VECMILL_ERROR_ARGUMENT,
                     "table %s: more than one text column: %s (choose with --text-column)",
                     s->table, list.data ? list.data : "");
  str_fini(&list);
  return status;
}

static vecmill_status find_text_column(pg_store *s, const table_info *info, const char *wanted,
                                       vecmill_error *err) {
  const column_info *column = NULL;
  store_maker record;
  bool found = false;
  vecmill_status status = VECMILL_OK;
  if (wanted) {
    column = column_named(info, wanted);
    if (!column) return no_such_column(s, info, wanted, "--text-column", err);
  } else {
    status = pg_store_record(&s->base, &record, &found, err);
    if (status != VECMILL_OK) return status;
    if (found && *record.text_column) column = column_spelled(info, record.text_column);
  }
  for (size_t i = 0; !column && i < N_TEXT_NAMES; i++) {
    column = column_named(info, text_names[i]);
    if (column && (!column->is_text || is_key(s, column->name))) column = NULL;
  }
  if (!column && s->is_barred) status = pg_ask_for_grants(s, err); /* the record may say it */
  else if (!column) status = only_text_column(s, info, &column, err);
  if (status != VECMILL_OK) return status;
  bool is_vector = strcmp(column->name, s->vector_column) == 0;
  if (!is_vector && !column->is_text)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "table %s: %s is of type %s, which is no text (name another column with "
                   "--text-column, or put what it says into one of type text)",
                   s->table, column->name, column->type);
  if (is_vector)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "table %s: %s cannot be both text and vector column (name another with "
                   "--vector-column)",
                   s->table, column->name);
  s->forms_vary |= !column->is_steady;
  s->text_column = mem_strdup(column->name);
  return s->text_column ? VECMILL_OK : err_set_memory(err, column->name, 64);
}

/* Without a name: "embedding", else the only column of a vector type, else "embedding" to be added.
 */
static const column_info *guess_vector_column(const table_info *info) {
  const column_info *only = column_spelled(info, "embedding");
  size_t n = 0;
  if (only) return only;
  only = column_sounding(info, "embedding");
  if (only && only->is_vector) return only;
  for (size_t i = 0; i < info->n; i++)
    if (info->columns[i].is_vector) n++, only = &info->columns[i];
  return n == 1 ? only : NULL;
}

/* The type as SQL, and its number for arrays; NULL without pgvector. */
static vecmill_status find_vector_type(pg_store *s, const column_info *column, vecmill_error *err) {
  str sql = {0}, name = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  char oid[16];
  str_append_text(&sql, "SELECT y.oid::text, nspname::text, typname::text FROM pg_type AS y JOIN "
                        "pg_namespace AS n ON n.oid = typnamespace WHERE ");
  if (column) {
    snprintf(oid, sizeof oid, "%u", column->base_oid);
    str_append_text(&sql, "y.oid = $1::oid");
    pg_add_text(&p, oid);
  } else {
    str_append_text(&sql, "y.oid = (SELECT objid FROM pg_depend AS d JOIN pg_extension AS e ON "
                          "e.oid = d.refobjid JOIN pg_type AS v ON v.oid = d.objid WHERE extname = "
                          "'vector' AND typname = 'vector' AND d.classid = 'pg_type'::regclass)");
  }
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot read the types", &rows, err);
  str_fini(&sql);
  if (status == VECMILL_OK && PQntuples(rows) > 0) {
    s->vector_oid = (Oid)pg_integer(rows, 0, 0);
    pg_append_name(&name, pg_text(rows, 0, 1));
    s->vector_schema = name.failed ? NULL : mem_strdup(name.data);
    str_append_char(&name, '.');
    pg_append_name(&name, pg_text(rows, 0, 2));
    s->vector_type = name.data;
    if (name.failed || !s->vector_schema) status = err_set_memory(err, "vector", 64);
  }
  PQclear(rows);
  return status;
}

static vecmill_status find_vector_column(pg_store *s, const table_info *info, const char *wanted,
                                         vecmill_error *err) {
  const column_info *column = wanted ? column_named(info, wanted) : guess_vector_column(info);
  const char *name = column ? column->name : wanted ? wanted : "embedding";
  if (!*name || is_key(s, name))
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "table %s: \"%s\" cannot be the vector column (name another with "
                   "--vector-column)",
                   s->table, name);
  if (column && column->generated)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "table %s: %s is a generated column, and vectors cannot be written there (name "
                   "another with --vector-column)",
                   s->table, name);
  if (column && !column->is_vector)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "table %s: %s is of type %s, not of pgvector's vector or halfvec (name another "
                   "with --vector-column)",
                   s->table, name, column->type);
  s->has_vector_column = column != NULL;
  s->is_half = column && column->is_half;
  s->vector_dimension = column ? column->dimension : -1;
  s->vector_column = mem_strdup(name);
  if (!s->vector_column) return err_set_memory(err, name, strlen(name));
  return find_vector_type(s, column, err);
}

/* --- where --- */

/* Compiled as it is, with nothing behind it that an error could name, and in brackets: "a) OR (b"
 * would undo the conditions beside it. */
static vecmill_status check_where(pg_store *s, const char *where, vecmill_error *err) {
  for (int brackets = 0; brackets < 2; brackets++) {
    str sql = {0};
    PGresult *rows = NULL;
    vecmill_error words = {0};
    str_append_format(&sql, "EXPLAIN SELECT 1 FROM %s WHERE %s%s%s", s->table_sql,
                      brackets ? "(" : "", where, brackets ? "\n)" : "");
    vecmill_status status = pg_run(s, PG_READER, &sql, NULL, "--where", &rows, &words);
    PQclear(rows);
    str_fini(&sql);
    if (status == VECMILL_OK) continue;
    if (pg_state_is("08P01") && strchr(where, '$'))
      return err_set(err, VECMILL_ERROR_ARGUMENT, "--where %s: no parameters here (give values)",
                     where);
    bool syntax = strncmp(pg_last_state(), "42", 2) == 0 || strncmp(pg_last_state(), "22", 2) == 0;
    if (!syntax || strcmp(pg_last_state(), "42501") == 0) {
      if (err) *err = words;
      return status;
    }
    char *why = strstr(words.text, ": --where: "), *advice = strstr(words.text, " meanwhile?)");
    while (advice && advice > words.text && *advice != '(') advice--;
    if (advice && advice > words.text) advice[-1] = '\0'; /* it never was there */
    return err_set(err, VECMILL_ERROR_ARGUMENT, "--where %s: %s (give what would follow WHERE)",
                   where, why ? why + 11 : words.text);
  }
  const char *zone = PQparameterStatus(s->connections[PG_READER].conn, "TimeZone");
  if (s->forms_vary && zone && strcmp(zone, "UTC") != 0 && strcmp(zone, "Etc/UTC") != 0)
    log_note("table %s: --where is read in time zone UTC, as the keys are, and not in %s", s->table,
             zone);
  s->where = mem_strdup(where);
  return s->where ? VECMILL_OK : err_set_memory(err, "--where", strlen(where));
}

vecmill_status pg_store_find(store *base, const store_target *target, store_columns *columns_out,
                             vecmill_error *err) {
  pg_store *s = pg_of(base);
  table_info info = {0};
  s->limit = target->limit;
  s->retry_failed = target->retry_failed;
  s->changed = target->changed;
  s->only_reads = target->only_reads;
  if (s->only_reads) pg_share_out(s, 1); /* one thing after the other */
  const pg_given_name names[] = {
      {"--schema", s->schema_wanted, NULL},
      {"--state-schema", s->state, NULL},
      /* of one in quotes the name is not known yet */
      {"table", strchr(target->table, '"') ? NULL : target->table, s->schema_wanted ? NULL : "."},
      {"--id-column", target->id_column, ","},
      {"--text-column", target->text_column, NULL},
      {"--vector-column", target->vector_column, NULL}};
  vecmill_status status = pg_check_names(s, names, sizeof names / sizeof *names, err);
  if (status == VECMILL_OK && s->schema_wanted) status = pg_find_schema(s, &s->schema_wanted, err);
  if (status == VECMILL_OK) status = find_table(s, target->table, &info, err);
  if (status == VECMILL_OK) status = read_columns(s, &info, err);
  if (status == VECMILL_OK)
    status = target->id_column ? named_key(s, &info, target->id_column, err)
                               : primary_key(s, &info, err);
  if (status == VECMILL_OK) status = settle_key(s, &info, err);
  if (status == VECMILL_OK) status = find_vector_column(s, &info, target->vector_column, err);
  if (status == VECMILL_OK) status = find_text_column(s, &info, target->text_column, err);
  if (status == VECMILL_OK && target->where) status = check_where(s, target->where, err);
  if (status == VECMILL_OK) status = pg_ask_view(s, err);
  table_info_fini(&info);
  if (status != VECMILL_OK) return status;
  *columns_out = (store_columns){.table = s->table,
                                 .id_columns = s->id_list,
                                 .text_column = s->text_column,
                                 .vector_column = s->vector_column,
                                 .failures = "failures",
                                 .failures_schema = s->state,
                                 .has_vector_column = s->has_vector_column};
  return VECMILL_OK;
}
