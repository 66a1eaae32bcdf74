/* config/env.h: any bytes as a .env file. Every string lies in the file's bytes and ends in them.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/env.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
  env_file file;
  char *bytes = mem_calloc(n_bytes + 1, 1);
  if (!bytes) return 0;
  memcpy(bytes, data, n_bytes);
  if (env_parse(bytes, n_bytes, ".env", &file, NULL) != VECMILL_OK) return 0;
  for (size_t i = 0; i < file.n; i++) {
    const env_entry *entry = &file.entries[i];
    size_t key_at = (size_t)(entry->key - file.bytes),
           value_at = (size_t)(entry->value - file.bytes);
    if (key_at + strlen(entry->key) > n_bytes || value_at + strlen(entry->value) > n_bytes) abort();
    if (value_at <= key_at || entry->line == 0 || !*entry->key) abort();
    if (!env_find(&file, entry->key)) abort();
  }
  env_fini(&file);
  return 0;
}
