/* Names that the user gives: whether this server can have them at all. It would cut a longer one
 * silently, and what is made under the cut name would not be found again. */
#include "store/pg_parts.h"

vecmill_status pg_check_names(pg_store *s, const pg_given_name *names, size_t n,
                              vecmill_error *err) {
  str sql = {0};
  pg_params p = {0};
  PGresult *rows = NULL;
  str_append_text(&sql, "SELECT current_setting('max_identifier_length')");
  for (size_t i = 0; i < n; i++) {
    /* counted by the server: its encoding is not ours */
    str_append_format(&sql,
                      ", (SELECT max(octet_length(n)) FROM unnest(string_to_array($%zu::text,"
                      " '%s')) AS n)::text",
                      i + 1, names[i].separator ? names[i].separator : "");
    pg_add_text(&p, names[i].name);
  }
  vecmill_status status = pg_run(s, PG_READER, &sql, &p, "cannot check the names", &rows, err);
  long long n_max = status == VECMILL_OK ? pg_integer(rows, 0, 0) : 0;
  for (size_t i = 0; status == VECMILL_OK && i < n; i++) {
    long long n_bytes = pg_integer(rows, 0, (int)i + 1);
    if (n_bytes <= n_max) continue;
    status = err_set(err, VECMILL_ERROR_ARGUMENT,
                     "%s %s: %lld bytes, and a name has %lld at most on this server (give a "
                     "shorter one)",
                     names[i].option, names[i].name, n_bytes, n_max);
  }
  PQclear(rows);
  str_fini(&sql);
  return status;
}
