/* What is said where a column is not there, or where a table is none. */
#include "store/find_names.h"

#include "base/str.h"

vecmill_status store_no_such_column(const char *table, const char *name, const char *option,
                                    const char *const *columns, size_t n_columns,
                                    vecmill_error *err) {
  str list = {0};
  for (size_t i = 0; i < n_columns; i++)
    str_append_format(&list, "%s%s", i ? ", " : "", columns[i]);
  vecmill_status status =
      err_set(err, VECMILL_ERROR_NOT_FOUND, "table %s: no column %s for %s (columns: %s)", table,
              name, option, list.data ? list.data : "");
  str_fini(&list);
  return status;
}

vecmill_status store_no_table(const char *name, const char *kind, vecmill_error *err) {
  return err_set(err, VECMILL_ERROR_UNSUPPORTED,
                 "%s: a %s; vectors are written into a table, and searched there by its key and "
                 "the record of what made them (name the table behind it, with --where if need be)",
                 name, kind);
}
