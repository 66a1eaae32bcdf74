/* What the files of this room share: the inside of a model. */
#ifndef MODEL_MODEL_PARTS_H
#define MODEL_MODEL_PARTS_H

#include "kernel/vec/vec.h"
#include "model/model.h"
#include "model/model_config.h"
#include "model/weights.h"

struct model {
  model_config config;
  model_weights weights;
  model_info info;
  char *path, *pooling;
  tokenizer *tokens;
  const nn_kernels *kernels;
  const vec_kernels *vec;
};

#endif
