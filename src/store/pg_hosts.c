/*
 * Several hosts in one connection string: "host=a,b port=1,2". They are tried here one by one, and
 * not by libpq, which keeps their times only in a call that blocks, deaf to Ctrl-C. The one that
 * answered comes first from then on, so that a dead one is waited for once and not by each
 * connection.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/pg_parts.h"

static const char *const lists[PG_HOST_LISTS] = {"host", "hostaddr", "port"};

static size_t n_items(const char *list) {
  size_t n = 1;
  for (; *list; list++) n += *list == ',';
  return n;
}

static size_t place_of(const pg_store *s, const char *keyword) {
  size_t i = 0;
  while (s->keywords[i] && strcmp(s->keywords[i], keyword) != 0) i++;
  return i;
}

static const char *value_of(const pg_store *s, const char *keyword) {
  return s->values[place_of(s, keyword)];
}

size_t pg_n_hosts(const pg_store *s) {
  const char *host = value_of(s, "host"), *address = value_of(s, "hostaddr");
  const char *port = value_of(s, "port");
  size_t n = host ? n_items(host) : address ? n_items(address) : 1;
  bool fits = (!host || !address || n_items(address) == n) &&
              (!port || n_items(port) == 1 || n_items(port) == n) &&
              (address || !getenv("PGHOSTADDR")); /* libpq adds it */
  return fits ? n : 1;                            /* libpq says what does not fit */
}

/* The i-th of a list, or the only one. */
static char *item_of(const char *list, size_t i) {
  if (n_items(list) == 1) i = 0;
  for (; i > 0; i--) list = strchr(list, ',') + 1;
  size_t n = strcspn(list, ",");
  char *item = mem_calloc(n + 1, 1);
  if (!item) return NULL;
  memcpy(item, list, n);
  return item;
}

bool pg_host_init(pg_host *h, const pg_store *s, size_t i) {
  size_t n = 0;
  bool complete = true;
  *h = (pg_host){0};
  while (s->keywords[n]) n++;
  h->values = mem_calloc(n + 1, sizeof *h->values);
  if (!h->values) return false;
  for (size_t k = 0; k < n; k++) h->values[k] = s->values[k];
  for (size_t k = 0; k < PG_HOST_LISTS; k++) {
    size_t place = place_of(s, lists[k]);
    if (!s->keywords[place]) continue;
    h->values[place] = h->items[k] = item_of(s->values[place], i);
    complete &= h->items[k] != NULL;
  }
  return complete;
}

void pg_host_fini(pg_host *h) {
  for (size_t k = 0; k < PG_HOST_LISTS; k++) mem_free(h->items[k]);
  mem_free(h->values);
  *h = (pg_host){0};
}
