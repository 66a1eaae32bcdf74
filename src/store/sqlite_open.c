/* Opening and closing the SQLite store; waiting for locks; errors in words; SQL in pieces. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/sqlite.h"
#include "store/sqlite_parts.h"

#define BUSY_TELL_NS 5000000000ull
/* How long a lock is still waited for once a stop was asked for. */
#define BUSY_GRACE_NS 2000000000ull
#define GIVE_WAY_MOST_MS 50

/* What to do about an error, in brackets; "" when nothing general can be said. */
static const char *advice_for(const sqlite_store *s, int code) {
  switch (code & 0xFF) {
    case SQLITE_BUSY: return " (another program holds a lock on it: let that finish, run again)";
    case SQLITE_FULL: return " (make room on the disk, run again: what was committed is kept)";
    case SQLITE_IOERR:
      return " (the system refused a read or a write: look at the disk; what was committed is "
             "kept)";
    case SQLITE_READONLY:
    case SQLITE_PERM: return " (vecmill must be able to write to the file and to its folder)";
    case SQLITE_CANTOPEN: return " (check that the file and its folder can be read and written)";
    case SQLITE_CORRUPT:
      return " (the file is damaged: restore a backup, or try sqlite3 FILE .recover)";
    case SQLITE_NOTADB: return " (is it an SQLite database?)";
    default: return "";
  }
}

vecmill_status sqlite_error(sqlite_store *s, int code, const char *what, vecmill_error *err) {
  int extended = sqlite3_extended_errcode(s->db);
  if ((extended & 0xFF) != (code & 0xFF)) extended = code;
  const char *words = (sqlite3_errcode(s->db) & 0xFF) == (code & 0xFF) ? sqlite3_errmsg(s->db)
                                                                       : sqlite3_errstr(code);
  if ((code & 0xFF) == SQLITE_INTERRUPT) /* by sqlite_stop_at_once */
    return err_set(err, VECMILL_ERROR_STOPPED, "stopped (run again to go on): %s", what);
  vecmill_status status = (code & 0xFF) == SQLITE_BUSY    ? VECMILL_ERROR_BUSY
                          : (code & 0xFF) == SQLITE_NOMEM ? VECMILL_ERROR_MEMORY
                                                          : VECMILL_ERROR_DATABASE;
  return err_set(err, status, "%s: %s: %s%s", s->path, what, words, advice_for(s, extended));
}

vecmill_status sqlite_compile(sqlite_store *s, const str *sql, const char *what,
                              sqlite3_stmt **statement_out, vecmill_error *err) {
  if (sql->failed) return err_set_memory(err, what, sql->n);
  int code = sqlite3_prepare_v3(s->db, sql->data, (int)sql->n, SQLITE_PREPARE_PERSISTENT,
                                statement_out, NULL);
  return code == SQLITE_OK ? VECMILL_OK : sqlite_error(s, code, what, err);
}

vecmill_status sqlite_run(sqlite_store *s, const char *sql, const char *what, vecmill_error *err) {
  int code = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
  return code == SQLITE_OK ? VECMILL_OK : sqlite_error(s, code, what, err);
}

vecmill_status sqlite_begin(sqlite_store *s, vecmill_error *err) {
  /* IMMEDIATE: a transaction that begins by reading cannot wait when it turns to writing. */
  return sqlite_run(s, "BEGIN IMMEDIATE", "cannot begin to write", err);
}

vecmill_status sqlite_end(sqlite_store *s, vecmill_status status, vecmill_error *err) {
  if (status == VECMILL_OK) status = sqlite_run(s, "COMMIT", "cannot commit", err);
  /* Some errors have rolled back by themselves. */
  if (status != VECMILL_OK && !sqlite3_get_autocommit(s->db))
    sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
  return status;
}

void sqlite_give_way(sqlite_store *s, uint64_t from_ns) {
  s->owed_ns += (clock_now_ns() - from_ns) / 4;
  uint64_t ms = s->owed_ns / 1000000;
  if (ms == 0) return;
  clock_sleep_ms(ms < GIVE_WAY_MOST_MS ? (unsigned)ms : GIVE_WAY_MOST_MS);
  s->owed_ns = 0;
}

vecmill_status sqlite_integer(sqlite_store *s, const str *sql, const char *what,
                              sqlite3_int64 fallback, sqlite3_int64 *value_out,
                              vecmill_error *err) {
  sqlite3_stmt *statement = NULL;
  vecmill_status status = sqlite_compile(s, sql, what, &statement, err);
  if (status != VECMILL_OK) return status;
  int code = sqlite3_step(statement);
  *value_out = fallback;
  if (code == SQLITE_ROW && sqlite3_column_type(statement, 0) != SQLITE_NULL)
    *value_out = sqlite3_column_int64(statement, 0);
  if (code != SQLITE_ROW && code != SQLITE_DONE) status = sqlite_error(s, code, what, err);
  sqlite3_finalize(statement);
  return status;
}

void sqlite_bind_text_at(sqlite3_stmt *statement, const char *name, const char *text) {
  int index = sqlite3_bind_parameter_index(statement, name);
  if (index > 0) sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC);
}

void sqlite_bind_integer_at(sqlite3_stmt *statement, const char *name, sqlite3_int64 value) {
  int index = sqlite3_bind_parameter_index(statement, name);
  if (index > 0) sqlite3_bind_int64(statement, index, value);
}

/* --- SQL in pieces --- */

void sql_append_name(str *sql, const char *name) {
  str_append_quoted(sql, name, '"');
}

void sql_append_string(str *sql, const char *text) {
  str_append_quoted(sql, text, '\'');
}

void sql_append_table(str *sql, const sqlite_store *s) {
  str_append_text(sql, "main.");
  sql_append_name(sql, s->table);
}

void sql_append_column(str *sql, const sqlite_store *s, const char *column) {
  sql_append_name(sql, s->table);
  str_append_char(sql, '.');
  sql_append_name(sql, column);
}

void sql_append_ids(str *sql, const sqlite_store *s) {
  for (size_t i = 0; i < s->n_ids; i++) {
    if (i > 0) str_append_text(sql, ", ");
    sql_append_column(sql, s, s->ids[i]);
  }
}

void sql_append_compare(str *sql, const sqlite_store *s, const char *comparison, char prefix) {
  const char *open = s->n_ids > 1 ? "(" : "", *close = s->n_ids > 1 ? ")" : "";
  str_append_text(sql, open);
  sql_append_ids(sql, s);
  str_append_format(sql, "%s %s %s", close, comparison, open);
  for (size_t i = 0; i < s->n_ids; i++)
    str_append_format(sql, "%s:%c%zu", i > 0 ? ", " : "", prefix, i);
  str_append_text(sql, close);
}

/* --- waiting for other people's locks --- */

static bool stop_asked(const sqlite_store *s) {
  return s->stop && __atomic_load_n(s->stop, __ATOMIC_RELAXED) != 0;
}

static int ends_statement(void *context) {
  return stop_asked(context);
}

void sqlite_stop_at_once(sqlite_store *s, bool at_once) {
  sqlite3_progress_handler(s->db, at_once ? 10000 : 0, at_once ? ends_statement : NULL, s);
}

/* SQLite's busy handler: not 0 means try again. `n_before` counts the calls for this lock. */
static int wait_for_lock(void *context, int n_before) {
  static const unsigned waits_ms[] = {1, 2, 5, 10, 20, 40, 70, 100};
  sqlite_store *s = context;
  uint64_t now_ns = clock_now_ns();
  if (n_before == 0) {
    s->busy_since_ns = now_ns;
    s->busy_stop_ns = 0;
    s->busy_told = false;
  }
  if (stop_asked(s)) {
    if (s->busy_stop_ns == 0) s->busy_stop_ns = now_ns;
    if (now_ns - s->busy_stop_ns > BUSY_GRACE_NS) return 0;
  }
  if (!s->busy_told && now_ns - s->busy_since_ns > BUSY_TELL_NS) {
    s->busy_told = true;
    log_warning("%s: locked by another program for 5 s, still waiting (Ctrl-C gives up)", s->path);
  }
  size_t last = sizeof waits_ms / sizeof *waits_ms - 1;
  clock_sleep_ms(waits_ms[(size_t)n_before < last ? (size_t)n_before : last]);
  return 1;
}

/* --- open and close --- */

static void finalize_all(sqlite_store *s) {
  sqlite3_stmt **all[] = {&s->first_page, &s->next_page, &s->update,
                          &s->fail,       &s->unfail,    &s->keep_hash,
                          &s->landed};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    sqlite3_finalize(*all[i]);
    *all[i] = NULL;
  }
}

static void close_store(store *base) {
  sqlite_store *s = of(base);
  if (!s) return;
  finalize_all(s);
  sqlite_metrics_fini(&s->metrics);
  sqlite3_close(s->db);
  table_lock_drop(&s->lock); /* after the connection: who comes next finds nothing of us */
  pthread_mutex_destroy(&s->mutex);
  for (size_t i = 0; i < s->n_ids; i++) mem_free(s->ids[i]);
  for (size_t i = 0; i < sizeof s->maker_text / sizeof *s->maker_text; i++)
    mem_free(s->maker_text[i]);
  char *texts[] = {s->path,  s->table,   s->text_column, s->vector_column,
                   s->where, s->id_list, s->scan_hint};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) mem_free(texts[i]);
  str_fini(&s->cut);
  str_fini(&s->cursor);
  mem_free(s);
}

static void json_of_key(const store *s, const void *key, size_t n_key_bytes, str *json_out) {
  key_append_json(json_out, key, n_key_bytes);
}

static int compare_keys(const store *s, const void *a, size_t n_a, const void *b, size_t n_b) {
  return key_compare(a, n_a, b, n_b);
}

static uint64_t count_removed(const store *s) {
  return ((const sqlite_store *)s)->n_removed;
}

static const store_operations sqlite_operations = {
    .close = close_store,
    .jobs = sqlite_store_jobs,
    .find = sqlite_store_find,
    .record = sqlite_store_record,
    .inspect = sqlite_store_inspect,
    .sample = sqlite_store_sample,
    .begin = sqlite_store_begin,
    .metrics_find = sqlite_store_metrics_find,
    .metrics_begin = sqlite_store_metrics_begin,
    .metrics_count = sqlite_store_metrics_count,
    .metrics_page = sqlite_store_metrics_page,
    .metrics_commit = sqlite_store_metrics_commit,
    .metrics_settle = sqlite_store_metrics_settle,
    .preview = sqlite_store_preview,
    .preview_texts = sqlite_store_preview_texts,
    .count = sqlite_store_count,
    .pass_begin = sqlite_store_pass_begin,
    .claim = sqlite_store_claim,
    .commit = sqlite_store_commit,
    .n_removed = count_removed,
    .page_free = sqlite_store_page_free,
    .scan = sqlite_store_scan,
    .read_text = sqlite_store_read_text,
    .key_json = json_of_key,
    .key_compare = compare_keys,
};

/* SQLite opens lazily: reading the schema shows whether this is a database that can be read. */
static vecmill_status open_database(sqlite_store *s, vecmill_error *err) {
  int code = sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
  if (!s->db) return err_set_memory(err, s->path, sizeof *s);
  if (code != SQLITE_OK) return sqlite_error(s, code, "cannot open the database", err);
  sqlite3_extended_result_codes(s->db, 1);
  sqlite3_busy_handler(s->db, wait_for_lock, s);
  code = sqlite_add_functions(s->db);
  if (code != SQLITE_OK) return sqlite_error(s, code, "cannot open the database", err);
  return sqlite_run(s, "SELECT count(*) FROM sqlite_schema", "cannot read the database", err);
}

/* The folder too: SQLite keeps its journal there, and vecmill its lock. */
vecmill_status store_check_sqlite_writable(store *base, vecmill_error *err) {
  sqlite_store *s = of(base);
  char *real = realpath(s->path, NULL);
  if (!real) return err_set_errno(err, errno, "cannot open the database", s->path);
  int failed = access(real, W_OK) != 0 ? errno : 0;
  char *slash = strrchr(real, '/');
  if (slash) slash[slash == real] = '\0';
  if (!failed && access(real, W_OK) != 0) failed = errno;
  free(real);
  return failed ? err_set(err, VECMILL_ERROR_DATABASE, "%s: %s%s", s->path, strerror(failed),
                          advice_for(s, SQLITE_READONLY))
                : VECMILL_OK;
}

vecmill_status store_check_sqlite_version(int number, const char *name, vecmill_error *err) {
  if (number >= 3037000) return VECMILL_OK;
  return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                 "SQLite %s is loaded: 3.37 or newer is needed (update libsqlite3)", name);
}

vecmill_status store_open_sqlite(const char *path, const int *stop, store **store_out,
                                 vecmill_error *err) {
  struct stat status_of_file;
  vecmill_status version =
      store_check_sqlite_version(sqlite3_libversion_number(), sqlite3_libversion(), err);
  if (version != VECMILL_OK) return version;
  if (stat(path, &status_of_file) != 0) {
    int failed = errno;
    if (failed != ENOENT) return err_set_errno(err, failed, "cannot open the database", path);
    return err_set(err, VECMILL_ERROR_NOT_FOUND,
                   "%s: no such database (give an existing SQLite file to --db)", path);
  }
  if (!S_ISREG(status_of_file.st_mode))
    return err_set(err, VECMILL_ERROR_ARGUMENT,
                   "%s: not a file (give an existing SQLite file to --db)", path);

  sqlite_store *s = mem_calloc(1, sizeof *s);
  if (!s) return err_set_memory(err, path, sizeof *s);
  s->base.operations = &sqlite_operations;
  s->base.n_writers = 1;
  s->stop = stop;
  s->lock.fd = -1;
  s->is_first_pass = true;
  pthread_mutex_init(&s->mutex, NULL);
  sqlite3_randomness(sizeof s->run, &s->run);
  s->path = mem_strdup(path);
  vecmill_status status = s->path ? open_database(s, err) : err_set_memory(err, path, strlen(path));
  if (status != VECMILL_OK) close_store(&s->base);
  else *store_out = &s->base;
  return status;
}
