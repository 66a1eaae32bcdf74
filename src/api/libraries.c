#include <vecmill/system.h>

#include <jansson.h>
#include <libpq-fe.h>
#include <openssl/crypto.h>
#include <sqlite3.h>
#include <stdio.h>

/* "15.6"; libpq tells it as a number alone. */
static const char *pq_version(void) {
  static _Thread_local char text[24];
  snprintf(text, sizeof text, "%d.%d", PQlibVersion() / 10000, PQlibVersion() % 10000);
  return text;
}

const char *vecmill_system_library(size_t i, const char **version_out) {
  const struct {
    const char *name, *version;
  } libraries[] = {
      {"sqlite", sqlite3_libversion()},
      {"libpq", pq_version()},
      {"jansson", jansson_version_str()},
      {"openssl", OpenSSL_version(OPENSSL_VERSION_STRING)},
  };
  if (i >= sizeof libraries / sizeof *libraries) return NULL;
  *version_out = libraries[i].version;
  return libraries[i].name;
}
