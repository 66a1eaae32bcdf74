/*
 * A file of passwords that others may read. libpq passes over it and says so on stderr by itself,
 * for each connection once more, past whoever listens to us: so it is looked at before libpq does.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/mem.h"
#include "store/pg_parts.h"

/* As libpq will have it: what is passed to it, else the environment or the service that PGSERVICE
 * names. NULL: said nowhere. */
static const char *effective(const pg_store *s, const PQconninfoOption *defaults,
                             const char *keyword) {
  const char *value = NULL;
  for (; defaults && defaults->keyword; defaults++)
    if (strcmp(defaults->keyword, keyword) == 0) value = defaults->val;
  for (size_t i = 0; s->keywords[i]; i++)
    if (strcmp(s->keywords[i], keyword) == 0 && *s->values[i]) value = s->values[i];
  return value && *value ? value : NULL;
}

/* The file that libpq will look into. */
static void name_file(const pg_store *s, str *path) {
  PQconninfoOption *defaults = PQconndefaults();
  const char *file = effective(s, defaults, "passfile"), *home = getenv("HOME");
  bool is_asked = !effective(s, defaults, "password");
  for (size_t i = 0; s->keywords[i]; i++) /* what that says libpq alone knows */
    if (strcmp(s->keywords[i], "service") == 0) is_asked = false;
  if (is_asked && file) str_append_text(path, file);
  else if (is_asked && home && *home) str_append_format(path, "%s/.pgpass", home);
  PQconninfoFree(defaults);
}

bool pg_pass_over_passfile(pg_store *s, size_t n_keywords) {
  str path = {0};
  struct stat about;
  name_file(s, &path);
  if (path.n == 0 || stat(path.data, &about) != 0 || !S_ISREG(about.st_mode) ||
      !(about.st_mode & (S_IRWXG | S_IRWXO))) {
    bool failed = path.failed;
    str_fini(&path);
    return !failed;
  }
  log_warning("password file %s: others may read it, so no password is taken from it (chmod 600 "
              "%s)",
              path.data, path.data);
  str_append_char(&path, '/'); /* below a file nothing can be */
  s->keywords[n_keywords] = mem_strdup("passfile");
  s->values[n_keywords] = path.data;
  return !path.failed && s->keywords[n_keywords];
}
