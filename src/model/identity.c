/*
 * What identifies a model's weights: the hub's revision where there is one,
 * else a SHA-256 over the files that decide the vectors. Hashing 90 MB takes
 * longer than a small run, so the answer is remembered by path, size and time.
 */
#include <dirent.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/find.h"
#include "model/model_config.h"

#define REVISION_LENGTH 40

/* The files that decide the vectors, as far as they are there. */
static const char *const decisive[] = {
    "modules.json",
    "config.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
};

/* .../snapshots/REVISION */
static const char *hub_revision(const char *directory) {
  const char *slash = strrchr(directory, '/');
  if (!slash || strlen(slash + 1) != REVISION_LENGTH ||
      strspn(slash + 1, "0123456789abcdef") != REVISION_LENGTH)
    return NULL;
  static const char parent[] = "/snapshots";
  size_t n = (size_t)(slash - directory);
  return n >= sizeof parent - 1 &&
                 memcmp(slash - (sizeof parent - 1), parent, sizeof parent - 1) == 0
             ? slash + 1
             : NULL;
}

static vecmill_status add_file(str *list, const char *folder, const char *name,
                               vecmill_error *err) {
  char *path = file_join(folder, name);
  if (!path) return err_set_memory(err, folder, 0);
  struct stat st;
  if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
    str_append_format(list, "%s\t%lld\t%lld.%09ld\n", path, (long long)st.st_size,
                      (long long)st.st_mtim.tv_sec, (long)st.st_mtim.tv_nsec);
  }
  mem_free(path);
  return list->failed ? err_set_memory(err, folder, list->n) : VECMILL_OK;
}

static int is_safetensors(const struct dirent *entry) {
  size_t n = strlen(entry->d_name), n_ending = strlen(".safetensors");
  return n > n_ending && strcmp(entry->d_name + n - n_ending, ".safetensors") == 0;
}

/* Not alphasort, which follows the locale. */
static int in_byte_order(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

/* Shards, where they are what is read: all that lie there, in order of their names. */
static vecmill_status add_shards(str *list, const char *folder, vecmill_error *err) {
  char *whole = file_join(folder, "model.safetensors");
  if (!whole) return err_set_memory(err, folder, 0);
  bool is_single = file_exists(whole);
  mem_free(whole);
  struct dirent **entries;
  int n = is_single ? 0 : scandir(folder, &entries, is_safetensors, in_byte_order);
  if (n < 0) return err_set_errno(err, errno, "cannot read", folder);
  vecmill_status status = VECMILL_OK;
  for (int i = 0; i < n; i++) {
    if (status == VECMILL_OK) status = add_file(list, folder, entries[i]->d_name, err);
    free(entries[i]);
  }
  if (n > 0 || !is_single) free(entries);
  return status;
}

/* One line a file: path, size, time. The modules' own folders included. */
static vecmill_status list_files(const char *directory, str *list, vecmill_error *err) {
  model_config config;
  vecmill_status status = model_config_read(directory, &config, err);
  if (status != VECMILL_OK) return status;
  bool nested = strcmp(config.transformer_folder, directory) != 0;
  for (size_t i = 0; status == VECMILL_OK && i < sizeof decisive / sizeof *decisive; i++) {
    status = add_file(list, directory, decisive[i], err);
    if (status == VECMILL_OK && nested)
      status = add_file(list, config.transformer_folder, decisive[i], err);
  }
  if (status == VECMILL_OK) status = add_shards(list, config.transformer_folder, err);
  for (size_t i = 0; status == VECMILL_OK && i < config.n_modules; i++) {
    if (!config.modules[i].folder) continue;
    status = add_file(list, config.modules[i].folder, "config.json", err);
    if (status == VECMILL_OK)
      status = add_file(list, config.modules[i].folder, "model.safetensors", err);
    if (status == VECMILL_OK && config.modules[i].kind == MODULE_DENSE)
      status = add_shards(list, config.modules[i].folder, err);
  }
  model_config_fini(&config);
  return status;
}

static vecmill_status hash_file(EVP_MD_CTX *hash, const char *directory, const char *path,
                                vecmill_error *err) {
  file_map map;
  vecmill_status status = file_map_open(path, &map, err);
  if (status != VECMILL_OK) return status;
  size_t n = strlen(directory);
  const char *name = strncmp(path, directory, n) == 0 ? path + n : path;
  /* The name inside the model and its length first, so that bytes cannot move from one file to
   * another. */
  char head[64];
  int n_head = snprintf(head, sizeof head, "%zu %zu ", strlen(name), map.n_bytes);
  bool ok = EVP_DigestUpdate(hash, head, (size_t)n_head) &&
            EVP_DigestUpdate(hash, name, strlen(name)) &&
            (map.n_bytes == 0 || EVP_DigestUpdate(hash, map.data, map.n_bytes));
  file_map_close(&map);
  return ok ? VECMILL_OK : err_set(err, VECMILL_ERROR_INTERNAL, "%s: SHA-256 failed", path);
}

static vecmill_status hash_files(const char *directory, const char *list, char hex_out[65],
                                 vecmill_error *err) {
  EVP_MD_CTX *hash = EVP_MD_CTX_new();
  char *copy = mem_strdup(list), *rest = copy;
  vecmill_status status = hash && copy && EVP_DigestInit_ex(hash, EVP_sha256(), NULL)
                              ? VECMILL_OK
                              : err_set_memory(err, directory, 0);
  for (char *line; status == VECMILL_OK && (line = strsep(&rest, "\n")) != NULL && *line;) {
    line[strcspn(line, "\t")] = '\0';
    status = hash_file(hash, directory, line, err);
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  if (status == VECMILL_OK && !EVP_DigestFinal_ex(hash, digest, NULL))
    status = err_set(err, VECMILL_ERROR_INTERNAL, "%s: SHA-256 failed", directory);
  for (int i = 0; status == VECMILL_OK && i < 32; i++)
    snprintf(hex_out + 2 * i, 3, "%02x", digest[i]);
  mem_free(copy);
  EVP_MD_CTX_free(hash);
  return status;
}

/* $VECMILL_HOME/identities/HASH-OF-THE-PATH: the list of files, then the identity. NULL when memory
 * is out. */
static char *memory_path(const char *directory) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  char *home = model_home();
  str path = {0};
  if (home && EVP_Digest(directory, strlen(directory), digest, NULL, EVP_sha256(), NULL)) {
    str_append_format(&path, "%s/identities/", home);
    for (int i = 0; i < 16; i++) str_append_format(&path, "%02x", digest[i]);
  }
  mem_free(home);
  if (!path.failed) return path.data;
  str_fini(&path);
  return NULL;
}

/* The remembered hash, if the list is still the same. A damaged memory is no memory. */
static bool recall(const char *path, const str *list, char hex_out[65]) {
  char *data;
  size_t n;
  if (!path || file_read(path, 1 << 20, &data, &n, NULL) != VECMILL_OK) return false;
  bool same = n == list->n + 64 && memcmp(data, list->data, list->n) == 0 &&
              strspn(data + list->n, "0123456789abcdef") == 64;
  if (same) memcpy(hex_out, data + list->n, 65);
  mem_free(data);
  return same;
}

/* A home that cannot be written costs time at the next run, nothing else. */
static void remember(const char *path, const str *list, const char *hex) {
  str data = {0};
  char *folder = path ? mem_strdup(path) : NULL;
  if (folder) *strrchr(folder, '/') = '\0';
  str_append(&data, list->data, list->n);
  str_append_text(&data, hex);
  if (folder && !data.failed && file_make_folders(folder, NULL) == VECMILL_OK)
    file_replace(path, data.data, data.n, NULL);
  mem_free(folder);
  str_fini(&data);
}

vecmill_status model_identity(const char *directory, char **identity_out, vecmill_error *err) {
  char *whole = realpath(directory, NULL), hex[65] = "";
  if (!whole)
    return err_set(err, VECMILL_ERROR_NOT_FOUND, "model %s: no such directory", directory);
  const char *revision = hub_revision(whole);
  str list = {0}, identity = {0};
  vecmill_status status = revision ? VECMILL_OK : list_files(whole, &list, err);
  if (status == VECMILL_OK && !revision) {
    char *memory = memory_path(whole);
    if (!recall(memory, &list, hex)) {
      status = hash_files(whole, list.data ? list.data : "", hex, err);
      if (status == VECMILL_OK) remember(memory, &list, hex);
    }
    mem_free(memory);
  }
  if (status == VECMILL_OK) {
    str_append_format(&identity, "%s%s", revision ? "" : "sha256:", revision ? revision : hex);
    if (identity.failed) status = err_set_memory(err, directory, 0);
  }
  free(whole);
  str_fini(&list);
  if (status == VECMILL_OK) *identity_out = identity.data;
  else str_fini(&identity);
  return status;
}
