/* What the readers of configuration files share. */
#ifndef MODEL_CONFIG_PARTS_H
#define MODEL_CONFIG_PARTS_H

#include "base/json.h"
#include "model/model_config.h"

#define MAX_POSITIONS (1 << 22)

/* "PATH: WHAT VALUE: not supported yet" */
vecmill_status model_config_unsupported(vecmill_error *err, const char *path, const char *what,
                                        const char *value);

/* folder/name parsed; a missing file gives *root_out = NULL when it is optional. The caller frees
 * both, after a failure too. */
vecmill_status model_config_read_json(const char *folder, const char *name, bool optional,
                                      char **path_out, json_t **root_out, vecmill_error *err);

/* max_tokens and what a tokenizer_config.json says; max_positions is known before. */
vecmill_status model_config_read_tokens(model_config *config, vecmill_error *err);

#endif
