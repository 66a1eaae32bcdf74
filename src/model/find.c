#include "model/find.h"

#include <dirent.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

#define MAX_MODELS 10000 /* of one folder: more is somebody else's data */

/* A list that grows. */
typedef struct found {
  model_location *items;
  size_t n;
} found;

static const char *environment(const char *name) {
  const char *value = getenv(name);
  return value && *value ? value : NULL;
}

static char *under(const char *folder, const char *rest) {
  return folder ? file_join(folder, rest) : NULL;
}

/* rest, under the user's home: $HOME, else what the system's list of users says, else /. NULL when
 * memory is out. */
static char *under_home(const char *rest) {
  char buffer[4096];
  struct passwd entry, *user = NULL;
  const char *home = environment("HOME");
  if (home) return under(home, rest);
  int failed = getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &user);
  return under(!failed && user && user->pw_dir[0] ? user->pw_dir : "/", rest);
}

char *model_home(void) {
  const char *home = environment("VECMILL_HOME"), *cache = environment("XDG_CACHE_HOME");
  if (home) return mem_strdup(home);
  return cache ? under(cache, "vecmill") : under_home(".cache/vecmill");
}

/* Where the Hugging Face libraries keep snapshots. NULL when memory is out. */
static char *hub_cache(void) {
  const char *direct = environment("HF_HUB_CACHE"), *home = environment("HF_HOME");
  if (direct) return mem_strdup(direct);
  if (home) return under(home, "hub");
  const char *cache = environment("XDG_CACHE_HOME");
  return cache ? under(cache, "huggingface/hub") : under_home(".cache/huggingface/hub");
}

void model_location_fini(model_location *location) {
  mem_free(location->name);
  mem_free(location->directory);
  *location = (model_location){0};
}

void model_list_free(model_location *locations, size_t n) {
  for (size_t i = 0; i < n; i++) model_location_fini(&locations[i]);
  mem_free(locations);
}

/* A folder with a config.json or, where the Transformer lies in a folder of its own, a
 * modules.json.
 */
static vecmill_status is_model(const char *directory, bool *is_out, vecmill_error *err) {
  char *config = file_join(directory, "config.json"),
       *modules = file_join(directory, "modules.json");
  bool has_memory = config && modules;
  *is_out = has_memory && (file_exists(config) || file_exists(modules));
  mem_free(config);
  mem_free(modules);
  return has_memory ? VECMILL_OK : err_set_memory(err, directory, 0);
}

static bool has_name(const found *list, const char *name) {
  for (size_t i = 0; i < list->n; i++)
    if (strcmp(list->items[i].name, name) == 0) return true;
  return false;
}

/* Takes a copy of both; what stands earlier in the order of look-up wins. */
static vecmill_status add(found *list, const char *name, const char *directory,
                          vecmill_error *err) {
  if (has_name(list, name) || list->n == MAX_MODELS) return VECMILL_OK;
  model_location *items = mem_realloc(list->items, list->n + 1, sizeof *items);
  if (!items) return err_set_memory(err, "list of models", (list->n + 1) * sizeof *items);
  list->items = items;
  items[list->n] = (model_location){.name = mem_strdup(name), .directory = mem_strdup(directory)};
  if (!items[list->n].name || !items[list->n].directory) {
    model_location_fini(&items[list->n]);
    return err_set_memory(err, "list of models", strlen(directory));
  }
  list->n++;
  return VECMILL_OK;
}

/* Calls back for every visible entry of a folder; a folder that cannot be read is empty. */
typedef vecmill_status visit(void *context, const char *folder, const char *name,
                             vecmill_error *err);

static vecmill_status each_entry(const char *folder, visit *callback, void *context,
                                 vecmill_error *err) {
  DIR *dir = opendir(folder);
  if (!dir) return VECMILL_OK;
  vecmill_status status = VECMILL_OK;
  for (struct dirent *entry; status == VECMILL_OK && (entry = readdir(dir)) != NULL;)
    if (entry->d_name[0] != '.') status = callback(context, folder, entry->d_name, err);
  closedir(dir);
  return status;
}

/* $VECMILL_HOME/models: NAME, or ORG with NAMEs in it. */
typedef struct home_visit {
  found *list;
  const char *organisation; /* NULL at the first level */
} home_visit;

static vecmill_status visit_home(void *context, const char *folder, const char *name,
                                 vecmill_error *err) {
  home_visit *v = context;
  char *directory = file_join(folder, name);
  char *full = v->organisation ? file_join(v->organisation, name) : mem_strdup(name);
  vecmill_status status = directory && full ? VECMILL_OK : err_set_memory(err, folder, 0);
  home_visit inner = {.list = v->list, .organisation = name};
  bool is = false;
  if (status == VECMILL_OK) status = is_model(directory, &is, err);
  if (status == VECMILL_OK && is) status = add(v->list, full, directory, err);
  else if (status == VECMILL_OK && !v->organisation)
    status = each_entry(directory, visit_home, &inner, err);
  mem_free(directory);
  mem_free(full);
  return status;
}

/* The snapshot that refs/main names; *directory_out is NULL when there is none. */
static vecmill_status main_snapshot(const char *repository, char **directory_out,
                                    vecmill_error *err) {
  char *ref = file_join(repository, "refs/main"), *revision = NULL;
  str path = {0};
  size_t n;
  bool is = false;
  vecmill_status status =
      ref ? file_read(ref, 256, &revision, &n, err) : err_set_memory(err, repository, 0);
  mem_free(ref);
  *directory_out = NULL;
  if (status != VECMILL_OK) return status == VECMILL_ERROR_MEMORY ? status : VECMILL_OK;
  revision[strcspn(revision, " \r\n\t")] = '\0';
  str_append_format(&path, "%s/snapshots/%s", repository, revision);
  if (path.failed) status = err_set_memory(err, repository, 0);
  else if (*revision && !strchr(revision, '/') && revision[0] != '.')
    status = is_model(path.data, &is, err);
  mem_free(revision);
  if (is) *directory_out = path.data;
  else str_fini(&path);
  return status;
}

/* models--ORG--NAME of the hub cache. */
static vecmill_status visit_hub(void *context, const char *folder, const char *entry,
                                vecmill_error *err) {
  static const char lead[] = "models--";
  if (strncmp(entry, lead, sizeof lead - 1) != 0) return VECMILL_OK;
  char *repository = file_join(folder, entry), *name = mem_strdup(entry + sizeof lead - 1);
  char *directory = NULL;
  vecmill_status status = repository && name ? main_snapshot(repository, &directory, err)
                                             : err_set_memory(err, folder, 0);
  char *dashes = name ? strstr(name, "--") : NULL;
  if (dashes) {
    *dashes = '/';
    memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
  }
  if (directory) status = add(context, name, directory, err);
  mem_free(directory);
  mem_free(repository);
  mem_free(name);
  return status;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const model_location *)a)->name, ((const model_location *)b)->name);
}

vecmill_status model_list(model_location **locations_out, size_t *n_out, vecmill_error *err) {
  found list = {0};
  char *home = model_home(), *models = home ? file_join(home, "models") : NULL, *hub = hub_cache();
  home_visit visit_context = {.list = &list};
  vecmill_status status = models ? each_entry(models, visit_home, &visit_context, err)
                                 : err_set_memory(err, "models", 0);
  if (status == VECMILL_OK && hub) status = each_entry(hub, visit_hub, &list, err);
  mem_free(home);
  mem_free(models);
  mem_free(hub);
  if (status != VECMILL_OK) {
    model_list_free(list.items, list.n);
    return status;
  }
  if (list.n > 0) qsort(list.items, list.n, sizeof *list.items, by_name);
  *locations_out = list.items;
  *n_out = list.n;
  return VECMILL_OK;
}

static vecmill_status copy_location(const model_location *from, model_location *to,
                                    vecmill_error *err) {
  *to = (model_location){.name = mem_strdup(from->name), .directory = mem_strdup(from->directory)};
  if (to->name && to->directory) return VECMILL_OK;
  model_location_fini(to);
  return err_set_memory(err, from->name, 0);
}

/* "ORG/NAME" is asked for as itself or, when nothing else ends so, as "NAME". */
static bool answers_to(const model_location *location, const char *name) {
  const char *slash = strrchr(location->name, '/');
  return strcmp(location->name, name) == 0 || (slash && strcmp(slash + 1, name) == 0);
}

static vecmill_status not_here(const char *name, const model_location *list, size_t n,
                               vecmill_error *err) {
  str here = {0};
  for (size_t i = 0; i < n; i++) str_append_format(&here, "%s%s", i ? ", " : "", list[i].name);
  char *home = model_home();
  if (here.failed || !home) {
    mem_free(home);
    str_fini(&here);
    return err_set_memory(err, "list of models", n);
  }
  err_set(err, VECMILL_ERROR_NOT_FOUND,
          "model %s: not on this machine (%s%s; put others into %s/models/ORG/NAME, or name a "
          "directory)",
          name, n ? "--model takes: " : "no model is", n ? here.data : " here", home);
  mem_free(home);
  str_fini(&here);
  return VECMILL_ERROR_NOT_FOUND;
}

static vecmill_status find_in(const char *name, const model_location *list, size_t n,
                              model_location *location_out, vecmill_error *err) {
  const model_location *match = NULL;
  for (size_t i = 0; i < n; i++) {
    if (strcmp(list[i].name, name) == 0) return copy_location(&list[i], location_out, err);
    if (!answers_to(&list[i], name)) continue;
    if (match)
      return err_set(err, VECMILL_ERROR_ARGUMENT,
                     "model %s: more than one has that name (say %s or %s)", name, match->name,
                     list[i].name);
    match = &list[i];
  }
  return match ? copy_location(match, location_out, err) : not_here(name, list, n, err);
}

/* Nothing was named: the default if it is here, else the only one that is. */
static vecmill_status find_default(const model_location *list, size_t n,
                                   model_location *location_out, vecmill_error *err) {
  for (size_t i = 0; i < n; i++)
    if (strcmp(list[i].name, MODEL_DEFAULT_NAME) == 0)
      return copy_location(&list[i], location_out, err);
  return n == 1 ? copy_location(&list[0], location_out, err)
                : not_here(MODEL_DEFAULT_NAME, list, n, err);
}

vecmill_status model_find(const char *name, model_location *location_out, vecmill_error *err) {
  *location_out = (model_location){0};
  bool is_directory = false;
  if (name && file_is_folder(name)) {
    vecmill_status status = is_model(name, &is_directory, err);
    if (status != VECMILL_OK) return status;
  }
  if (is_directory) {
    /* A directory is its own name, whole, so that a record of it holds from any working folder. */
    char *whole = realpath(name, NULL);
    if (!whole)
      return err_set(err, VECMILL_ERROR_IO, "model %s: its path cannot be resolved", name);
    model_location here = {.name = whole, .directory = whole};
    vecmill_status copied = copy_location(&here, location_out, err);
    free(whole);
    return copied;
  }
  model_location *list = NULL;
  size_t n = 0;
  vecmill_status status = model_list(&list, &n, err);
  if (status == VECMILL_OK)
    status =
        name ? find_in(name, list, n, location_out, err) : find_default(list, n, location_out, err);
  model_list_free(list, n);
  return status;
}
