/* config/conninfo.h: any text as a connection. A password that it has stands in nothing shown. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/conninfo.h"

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
  mem_free(text);
  mem_free(hidden);
  mem_free(shown);
  return 0;
}
