/*
 * Which model directory a name means, which models are on this machine, and
 * what identifies a model's weights.
 *
 * Looked up in $VECMILL_HOME/models/NAME (default ~/.cache/vecmill), then in the
 * Hugging Face cache (HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub:
 * models--ORG--NAME/snapshots/REVISION, the revision read from refs/main). A name that holds a
 * slash may also be a path. A bare NAME finds ORG/NAME if one model alone has it.
 */
#ifndef MODEL_FIND_H
#define MODEL_FIND_H

#include <stddef.h>

#include "base/err.h"

#define MODEL_DEFAULT_NAME "intfloat/multilingual-e5-small"

/* Where one was found. Strings are freed by model_location_fini. */
typedef struct model_location {
  char *name; /* "sentence-transformers/all-MiniLM-L6-v2", or the path as given */
  char *directory;
} model_location;

void model_location_fini(model_location *location);

/* name_or_directory NULL means: MODEL_DEFAULT_NAME if it is here, else the only model that is, else
 * an error that lists them. */
vecmill_status model_find(const char *name_or_directory, model_location *location_out,
                          vecmill_error *err);

/* All models on this machine, sorted by name; freed by model_list_free. */
vecmill_status model_list(model_location **locations_out, size_t *n_out, vecmill_error *err);
void model_list_free(model_location *locations, size_t n);

/*
 * The hub revision when the directory is a hub snapshot, else "sha256:" and a SHA-256 over its
 * files (those that decide the vectors), remembered under $VECMILL_HOME by path, size and time.
 * mem_free.
 */
vecmill_status model_identity(const char *directory, char **identity_out, vecmill_error *err);

/* $VECMILL_HOME, else $XDG_CACHE_HOME/vecmill, else ~/.cache/vecmill. mem_free; NULL when memory is
 * out. */
char *model_home(void);

#endif
