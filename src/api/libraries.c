#include <vecmill/system.h>

#include <jansson.h>
#include <openssl/crypto.h>
#include <sqlite3.h>

const char *vecmill_system_library(size_t i, const char **version_out) {
  const struct {
    const char *name, *version;
  } libraries[] = {
      {"sqlite", sqlite3_libversion()},
      {"jansson", jansson_version_str()},
      {"openssl", OpenSSL_version(OPENSSL_VERSION_STRING)},
  };
  if (i >= sizeof libraries / sizeof *libraries) return NULL;
  *version_out = libraries[i].version;
  return libraries[i].name;
}
