/*
 * Which table, which columns.
 *
 * Names are matched as SQLite does, without regard to ASCII case, and spelled
 * from then on as the schema spells them; every one of them is quoted.
 */
#include <string.h>

#include "base/mem.h"
#include "store/find_names.h"
#include "store/sqlite_parts.h"

#define MAX_COLUMNS 2000 /* SQLite's own default limit */

typedef struct column_info {
  char *name;
  bool text_affinity, not_null, generated;
  int key_position; /* in the primary key, from 1; 0: not in it */
} column_info;

typedef struct table_info {
  column_info *columns;
  size_t n;
} table_info;

static void table_info_fini(table_info *info) {
  for (size_t i = 0; i < info->n; i++) mem_free(info->columns[i].name);
  mem_free(info->columns);
}

static column_info *column_named(const table_info *info, const char *name) {
  for (size_t i = 0; i < info->n; i++)
    if (str_same(info->columns[i].name, name)) return &info->columns[i];
  return NULL;
}

/* SQLite's rules for a declared type (sqlite.org/datatype3.html, 3.1): INT wins over CHAR, CLOB and
 * TEXT. */
static bool has_text_affinity(const char *type) {
  if (!type || str_holds(type, "INT")) return false;
  return str_holds(type, "CHAR") || str_holds(type, "CLOB") || str_holds(type, "TEXT");
}

/* --- the table --- */

/* The names of the tables that there are, or "there is none". */
static void list_tables(sqlite_store *s, str *list) {
  sqlite3_stmt *statement = NULL;
  const char *sql =
      "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE "
      "'\\' "
      "AND name NOT IN ('vecmill_columns', 'vecmill_failures') ORDER BY name LIMIT 20";
  if (sqlite3_prepare_v2(s->db, sql, -1, &statement, NULL) != SQLITE_OK) return;
  while (sqlite3_step(statement) == SQLITE_ROW)
    str_append_format(list, "%s%s", list->n ? ", " : "tables: ", sqlite3_column_text(statement, 0));
  sqlite3_finalize(statement);
  if (!list->n) str_append_text(list, "the database holds no table");
}

static vecmill_status missing_table(sqlite_store *s, const char *name, vecmill_error *err) {
  str list = {0};
  list_tables(s, &list);
  vecmill_status status = err_set(err, VECMILL_ERROR_NOT_FOUND, "%s: no table %s (%s)", s->path,
                                  name, list.data ? list.data : "");
  str_fini(&list);
  return status;
}

/* Sets s->table, spelled as in the schema. */
static vecmill_status find_table(sqlite_store *s, const char *name, vecmill_error *err) {
  sqlite3_stmt *statement = NULL;
  str sql = {0};
  str_append_text(&sql, "SELECT name, type, sql LIKE 'create virtual%' FROM sqlite_schema "
                        "WHERE name = :name COLLATE NOCASE AND type IN ('table', 'view')");
  vecmill_status status = sqlite_compile(s, &sql, "cannot read the schema", &statement, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  sqlite_bind_text_at(statement, ":name", name);
  int code = sqlite3_step(statement);
  if (code == SQLITE_DONE) {
    status = missing_table(s, name, err);
  } else if (code != SQLITE_ROW) {
    status = sqlite_error(s, code, "cannot read the schema", err);
  } else if (strcmp((const char *)sqlite3_column_text(statement, 1), "view") == 0) {
    status = store_no_table(name, "view", err);
  } else if (sqlite3_column_int(statement, 2)) {
    status = err_set(
        err, VECMILL_ERROR_UNSUPPORTED,
        "%s: a virtual table, which cannot get a vector column (name an ordinary table)", name);
  } else {
    s->table = mem_strdup((const char *)sqlite3_column_text(statement, 0));
    if (!s->table) status = err_set_memory(err, name, strlen(name));
  }
  sqlite3_finalize(statement);
  if (status == VECMILL_OK &&
      (str_begins(s->table, "sqlite_") || str_same(s->table, "vecmill_columns") ||
       str_same(s->table, "vecmill_failures") || str_same(s->table, "vecmill_hashes")))
    status = err_set(err, VECMILL_ERROR_ARGUMENT,
                     "%s: not a table of yours (name one of your tables)", name);
  return status;
}

static vecmill_status read_columns(sqlite_store *s, table_info *info_out, vecmill_error *err) {
  sqlite3_stmt *statement = NULL;
  str sql = {0};
  /* xinfo lists generated columns too; hidden 1 are those of virtual tables. */
  str_append_text(
      &sql, "SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(:table, 'main') "
            "WHERE hidden <> 1");
  vecmill_status status = sqlite_compile(s, &sql, "cannot read the schema", &statement, err);
  str_fini(&sql);
  if (status != VECMILL_OK) return status;
  sqlite_bind_text_at(statement, ":table", s->table);
  info_out->columns = mem_calloc(MAX_COLUMNS, sizeof *info_out->columns);
  int code = SQLITE_NOMEM;
  while (info_out->columns && info_out->n < MAX_COLUMNS &&
         (code = sqlite3_step(statement)) == SQLITE_ROW) {
    column_info *column = &info_out->columns[info_out->n];
    column->name = mem_strdup((const char *)sqlite3_column_text(statement, 0));
    if (!column->name) break;
    column->text_affinity = has_text_affinity((const char *)sqlite3_column_text(statement, 1));
    column->not_null = sqlite3_column_int(statement, 2) != 0;
    column->key_position = sqlite3_column_int(statement, 3);
    column->generated = sqlite3_column_int(statement, 4) != 0;
    info_out->n++;
  }
  if (code != SQLITE_DONE && info_out->n < MAX_COLUMNS)
    status =
        sqlite_error(s, code == SQLITE_ROW ? SQLITE_NOMEM : code, "cannot read the columns", err);
  sqlite3_finalize(statement);
  return status;
}

static vecmill_status no_such_column(const sqlite_store *s, const table_info *info,
                                     const char *name, const char *option, vecmill_error *err) {
  const char *columns[FIND_MOST_NAMES];
  size_t n = 0;
  for (; n < info->n && n < FIND_MOST_NAMES; n++) columns[n] = info->columns[n].name;
  return store_no_such_column(s->table, name, option, columns, n, err);
}

/* --- the key --- */

static vecmill_status add_id(sqlite_store *s, const char *name, vecmill_error *err) {
  if (s->n_ids == SQLITE_STORE_MAX_KEYS)
    return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                   "table %s: a key of more than %d columns (name fewer with "
                   "--id-column)",
                   s->table, SQLITE_STORE_MAX_KEYS);
  s->ids[s->n_ids] = mem_strdup(name);
  if (!s->ids[s->n_ids]) return err_set_memory(err, name, strlen(name));
  s->n_ids++;
  return VECMILL_OK;
}

static const char *const rowid_names[] = {"rowid", "_rowid_", "oid"};
enum { N_ROWID_NAMES = sizeof rowid_names / sizeof *rowid_names };

static bool is_rowid(const char *name) {
  for (size_t i = 0; i < N_ROWID_NAMES; i++)
    if (str_same(name, rowid_names[i])) return true;
  return false;
}

/* A name of the rowid that no column takes from it; NULL when all are taken. */
static const char *free_rowid(const table_info *info) {
  for (size_t i = 0; i < N_ROWID_NAMES; i++)
    if (!column_named(info, rowid_names[i])) return rowid_names[i];
  return NULL;
}

/* The primary key's columns in the key's order. */
static vecmill_status primary_key(sqlite_store *s, const table_info *info, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  const char *rowid = free_rowid(info);
  for (int position = 1; status == VECMILL_OK; position++) {
    const char *name = NULL;
    for (size_t i = 0; i < info->n; i++)
      if (info->columns[i].key_position == position) name = info->columns[i].name;
    if (!name) break;
    status = add_id(s, name, err);
  }
  if (status == VECMILL_OK && s->n_ids == 0)
    status = err_set(
        err, VECMILL_ERROR_ARGUMENT,
        "table %s: no primary key, so its rows cannot be told apart (name a unique column with "
        "--id-column%s%s)",
        s->table, rowid ? ", or --id-column " : "", rowid ? rowid : "");
  return status;
}

/* The columns named by "a,b". */
static vecmill_status named_key(sqlite_store *s, const table_info *info, const char *names,
                                vecmill_error *err) {
  char *copy = mem_strdup(names), *rest = copy, *name;
  if (!copy) return err_set_memory(err, names, strlen(names));
  vecmill_status status = VECMILL_OK;
  /* A column whose own name holds a comma is meant as a whole. */
  if (column_named(info, names))
    rest = NULL, status = add_id(s, column_named(info, names)->name, err);
  while (status == VECMILL_OK && (name = strsep(&rest, ",")) != NULL) {
    name += strspn(name, " ");
    for (size_t n = strlen(name); n > 0 && name[n - 1] == ' '; n--) name[n - 1] = '\0';
    const column_info *column = column_named(info, name);
    if (column) status = add_id(s, column->name, err);
    else if (is_rowid(name) && !strchr(names, ',')) status = add_id(s, name, err);
    else status = no_such_column(s, info, name, "--id-column", err);
  }
  mem_free(copy);
  return status;
}

/* How many columns an index has, and whether they are the ids, in any order. */
static bool index_is_key(sqlite_store *s, const char *index) {
  sqlite3_stmt *statement = NULL;
  if (sqlite3_prepare_v2(s->db, "SELECT name FROM pragma_index_info(:index, 'main')", -1,
                         &statement, NULL) != SQLITE_OK)
    return false;
  sqlite_bind_text_at(statement, ":index", index);
  size_t n = 0, n_found = 0;
  while (sqlite3_step(statement) == SQLITE_ROW) {
    const char *name = (const char *)sqlite3_column_text(statement, 0);
    for (size_t i = 0; name && i < s->n_ids; i++) n_found += str_same(name, s->ids[i]);
    n++;
  }
  sqlite3_finalize(statement);
  return n == s->n_ids && n_found == n;
}

/* The unique, whole index over just the ids; *name_out NULL when there is none. */
static vecmill_status find_key_index(sqlite_store *s, char **name_out, vecmill_error *err) {
  sqlite3_stmt *statement = NULL;
  str sql = {0};
  str_append_text(
      &sql, "SELECT name FROM pragma_index_list(:table, 'main') WHERE \"unique\" AND NOT partial");
  vecmill_status status = sqlite_compile(s, &sql, "cannot read the schema", &statement, err);
  str_fini(&sql);
  *name_out = NULL;
  if (status != VECMILL_OK) return status;
  sqlite_bind_text_at(statement, ":table", s->table);
  while (!*name_out && sqlite3_step(statement) == SQLITE_ROW) {
    const char *name = (const char *)sqlite3_column_text(statement, 0);
    if (!index_is_key(s, name)) continue;
    *name_out = mem_strdup(name);
    if (!*name_out) {
      status = err_set_memory(err, name, 1);
      break;
    }
  }
  sqlite3_finalize(statement);
  return status;
}

/* Keeps `hint`; *works_out: SQLite takes it in a page's query. */
static vecmill_status try_hint(sqlite_store *s, const char *hint, bool *works_out,
                               vecmill_error *err) {
  *works_out = false;
  mem_free(s->scan_hint);
  s->scan_hint = mem_strdup(hint);
  if (!s->scan_hint) return err_set_memory(err, "key", strlen(hint));
  str sql = {0};
  sqlite3_stmt *statement = NULL;
  str_append_text(&sql, "SELECT ");
  sql_append_ids(&sql, s);
  str_append_text(&sql, " FROM ");
  sql_append_table(&sql, s);
  str_append_text(&sql, hint);
  str_append_text(&sql, " WHERE ");
  sql_append_compare(&sql, s, ">", 'k');
  str_append_text(&sql, " ORDER BY ");
  sql_append_ids(&sql, s);
  int code = sql.failed ? SQLITE_NOMEM : sqlite3_prepare_v2(s->db, sql.data, -1, &statement, NULL);
  sqlite3_finalize(statement);
  str_fini(&sql);
  *works_out = code == SQLITE_OK;
  return code == SQLITE_NOMEM ? err_set_memory(err, "key", sizeof *s) : VECMILL_OK;
}

/* Whether the only id is the rowid, by that name or as INTEGER PRIMARY KEY: the one key that needs
 * no index. */
static bool key_is_rowid(const sqlite_store *s, const table_info *info, const char *index) {
  if (s->n_ids != 1 || index) return false;
  size_t n_key_columns = 0;
  for (size_t i = 0; i < info->n; i++) n_key_columns += info->columns[i].key_position > 0;
  const column_info *column = column_named(info, s->ids[0]);
  return !column || (column->key_position == 1 && n_key_columns == 1);
}

static vecmill_status list_ids(sqlite_store *s, const table_info *info, vecmill_error *err) {
  str list = {0};
  for (size_t i = 0; i < s->n_ids; i++) {
    const column_info *column = column_named(info, s->ids[i]);
    if (column && !column->not_null) s->null_keys = true;
    str_append_format(&list, "%s%s", i ? ", " : "", s->ids[i]);
  }
  s->id_list = list.data;
  return list.failed ? err_set_memory(err, s->table, list.n) : VECMILL_OK;
}

/*
 * The ids must be unique by an index: it proves uniqueness for good, pages follow it, rows are
 * found by it. That index (or the table's own tree, for a rowid and WITHOUT ROWID) is named in the
 * page's query, else an index that suits --where could win, and every page would sort all that is
 * left.
 */
static vecmill_status settle_key(sqlite_store *s, const table_info *info, vecmill_error *err) {
  char *index = NULL;
  const char *rowid = free_rowid(info);
  str hint = {0};
  bool works = false;
  vecmill_status status = list_ids(s, info, err);
  if (status == VECMILL_OK) status = find_key_index(s, &index, err);
  if (status != VECMILL_OK) return status;
  if (key_is_rowid(s, info, index)) {
    s->null_keys = false;
    status = try_hint(s, " NOT INDEXED", &works, err);
    if (status == VECMILL_OK && !works)
      status = err_set(err, VECMILL_ERROR_ARGUMENT,
                       "table %s: has no %s (name a unique column with --id-column)", s->table,
                       s->id_list);
  } else if (!index) {
    status = err_set(err, VECMILL_ERROR_ARGUMENT,
                     "table %s: nothing keeps %s unique (CREATE UNIQUE INDEX on it%s%s)", s->table,
                     s->id_list, rowid ? ", or use --id-column " : "", rowid ? rowid : "");
  } else {
    str_append_text(&hint, " INDEXED BY ");
    sql_append_name(&hint, index);
    if (hint.failed) status = err_set_memory(err, "key", hint.n);
    if (status == VECMILL_OK) status = try_hint(s, hint.data, &works, err);
    /* The key of a WITHOUT ROWID table is listed as an index, but is the table. */
    if (status == VECMILL_OK && !works) status = try_hint(s, " NOT INDEXED", &works, err);
    if (status == VECMILL_OK && !works) status = try_hint(s, "", &works, err);
  }
  mem_free(index);
  str_fini(&hint);
  return status;
}

/* --- text and vectors --- */

static bool is_id(const sqlite_store *s, const char *name) {
  for (size_t i = 0; i < s->n_ids; i++)
    if (str_same(s->ids[i], name)) return true;
  return false;
}

/* The only column of text affinity that is neither id nor vector column; an error that lists them
 * otherwise. */
static vecmill_status only_text_column(const sqlite_store *s, const table_info *info,
                                       const char *vector_column, const char **name_out,
                                       vecmill_error *err) {
  str list = {0};
  size_t n = 0;
  for (size_t i = 0; i < info->n; i++) {
    const char *name = info->columns[i].name;
    if (!info->columns[i].text_affinity || is_id(s, name) || str_same(name, vector_column))
      continue;
    str_append_format(&list, "%s%s", n++ ? ", " : "", name);
    *name_out = name;
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

static vecmill_status find_text_column(sqlite_store *s, const table_info *info, const char *wanted,
                                       const char *vector_column, vecmill_error *err) {
  const char *name = NULL;
  if (wanted) {
    const column_info *column = column_named(info, wanted);
    if (!column) return no_such_column(s, info, wanted, "--text-column", err);
    name = column->name;
  } else {
    store_maker record;
    bool found;
    vecmill_status status = sqlite_store_record(&s->base, &record, &found, err);
    if (status != VECMILL_OK) return status;
    if (found && *record.text_column) name = record.text_column;
  }
  for (size_t i = 0; !name && i < N_TEXT_NAMES; i++) {
    const column_info *column = column_named(info, text_names[i]);
    if (column && !is_id(s, column->name) && !str_same(column->name, vector_column))
      name = column->name;
  }
  vecmill_status status = VECMILL_OK;
  if (!name) status = only_text_column(s, info, vector_column, &name, err);
  if (status != VECMILL_OK) return status;
  if (str_same(name, vector_column))
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "table %s: %s cannot be both text and vector column (name another "
                   "with --vector-column)",
                   s->table, name);
  s->text_column = mem_strdup(name);
  return s->text_column ? VECMILL_OK : err_set_memory(err, name, strlen(name));
}

static vecmill_status find_vector_column(sqlite_store *s, const table_info *info,
                                         const char *wanted, vecmill_error *err) {
  const column_info *column = column_named(info, wanted);
  if (!*wanted || (column && is_id(s, wanted)))
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "table %s: \"%s\" cannot be the vector column (name another with "
                   "--vector-column)",
                   s->table, wanted);
  if (column && column->generated)
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "table %s: %s is a generated column, and vectors cannot be written there (name "
                   "another with --vector-column)",
                   s->table, column->name);
  s->has_vector_column = column != NULL;
  s->vector_column = mem_strdup(column ? column->name : wanted);
  return s->vector_column ? VECMILL_OK : err_set_memory(err, wanted, strlen(wanted));
}

/* --- where --- */

/* Compiles the condition, in brackets (as every query has it) or as it is, with nothing behind it
 * that an error could name. */
static vecmill_status compile_where(sqlite_store *s, const char *where, bool brackets,
                                    vecmill_error *err) {
  str sql = {0};
  sqlite3_stmt *statement = NULL;
  const char *tail = NULL;
  str_append_text(&sql, "SELECT 1 FROM ");
  sql_append_table(&sql, s);
  /* the line break ends a comment */
  str_append_format(&sql, brackets ? " WHERE (%s\n)" : " WHERE %s", where);
  int code = sql.failed ? SQLITE_NOMEM : sqlite3_prepare_v2(s->db, sql.data, -1, &statement, &tail);
  vecmill_status status = VECMILL_OK;
  if (code == SQLITE_NOMEM) status = err_set_memory(err, "--where", strlen(where));
  else if (code != SQLITE_OK)
    status = err_set(err, VECMILL_ERROR_ARGUMENT, "--where %s: %s (give what would follow WHERE)",
                     where, sqlite3_errmsg(s->db));
  else if (tail && *tail)
    status = err_set(err, VECMILL_ERROR_ARGUMENT,
                     "--where %s: more than one condition (give what would follow WHERE)", where);
  else if (sqlite3_bind_parameter_count(statement) > 0)
    status = err_set(err, VECMILL_ERROR_ARGUMENT, "--where %s: holds a parameter (write the value)",
                     where);
  sqlite3_finalize(statement);
  str_fini(&sql);
  return status;
}

/*
 * "a) OR (b" compiles in brackets alone, and would undo the conditions beside it: every page would
 * find the same rows again, for ever. What compiles both ways is one condition.
 */
static vecmill_status check_where(sqlite_store *s, const char *where, vecmill_error *err) {
  vecmill_status status = compile_where(s, where, false, err);
  if (status == VECMILL_OK) status = compile_where(s, where, true, err);
  if (status != VECMILL_OK) return status;
  s->where = mem_strdup(where);
  return s->where ? VECMILL_OK : err_set_memory(err, "--where", strlen(where));
}

vecmill_status sqlite_store_find(store *base, const store_target *target,
                                 store_columns *columns_out, vecmill_error *err) {
  sqlite_store *s = of(base);
  table_info info = {0};
  const char *vector_column = target->vector_column ? target->vector_column : "embedding";
  s->limit = target->limit;
  s->retry_failed = target->retry_failed;
  s->changed = target->changed;
  vecmill_status status = find_table(s, target->table, err);
  if (status == VECMILL_OK) status = read_columns(s, &info, err);
  if (status == VECMILL_OK)
    status = target->id_column ? named_key(s, &info, target->id_column, err)
                               : primary_key(s, &info, err);
  if (status == VECMILL_OK) status = settle_key(s, &info, err);
  if (status == VECMILL_OK) status = find_vector_column(s, &info, vector_column, err);
  if (status == VECMILL_OK)
    status = find_text_column(s, &info, target->text_column, s->vector_column, err);
  if (status == VECMILL_OK && target->where) status = check_where(s, target->where, err);
  table_info_fini(&info);
  if (status != VECMILL_OK) return status;
  *columns_out = (store_columns){.table = s->table,
                                 .id_columns = s->id_list,
                                 .text_column = s->text_column,
                                 .vector_column = s->vector_column,
                                 .failures = "vecmill_failures",
                                 .has_vector_column = s->has_vector_column};
  return VECMILL_OK;
}
