/* FNV-1a, 64 bits (Fowler, Noll, Vo): what tells texts and keys apart. Stored in databases, so it
 * stays as it is. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t hash_bytes(const void *bytes, size_t n_bytes) {
  const unsigned char *b = bytes;
  uint64_t hash = 0xCBF29CE484222325u;
  for (size_t i = 0; i < n_bytes; i++) hash = (hash ^ b[i]) * 0x100000001B3u;
  return hash;
}

#endif
