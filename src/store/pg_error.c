/* What went wrong at the server, in words and with what to do about it. */
#include <stdlib.h>
#include <string.h>

#include "store/pg_parts.h"

static _Thread_local char last_state[6];
static _Thread_local bool last_is_raised;
static _Thread_local char last_table[64]; /* NAMEDATALEN */

const char *pg_last_state(void) {
  return last_state;
}

bool pg_state_is(const char *class_or_code) {
  return strncmp(last_state, class_or_code, strlen(class_or_code)) == 0;
}

bool pg_is_raised(void) {
  return last_is_raised;
}

bool pg_is_refusal(void) {
  static const char *const of_the_server[] = {"08", "0A", "40", "53", "57", "58", "XX"};
  if (pg_state_is("23") || pg_state_is("P0") || pg_state_is("22") || pg_state_is("44")) return true;
  for (size_t i = 0; i < sizeof of_the_server / sizeof *of_the_server; i++)
    if (pg_state_is(of_the_server[i])) return false;
  return last_is_raised;
}

const char *pg_what_was_refused(const pg_store *s) {
  if (!s->metrics.is_on || strcmp(last_table, s->table) == 0) return "vector";
  return strcmp(last_table, s->metrics.name) == 0 ? "metrics" : "vector or its metrics";
}

void pg_set_state(const char *state) {
  snprintf(last_state, sizeof last_state, "%s", state);
}

void pg_forget_state(void) {
  last_state[0] = last_table[0] = '\0';
  last_is_raised = false;
}

/* What to do about a state, in brackets; "" when nothing general can be said. */
static const char *advice(void) {
  static const struct {
    const char *state, *advice;
  } all[] = {
      {"53100", " (make room on the server's disk, run again: what was committed is kept)"},
      {"53200", " (the server is short of memory: a smaller BATCH, or run again later)"},
      {"53300", " (too many connections: lower --connections or raise max_connections)"},
      {"53", " (the server is short of something: run again later, what was committed is kept)"},
      {"54000", " (one of the server's limits: a smaller BATCH, if it is of what is sent at once)"},
      {"22P05", " (that character is only in one of the database's encoding and UTF-8)"},
      {"25006",
       " (the server takes no writes: a standby, or default_transaction_read_only; name the "
       "primary)"},
      {"42501", " (ask the owner for the right, or connect as a user that has it)"},
      {"28P01", " (check the user and its password)"},
      {"28", " (check the user and pg_hba.conf)"},
      {"3D000", " (give another --db; psql -l lists the databases)"},
      {"40", " (others write to the same rows all the time: run again)"},
      {"42P01", " (the table was dropped or renamed meanwhile?)"},
      {"42703", " (the column was dropped or renamed meanwhile?)"},
      {"55P03", " (lock_timeout: raise it, or run again when the table rests)"},
      {"57014", " (statement_timeout, or somebody cancelled it: raise it, or a smaller BATCH)"},
      {"57P03", " (the server is starting or stopping: run again)"},
      {"57P", " (the server was stopped: run again)"},
      {"58", " (the server's own disk or files: see its log)"},
      {"XX", " (see the server's log)"},
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (pg_state_is(all[i].state)) return all[i].advice;
  return "";
}

/* One line of the server's words, without its newline. */
static void first_line(const char *words, char out[400]) {
  while (*words == '\n' || *words == ' ') words++;
  size_t n = strcspn(words, "\n");
  snprintf(out, 400, "%.*s", (int)(n < 399 ? n : 399), words);
}

/* --- before a session --- */

/* "FATAL:  53300: sorry, ..": the code that a verbose message carries is taken out of it. */
static void take_state(char *words) {
  for (char *at = strstr(words, ":  "); at; at = strstr(at + 1, ":  ")) {
    char *code = at + 3;
    size_t n = strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    if (n != 5 || strncmp(code + 5, ": ", 2) != 0) continue;
    code[5] = '\0';
    pg_set_state(code);
    memmove(code - 1, code + 7, strlen(code + 7) + 1);
    return;
  }
}

/* One row, by a connection of this run that is open and idle; NULL: there is none. */
static PGresult *ask(pg_store *s, const char *sql) {
  for (unsigned i = 0; i < s->n_connections; i++) {
    pg_connection *c = &s->connections[i];
    if (pthread_mutex_trylock(&c->mutex) != 0) continue;
    bool is_idle = c->conn && PQtransactionStatus(c->conn) == PQTRANS_IDLE;
    PGresult *result = is_idle ? PQexec(c->conn, sql) : NULL;
    pthread_mutex_unlock(&c->mutex);
    if (result && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
      return result;
    PQclear(result);
  }
  return NULL;
}

/* Which limit it is that has been reached: of the role, of the database, else of the server. Other
 * users' sessions show little more than that they are there. */
static const char limits_sql[] =
    "SELECT CASE WHEN n_role >= role_limit THEN 'role' WHEN n_base >= base_limit THEN 'database' "
    "ELSE 'server' END, CASE WHEN n_role >= role_limit THEN role_limit WHEN n_base >= base_limit "
    "THEN base_limit ELSE server_limit END, CASE WHEN n_role >= role_limit THEN n_role WHEN n_base "
    ">= base_limit THEN n_base ELSE n_all END, CASE WHEN n_role >= role_limit THEN session_user "
    "ELSE current_database() END FROM (SELECT nullif(rolconnlimit, -1) AS role_limit, (SELECT "
    "nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()) AS base_limit, "
    "current_setting('max_connections')::int - CASE WHEN rolsuper THEN 0 ELSE "
    "current_setting('superuser_reserved_connections')::int + "
    "coalesce(current_setting('reserved_connections', true), '0')::int END AS server_limit, "
    "(SELECT count(*) FROM pg_stat_activity WHERE usename = session_user) AS n_role, (SELECT "
    "count(*) FROM pg_stat_activity WHERE datname = current_database()) AS n_base, (SELECT "
    "count(*) FROM pg_stat_activity WHERE datid IS NOT NULL) AS n_all FROM pg_roles WHERE rolname "
    "= "
    "session_user) AS l";

static vecmill_status too_many(pg_store *s, const char *words, vecmill_error *err) {
  PGresult *row = ask(s, limits_sql);
  const char *fatal = strstr(words, "FATAL: ");
  if (!row) { /* by its words alone, in English at least */
    const char *raise = strstr(words, " for role ")       ? "ALTER ROLE .. CONNECTION LIMIT"
                        : strstr(words, " for database ") ? "ALTER DATABASE .. CONNECTION LIMIT"
                                                          : "raise max_connections";
    return err_set(err, VECMILL_ERROR_DATABASE,
                   "PostgreSQL: too many connections: %s (lower --connections or %s)",
                   fatal ? fatal + 7 : words, raise);
  }
  const char *kind = PQgetvalue(row, 0, 0), *name = PQgetvalue(row, 0, 3);
  int limit = atoi(PQgetvalue(row, 0, 1)), n = atoi(PQgetvalue(row, 0, 2));
  if (strcmp(kind, "server") == 0)
    err_set(err, VECMILL_ERROR_DATABASE,
            "too many connections: the server allows %d, %d in use; lower --connections or raise "
            "max_connections",
            limit, n);
  else
    err_set(err, VECMILL_ERROR_DATABASE,
            "too many connections: the server allows %s %s %d, %d in use; lower --connections or "
            "ALTER %s .. CONNECTION LIMIT",
            kind, name, limit, n, kind[0] == 'r' ? "ROLE" : "DATABASE");
  PQclear(row);
  return VECMILL_ERROR_DATABASE;
}

/* What PG_HOST may not hold besides a name: libpq looks for a host that is called so. */
static const char *host_advice(const PGconn *conn) {
  const char *host = PQhost(conn), *colon = host ? strrchr(host, ':') : NULL;
  bool has_brackets = host && host[0] == '[';
  bool has_port = colon && colon[1] && strspn(colon + 1, "0123456789") == strlen(colon + 1) &&
                  (has_brackets ? colon[-1] == ']' : strchr(host, ':') == colon);
  if (has_brackets)
    return has_port ? " (without the brackets, which only an address postgresql://.. has, and the "
                      "port into PG_PORT)"
                    : " (without the brackets, which only an address postgresql://.. has)";
  return has_port ? " (the port belongs into PG_PORT, or port= of --db)"
                  : " (check the host's name: PG_HOST, PGHOST or --db)";
}

/* Of what a server does not say, or what pgbouncer says under a code that it has for much else. */
static const char *advice_on(const char *words) {
  static const struct {
    const char *part, *advice;
  } all[] = {
      {"refused", " (is the server running there, and is that its port?)"},
      {"No such file", " (is the server running there, and is that its port?)"},
      {"could not parse network address", " (hostaddr is an address in numbers; host takes names)"},
      {"could not match", " (as many ports as hosts, or one for all)"},
      {"definition of service", " (PGSERVICE, or service= of --db, names it; PGSERVICEFILE or "
                                "~/.pg_service.conf is where it "
                                "stands)"},
      {"service file", " (PGSERVICEFILE names it)"},
      {"invalid sslmode value",
       " (disable, allow, prefer, require, verify-ca or verify-full; PGSSLMODE or --db)"},
      {"invalid channel_binding value", " (disable, prefer or require; PGCHANNELBINDING or --db)"},
      {"invalid gssencmode value", " (disable, prefer or require; PGGSSENCMODE or --db)"},
      {"invalid target_session_attrs value",
       " (any, read-write, read-only, primary, standby or prefer-standby; PGTARGETSESSIONATTRS or "
       "--db)"},
      {"unsupported startup parameter: options",
       " (it comes from PGOPTIONS or --db; pgbouncer passes over it with ignore_startup_parameters "
       "= options)"},
      {"unsupported startup parameter: geqo",
       " (it comes from PGGEQO; pgbouncer passes over it with ignore_startup_parameters = geqo)"},
      {"unsupported startup parameter",
       " (pgbouncer passes over it with ignore_startup_parameters, else leave it out)"},
      {"query_wait_timeout", " (pgbouncer's pool has no room: lower --connections of those who use "
                             "it, raise its size, or let it pool by transaction)"},
      {"no more connections allowed",
       " (pgbouncer takes no more: lower --connections or raise its max_client_conn)"},
      {"statement pooling mode", " (pgbouncer: pool_mode = transaction, or session)"},
      {"no password", " (check the user and its password)"},
      {"certificate", " (check sslrootcert and the host's name)"},
      {"not support SSL", " (sslmode says whether TLS must be)"},
  };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (strstr(words, all[i].part)) return all[i].advice;
  return "";
}

vecmill_status pg_connection_error(pg_store *s, PGconn *conn, vecmill_error *err) {
  char words[400];
  if (!conn) return err_set_memory(err, "connection", sizeof *s);
  first_line(PQerrorMessage(conn), words);
  take_state(words);
  if (pg_state_is("53300")) return too_many(s, words, err);
  const char *what = last_state[0] ? advice() : "";
  if (!*what && strstr(words, "could not translate host name")) what = host_advice(conn);
  else if (!*what) what = advice_on(words);
  return err_set(err, VECMILL_ERROR_DATABASE, "PostgreSQL: cannot connect: %s%s", words, what);
}

/* --- in a session --- */

static bool is_raised(const PGresult *result) {
  const char *by = result ? PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION) : NULL;
  return by && (strcmp(by, "ExecWithCheckOptions") == 0 || strcmp(by, "exec_stmt_raise") == 0);
}

vecmill_status pg_result_error(pg_store *s, PGconn *conn, const PGresult *result, const char *what,
                               vecmill_error *err) {
  char words[400];
  const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
  const char *primary = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
  const char *table = result ? PQresultErrorField(result, PG_DIAG_TABLE_NAME) : NULL;
  pg_set_state(state ? state : "08006");
  snprintf(last_table, sizeof last_table, "%s", table ? table : "");
  last_is_raised = is_raised(result);
  first_line(primary ? primary : PQerrorMessage(conn), words);
  /* a trigger or a policy that forbids something means no right that an owner could give */
  const char *to_do = last_is_raised && pg_state_is("42") ? "" : advice();
  if (!*to_do && pg_state_is("08")) to_do = advice_on(words);
  return err_set(err, pg_state_is("53200") ? VECMILL_ERROR_MEMORY : VECMILL_ERROR_DATABASE,
                 "%s: %s: %s%s", s->shown, what, words, to_do);
}
