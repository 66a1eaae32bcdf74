#include "model/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "kernel/nn/nn.h"

#define MAX_HEADER_BYTES (100u << 20) /* the format's own limit */
#define MAX_SHARDS 1000
#define LENGTH_BYTES 8

struct st_set {
  st_tensor *tensors; /* sorted by name */
  size_t n_tensors;
  file_map *maps[MAX_SHARDS];
  size_t n_maps;
};

static vecmill_status damaged(vecmill_error *err, const char *path, const char *why) {
  return err_set(err, VECMILL_ERROR_FORMAT, "%s: not a sound safetensors file: %s (fetch it again)",
                 path, why);
}

static vecmill_status damaged_tensor(vecmill_error *err, const char *path, const char *name,
                                     const char *why) {
  return err_set(err, VECMILL_ERROR_FORMAT, "%s: tensor %s: %s (fetch it again)", path, name, why);
}

static size_t type_of(const char *name, enum st_type *type_out) {
  static const struct {
    const char *name;
    enum st_type type;
    size_t n_bytes;
  } types[] = {
      {"F32", ST_F32, 4},    {"F16", ST_F16, 2},       {"BF16", ST_BF16, 2},
      {"F64", ST_OTHER, 8},  {"I64", ST_OTHER, 8},     {"U64", ST_OTHER, 8},
      {"I32", ST_OTHER, 4},  {"U32", ST_OTHER, 4},     {"I16", ST_OTHER, 2},
      {"U16", ST_OTHER, 2},  {"I8", ST_OTHER, 1},      {"U8", ST_OTHER, 1},
      {"BOOL", ST_OTHER, 1}, {"F8_E4M3", ST_OTHER, 1}, {"F8_E5M2", ST_OTHER, 1},
  };
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    if (strcmp(types[i].name, name) == 0) return *type_out = types[i].type, types[i].n_bytes;
  return 0;
}

/* A whole number that fits size_t; false otherwise. */
static bool size_of_json(const json_t *value, size_t *size_out) {
  if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
  *size_out = (size_t)json_integer_value(value);
  return true;
}

static vecmill_status read_shape(const json_t *shape, const char *path, st_tensor *t,
                                 vecmill_error *err) {
  if (!json_is_array(shape) || json_array_size(shape) > ST_MAX_DIMS)
    return damaged_tensor(err, path, t->name, "its shape is not a short list");
  t->n_dims = json_array_size(shape);
  t->n_elements = 1;
  for (size_t i = 0; i < t->n_dims; i++)
    if (!size_of_json(json_array_get(shape, i), &t->dims[i]) ||
        !mem_mul(t->n_elements, t->dims[i], &t->n_elements))
      return damaged_tensor(err, path, t->name, "its shape is not a list of sizes");
  return VECMILL_OK;
}

/* One member of the header. data: where the data begins, and how long it is. */
static vecmill_status read_tensor(const json_t *entry, const char *path, size_t data,
                                  size_t n_data_bytes, st_tensor *t, vecmill_error *err) {
  const char *type = json_string_value(json_object_get(entry, "dtype"));
  size_t n_type_bytes = type ? type_of(type, &t->type) : 0;
  if (n_type_bytes == 0) return damaged_tensor(err, path, t->name, "its dtype is unknown");
  vecmill_status status = read_shape(json_object_get(entry, "shape"), path, t, err);
  if (status != VECMILL_OK) return status;
  const json_t *offsets = json_object_get(entry, "data_offsets");
  size_t begin, end, n_bytes;
  if (json_array_size(offsets) != 2 || !size_of_json(json_array_get(offsets, 0), &begin) ||
      !size_of_json(json_array_get(offsets, 1), &end) || begin > end || end > n_data_bytes)
    return damaged_tensor(err, path, t->name, "its data lies outside the file");
  if (!mem_mul(t->n_elements, n_type_bytes, &n_bytes) || n_bytes != end - begin)
    return damaged_tensor(err, path, t->name, "its shape and its data differ in size");
  t->offset = data + begin;
  t->n_bytes = n_bytes;
  return VECMILL_OK;
}

static int by_offset(const void *a, const void *b) {
  const st_tensor *x = a, *y = b;
  if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
  return x->n_bytes < y->n_bytes ? -1 : x->n_bytes > y->n_bytes;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const st_tensor *)a)->name, ((const st_tensor *)b)->name);
}

/* The tensors of one file lie end to end and fill it. */
static vecmill_status check_layout(st_tensor *tensors, size_t n, const char *path, size_t data,
                                   size_t end, vecmill_error *err) {
  if (n > 0) qsort(tensors, n, sizeof *tensors, by_offset);
  size_t at = data;
  for (size_t i = 0; i < n; i++) {
    if (tensors[i].offset != at)
      return damaged_tensor(err, path, tensors[i].name,
                            tensors[i].offset < at ? "it overlaps another"
                                                   : "a hole lies before it");
    at += tensors[i].n_bytes;
  }
  return at == end ? VECMILL_OK : damaged(err, path, "bytes that no tensor owns");
}

static vecmill_status read_header(st_set *set, json_t *header, const char *path,
                                  const file_map *map, size_t data, vecmill_error *err) {
  size_t first = set->n_tensors, n_more = json_object_size(header);
  st_tensor *tensors = mem_realloc(set->tensors, first + n_more, sizeof *tensors);
  if (!tensors) return err_set_memory(err, path, (first + n_more) * sizeof *tensors);
  set->tensors = tensors;
  const char *name;
  json_t *entry;
  json_object_foreach(header, name, entry) {
    if (strcmp(name, "__metadata__") == 0) continue;
    st_tensor *t = &tensors[set->n_tensors];
    *t = (st_tensor){.name = mem_strdup(name), .map = map};
    if (!t->name) return err_set_memory(err, path, strlen(name));
    set->n_tensors++;
    vecmill_status status = read_tensor(entry, path, data, map->n_bytes - data, t, err);
    if (status != VECMILL_OK) return status;
  }
  return check_layout(tensors + first, set->n_tensors - first, path, data, map->n_bytes, err);
}

static vecmill_status add_file(st_set *set, const char *path, vecmill_error *err) {
  if (set->n_maps == MAX_SHARDS) return damaged(err, path, "more shards than 1,000");
  file_map *map = mem_calloc(1, sizeof *map);
  if (!map) return err_set_memory(err, path, sizeof *map);
  set->maps[set->n_maps++] = map;
  vecmill_status status = file_map_open(path, map, err);
  if (status != VECMILL_OK) return status;
  uint64_t n_header = 0;
  if (map->n_bytes < LENGTH_BYTES)
    return damaged(err, path, "it is shorter than its own length field");
  for (int i = LENGTH_BYTES - 1; i >= 0; i--) n_header = n_header << 8 | map->data[i];
  if (n_header > MAX_HEADER_BYTES || n_header > map->n_bytes - LENGTH_BYTES)
    return damaged(err, path, "its header is longer than the file, or than 100 MB");
  json_error_t why;
  json_t *header = json_loadb((const char *)map->data + LENGTH_BYTES, (size_t)n_header,
                              JSON_REJECT_DUPLICATES, &why);
  if (!json_is_object(header)) {
    const char *reason = header ? "its header is not an object" : why.text;
    json_decref(header);
    return damaged(err, path, reason);
  }
  status = read_header(set, header, path, map, LENGTH_BYTES + (size_t)n_header, err);
  json_decref(header);
  return status;
}

static vecmill_status finish(st_set *set, const char *where, vecmill_error *err) {
  if (set->n_tensors > 0) qsort(set->tensors, set->n_tensors, sizeof *set->tensors, by_name);
  for (size_t i = 1; i < set->n_tensors; i++)
    if (strcmp(set->tensors[i - 1].name, set->tensors[i].name) == 0)
      return damaged_tensor(err, where, set->tensors[i].name, "it is there twice");
  return VECMILL_OK;
}

/* The distinct shard files of an index, sorted; `names_out` has room for one a tensor. */
static vecmill_status shard_names(const json_t *weight_map, const char *path, const char **names,
                                  size_t *n_out, vecmill_error *err) {
  const char *tensor;
  json_t *value;
  size_t n = 0;
  json_object_foreach((json_t *)weight_map, tensor, value) {
    const char *file = json_string_value(value);
    if (!file || !*file || strchr(file, '/') || file[0] == '.')
      return damaged_tensor(err, path, tensor, "its shard is not a plain file name");
    size_t i = 0;
    while (i < n && strcmp(names[i], file) != 0) i++;
    if (i == MAX_SHARDS) return damaged(err, path, "more shards than 1,000");
    if (i == n) names[n++] = file;
  }
  *n_out = n;
  return VECMILL_OK;
}

static vecmill_status add_shards(st_set *set, const char *directory, const char *index_path,
                                 vecmill_error *err) {
  json_t *root = NULL;
  const char *names[MAX_SHARDS + 1];
  size_t n = 0;
  vecmill_status status = json_read_file(index_path, MAX_HEADER_BYTES, &root, err);
  if (status != VECMILL_OK) return status;
  const json_t *weight_map = json_object_get(root, "weight_map");
  if (!json_is_object(weight_map)) status = damaged(err, index_path, "it has no \"weight_map\"");
  if (status == VECMILL_OK) status = shard_names(weight_map, index_path, names, &n, err);
  for (size_t i = 0; status == VECMILL_OK && i < n; i++) {
    char *path = file_join(directory, names[i]);
    status = path ? add_file(set, path, err) : err_set_memory(err, directory, 0);
    mem_free(path);
  }
  if (status == VECMILL_OK) status = finish(set, index_path, err);
  const char *tensor;
  json_t *value;
  json_object_foreach((json_t *)weight_map, tensor, value) {
    if (status == VECMILL_OK && !st_find(set, tensor))
      status = damaged_tensor(err, index_path, tensor, "no shard holds it");
  }
  json_decref(root);
  return status;
}

vecmill_status st_open_file(const char *path, st_set **set_out, vecmill_error *err) {
  st_set *set = mem_calloc(1, sizeof *set);
  if (!set) return err_set_memory(err, path, sizeof *set);
  vecmill_status status = add_file(set, path, err);
  if (status == VECMILL_OK) status = finish(set, path, err);
  if (status != VECMILL_OK) st_close(&set);
  *set_out = set;
  return status;
}

vecmill_status st_open(const char *directory, st_set **set_out, vecmill_error *err) {
  *set_out = NULL;
  char *single = file_join(directory, "model.safetensors");
  char *index = file_join(directory, "model.safetensors.index.json");
  vecmill_status status = VECMILL_OK;
  if (!single || !index) {
    status = err_set_memory(err, directory, strlen(directory));
  } else if (file_exists(single)) {
    status = st_open_file(single, set_out, err);
  } else if (file_exists(index)) {
    st_set *set = mem_calloc(1, sizeof *set);
    status =
        set ? add_shards(set, directory, index, err) : err_set_memory(err, directory, sizeof *set);
    if (status != VECMILL_OK && set) st_close(&set);
    *set_out = set;
  } else {
    status = err_set(err, VECMILL_ERROR_NOT_FOUND,
                     "%s: no model.safetensors (weights in other formats are not read; convert "
                     "them to safetensors)",
                     directory);
  }
  mem_free(single);
  mem_free(index);
  return status;
}

void st_close(st_set **set) {
  st_set *s = *set;
  if (!s) return;
  for (size_t i = 0; i < s->n_tensors; i++) mem_free(s->tensors[i].name);
  mem_free(s->tensors);
  for (size_t i = 0; i < s->n_maps; i++) {
    file_map_close(s->maps[i]);
    mem_free(s->maps[i]);
  }
  mem_free(s);
  *set = NULL;
}

const st_tensor *st_find(const st_set *set, const char *name) {
  st_tensor key = {.name = (char *)name};
  if (set->n_tensors == 0) return NULL;
  return bsearch(&key, set->tensors, set->n_tensors, sizeof *set->tensors, by_name);
}

void st_read_f32(const st_tensor *t, size_t first, size_t n, float *dst) {
  const uint8_t *data = t->map->data + t->offset;
  if (n == 0) return;
  if (t->type == ST_F32) memcpy(dst, data + 4 * first, 4 * n);
  if (t->type == ST_F16) nn_convert_f16(n, data + 2 * first, dst);
  if (t->type == ST_BF16) nn_convert_bf16(n, data + 2 * first, dst);
}

const float *st_f32_in_place(const st_tensor *t) {
  const uint8_t *data = t->map->data + t->offset;
  return t->type == ST_F32 && (uintptr_t)data % sizeof(float) == 0
             ? (const float *)(const void *)data
             : NULL;
}

void st_release(const st_tensor *t) {
  file_map_release(t->map, t->offset, t->n_bytes);
}
