/*
 * What is to be written at the end of a run: found page by page, for while a statement reads, in a
 * journal that is not WAL, nobody can commit.
 *
 * temp.vecmill_rows has a row for each of the table, in the order of the keys: its key, that of its
 * metrics, and by what its text is told from others. All else is found in there. A row that is
 * edited meanwhile is as it was when its page was read: who writes compares the text once more.
 */
#include <limits.h>

#include "store/sqlite_parts.h"

#define ROWS_AT_ONCE 1000

static const char counting[] = "cannot count equal texts";

bool sqlite_is_contended(const sqlite_store *s) {
  bool any = s->metrics.is_shared;
  for (size_t i = 0; i < METRICS_N_SHARERS; i++) any |= s->metrics.sharers[i];
  return any;
}

vecmill_status sqlite_look_for_candidates(sqlite_store *s, bool *any_out, vecmill_error *err) {
  str sql = {0};
  sqlite3_int64 n = 0;
  str_append_text(&sql, "SELECT EXISTS (SELECT 1 FROM ");
  sql_append_table(&sql, s);
  str_append_text(&sql, " WHERE ");
  sqlite_metrics_append_is_candidate(&sql, s);
  str_append_char(&sql, ')');
  vecmill_status status = sqlite_integer(s, &sql, "cannot look for rows", 0, &n, err);
  *any_out = n != 0;
  str_fini(&sql);
  return status;
}

/* --- tables of our own --- */

/* "k0, k1" */
static void append_numbered(str *sql, const char *prefix, size_t n) {
  for (size_t i = 0; i < n; i++) str_append_format(sql, "%s%s%zu", i ? ", " : "", prefix, i);
}

void sqlite_append_key_names(str *sql, const sqlite_store *s) {
  append_numbered(sql, "k", s->n_ids);
}

/* The disk that is full, or the folder that cannot be used, may be that of temporary files. */
static vecmill_status failed(sqlite_store *s, int code, vecmill_error *err) {
  int kind = code & 0xFF;
  return sqlite_error(s, code,
                      kind == SQLITE_FULL || kind == SQLITE_CANTOPEN || kind == SQLITE_IOERR
                          ? "cannot count equal texts, which takes temporary files (SQLITE_TMPDIR)"
                          : counting,
                      err);
}

static vecmill_status run(sqlite_store *s, str *sql, vecmill_error *err) {
  int code = sql->failed ? SQLITE_NOMEM : sqlite3_exec(s->db, sql->data, NULL, NULL, NULL);
  vecmill_status status = sql->failed         ? err_set_memory(err, "metrics", sql->n)
                          : code == SQLITE_OK ? VECMILL_OK
                                              : failed(s, code, err);
  str_fini(sql);
  return status;
}

/* "j0 COLLATE "..", ": what is one key to the metrics' table is one here. */
static void append_join_declarations(str *sql, const sqlite_store *s) {
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    str_append_format(sql, "j%zu COLLATE ", i);
    sql_append_name(sql, sqlite_metrics_collation(s, i));
    str_append_text(sql, ", ");
  }
}

/* vecmill_rows: h and l tell texts apart (NULL: there is none); c: the row has metrics, or shares
 * some. vecmill_texts: how many rows have each. vecmill_first: what is to be written. */
static vecmill_status make_tables(sqlite_store *s, vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "DROP TABLE IF EXISTS temp.vecmill_rows; DROP TABLE IF EXISTS "
                        "temp.vecmill_texts; DROP TABLE IF EXISTS temp.vecmill_first; CREATE TEMP "
                        "TABLE vecmill_rows(i INTEGER PRIMARY KEY, ");
  append_numbered(&sql, "k", s->n_ids);
  str_append_text(&sql, ", ");
  append_join_declarations(&sql, s);
  str_append_text(&sql, "h, l, c); CREATE TEMP TABLE vecmill_texts(h, l, n, PRIMARY KEY(h, l)) "
                        "WITHOUT ROWID; CREATE TEMP TABLE vecmill_first(i INTEGER PRIMARY KEY, ");
  append_numbered(&sql, "k", s->n_ids);
  str_append_text(&sql, ", h, n)");
  return run(s, &sql, err);
}

void sqlite_forget_settling(sqlite_store *s) {
  sqlite3_exec(s->db,
               "DROP TABLE IF EXISTS temp.vecmill_rows; DROP TABLE IF EXISTS temp.vecmill_texts; "
               "DROP TABLE IF EXISTS temp.vecmill_first",
               NULL, NULL, NULL);
}

/* --- all rows --- */

/* "h, l" of the text */
static void append_told_apart(str *sql, const sqlite_store *s) {
  static const char *const functions[] = {"vecmill_hash", "vecmill_size"};
  for (size_t i = 0; i < 2; i++) {
    str_append_text(sql, i ? ", iif(" : "iif(");
    sql_append_column(sql, s, s->text_column);
    str_append_format(sql, " IS NULL, NULL, %s(", functions[i]);
    sql_append_column(sql, s, s->text_column);
    str_append_text(sql, "))");
  }
}

/* Blank texts have no metrics, but where rows share some these are of the first, whatever that is,
 * until --changed takes its vector. */
static void append_has_metrics(str *sql, const sqlite_store *s) {
  if (sqlite_is_contended(s)) {
    sqlite_metrics_append_is_candidate(sql, s);
  } else {
    str_append_text(sql, "NOT ");
    sqlite_append_blank(sql, s);
  }
}

static vecmill_status compile_rows(sqlite_store *s, bool first, sqlite3_stmt **statement_out,
                                   vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "INSERT INTO temp.vecmill_rows(");
  append_numbered(&sql, "k", s->n_ids);
  str_append_text(&sql, ", ");
  append_numbered(&sql, "j", s->metrics.n_joins);
  str_append_text(&sql, ", h, l, c) SELECT ");
  sql_append_ids(&sql, s);
  str_append_text(&sql, ", ");
  sqlite_metrics_append_joins(&sql, s);
  str_append_text(&sql, ", ");
  append_told_apart(&sql, s);
  str_append_text(&sql, ", ");
  append_has_metrics(&sql, s);
  sqlite_append_from(&sql, s);
  str_append_text(&sql, " WHERE 1");
  sqlite_append_no_null_keys(&sql, s);
  if (!first) {
    str_append_text(&sql, " AND ");
    sql_append_compare(&sql, s, ">", 'k');
  }
  str_append_text(&sql, " ORDER BY ");
  sql_append_ids(&sql, s);
  str_append_format(&sql, " LIMIT %d", ROWS_AT_ONCE);
  vecmill_status status = sqlite_compile(s, &sql, counting, statement_out, err);
  str_fini(&sql);
  return status;
}

static vecmill_status compile_last(sqlite_store *s, sqlite3_stmt **statement_out,
                                   vecmill_error *err) {
  str sql = {0};
  str_append_text(&sql, "SELECT ");
  append_numbered(&sql, "k", s->n_ids);
  str_append_text(&sql, " FROM temp.vecmill_rows ORDER BY i DESC LIMIT 1");
  vecmill_status status = sqlite_compile(s, &sql, counting, statement_out, err);
  str_fini(&sql);
  return status;
}

/* The rows behind `cursor`, which goes to the last of them. */
static vecmill_status read_rows(sqlite_store *s, sqlite3_stmt *rows, sqlite3_stmt *last,
                                str *cursor, bool *more_out, vecmill_error *err) {
  key_bind(rows, 'k', cursor->data, cursor->n);
  int code = sqlite3_step(rows);
  *more_out = code == SQLITE_DONE && sqlite3_changes64(s->db) == ROWS_AT_ONCE;
  vecmill_status status = code == SQLITE_DONE ? VECMILL_OK : failed(s, code, err);
  sqlite3_reset(rows);
  if (!*more_out) return status;
  code = sqlite3_step(last);
  str_clear(cursor);
  if (code == SQLITE_ROW) key_append_columns(cursor, last, 0, s->n_ids);
  else status = failed(s, code, err);
  sqlite3_reset(last);
  return cursor->failed ? err_set_memory(err, "page", cursor->n) : status;
}

/* Rows without a key have no metrics; their texts count. */
static vecmill_status read_keyless(sqlite_store *s, vecmill_error *err) {
  str sql = {0};
  if (!s->null_keys) return VECMILL_OK;
  str_append_text(&sql, "INSERT INTO temp.vecmill_rows(h, l, c) SELECT ");
  append_told_apart(&sql, s);
  str_append_text(&sql, ", 0");
  sqlite_append_from(&sql, s);
  sqlite_append_null_keys(&sql, s);
  return run(s, &sql, err);
}

static vecmill_status read_all(sqlite_store *s, vecmill_error *err) {
  sqlite3_stmt *first = NULL, *next = NULL, *last = NULL;
  str cursor = {0};
  bool more = true;
  vecmill_status status = compile_rows(s, true, &first, err);
  if (status == VECMILL_OK) status = compile_rows(s, false, &next, err);
  if (status == VECMILL_OK) status = compile_last(s, &last, err);
  while (status == VECMILL_OK && more)
    status = read_rows(s, cursor.n ? next : first, last, &cursor, &more, err);
  sqlite3_finalize(first);
  sqlite3_finalize(next);
  sqlite3_finalize(last);
  str_fini(&cursor);
  return status == VECMILL_OK ? read_keyless(s, err) : status;
}

/* --- those that are to be written --- */

static vecmill_status count_texts(sqlite_store *s, vecmill_error *err) {
  str sql = {0};
  str_append_format(&sql,
                    "INSERT INTO temp.vecmill_texts(h, l, n) SELECT h, l, min(count(*), %d) FROM "
                    "temp.vecmill_rows WHERE h IS NOT NULL GROUP BY h, l",
                    INT_MAX);
  return run(s, &sql, err);
}

/* "INSERT INTO temp.vecmill_first(..) SELECT r.k0, .., r.h, t.n FROM " */
static void append_insert(str *sql, const sqlite_store *s) {
  str_append_text(sql, "INSERT INTO temp.vecmill_first(");
  append_numbered(sql, "k", s->n_ids);
  str_append_text(sql, ", h, n) SELECT ");
  append_numbered(sql, "r.k", s->n_ids);
  str_append_text(sql, ", r.h, t.n FROM ");
}

static const char with_count[] = " CROSS JOIN temp.vecmill_texts AS t ON t.h = r.h AND t.l = r.l";

/* Where rows share metrics all that come first, for their other numbers are looked at too. */
static vecmill_status pick_first(sqlite_store *s, vecmill_error *err) {
  str sql = {0};
  append_insert(&sql, s);
  str_append_text(&sql, "(SELECT min(i) AS i FROM temp.vecmill_rows WHERE c GROUP BY ");
  append_numbered(&sql, "j", s->metrics.n_joins);
  str_append_format(&sql, ") AS f CROSS JOIN temp.vecmill_rows AS r ON r.i = f.i%s ORDER BY r.i",
                    with_count);
  return run(s, &sql, err);
}

/* Else those whose frequency is another. */
static vecmill_status pick_others(sqlite_store *s, vecmill_error *err) {
  str sql = {0};
  sqlite3_stmt *statement = NULL;
  sqlite3_int64 n = 0;
  str_append_text(&sql, "SELECT max(i) FROM temp.vecmill_rows");
  vecmill_status status = sqlite_integer(s, &sql, counting, 0, &n, err);
  str_clear(&sql);
  append_insert(&sql, s);
  str_append_format(&sql, "temp.vecmill_rows AS r%s CROSS JOIN ", with_count);
  sqlite_metrics_append_table(&sql, s);
  str_append_text(&sql, " AS vecmill_m ON vecmill_m.frequency IS NOT t.n");
  for (size_t i = 0; i < s->metrics.n_joins; i++) {
    str_append_text(&sql, " AND vecmill_m.");
    sql_append_name(&sql, s->metrics.joins[i]);
    str_append_format(&sql, " = +r.j%zu", i); /* +: converted as that key is, and by its index */
  }
  str_append_text(&sql, " WHERE r.c AND r.i BETWEEN :from AND :to");
  if (status == VECMILL_OK) status = sqlite_compile(s, &sql, counting, &statement, err);
  str_fini(&sql);
  for (sqlite3_int64 from = 1; status == VECMILL_OK && from <= n; from += SQLITE_KEYS_AT_ONCE) {
    sqlite_bind_integer_at(statement, ":from", from);
    sqlite_bind_integer_at(statement, ":to", from + SQLITE_KEYS_AT_ONCE - 1);
    int code = sqlite3_step(statement);
    if (code != SQLITE_DONE) status = failed(s, code, err);
    sqlite3_reset(statement);
  }
  sqlite3_finalize(statement);
  return status;
}

vecmill_status sqlite_find_settling(sqlite_store *s, vecmill_error *err) {
  vecmill_status status = make_tables(s, err);
  if (status == VECMILL_OK) status = read_all(s, err);
  if (status == VECMILL_OK) status = count_texts(s, err);
  if (status != VECMILL_OK) return status;
  return sqlite_is_contended(s) ? pick_first(s, err) : pick_others(s, err);
}
