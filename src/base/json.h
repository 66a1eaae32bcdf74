/* Reading JSON files with limits and with errors that name the file and the member. jansson
 * underneath. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Parses a whole file (a byte order mark is passed over; U+0000 allowed; of duplicate keys the last wins; whole numbers beyond 64
 * bits are read as reals, and then all of that file). Released by json_decref. */
vecmill_status json_read_file(const char *path, size_t max_bytes, json_t **root_out,
                              vecmill_error *err);

/*
 * Members of an object, with a default where the member is missing or null.
 * A member of another type is VECMILL_ERROR_FORMAT, naming `where` (a path) and the member.
 * Strings are borrowed from the object and may hold U+0000.
 */
vecmill_status json_get_bool(const json_t *object, const char *where, const char *name,
                             bool fallback, bool *value_out, vecmill_error *err);
vecmill_status json_get_int(const json_t *object, const char *where, const char *name, int64_t min,
                            int64_t max, int64_t fallback, int64_t *value_out, vecmill_error *err);
vecmill_status json_get_real(const json_t *object, const char *where, const char *name,
                             double fallback, double *value_out, vecmill_error *err);
vecmill_status json_get_string(const json_t *object, const char *where, const char *name,
                               const char *fallback, const char **value_out, vecmill_error *err);

#endif
