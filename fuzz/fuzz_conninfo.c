/* config/conninfo.h: any text as a connection. A password that it has stands in nothing shown, nor
 * does anything else that stands between a : and an @. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "config/conninfo.h"
#include "config/pg_settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* Blanks out every byte of the first text that a secret of it covers, as conninfo_hide must. */
static void check_hidden(const char *text, const char *hidden, const conninfo *c) {
  for (size_t i = 0; i < c->n_secrets; i++) {
    const conninfo_secret *s = &c->secrets[i];
    if (s->from > s->value_from || s->value_from > s->value_to || s->value_to > s->to ||
        s->to > strlen(text))
      abort();
    for (size_t j = s->value_from; j < s->value_to; j++)
      if (hidden[j] != 'x') abort();
  }
}

/* The input with a secret put in at its middle. */
static void check_planted(const char *text) {
  static const char planted[] = ":S3CRET-0451@";
  str with = {0};
  vecmill_error err = {0};
  config_pg pg;
  size_t n = strlen(text) / 2;
  if (strstr(text, "S3CRET")) return; /* the fuzzer learns it */
  str_append(&with, text, n);
  str_append_text(&with, planted);
  str_append_text(&with, text + n);
  if (with.failed) abort();
  if (config_database_of(with.data) != CONFIG_DATABASE_FILE) { /* else there is one of that name */
    char *shown = config_database_shown(NULL, with.data);
    if (config_pg_conninfo(NULL, with.data, &pg, &err) == VECMILL_OK) config_pg_fini(&pg);
    conninfo_hide(with.data);
    if (strstr(shown, "S3CRET-0451") || strstr(err.text, "S3CRET") ||
        strstr(with.data, "S3CRET-0451"))
      abort();
    mem_free(shown);
  }
  str_fini(&with);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  conninfo c;
  vecmill_error err = {0};
  char *text = mem_strndup((const char *)data, n_bytes), *hidden = mem_strdup(text),
       *shown = conninfo_shown(text);
  conninfo_hide(hidden);
  if (strlen(hidden) != strlen(text) || strlen(shown) > strlen(text) + 20) abort();
  vecmill_status status = conninfo_parse(text, &c, &err);
  if (status != VECMILL_OK && (!err.text[0] || c.n_secrets > 0)) abort();
  if (status == VECMILL_OK) {
    conninfo again;
    check_hidden(text, hidden, &c);
    /* What is shown is a connection without secrets, or nothing is left of it. */
    if (*shown && conninfo_parse(shown, &again, NULL) == VECMILL_OK) {
      if (again.n_secrets > 0) abort();
      conninfo_fini(&again);
    }
    conninfo_fini(&c);
  }
  check_planted(text);
  mem_free(text);
  mem_free(hidden);
  mem_free(shown);
  return 0;
}
