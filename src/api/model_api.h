/* What api/embed.c needs of a public model. */
#ifndef API_MODEL_API_H
#define API_MODEL_API_H

#include <vecmill/model.h>

#include "model/find.h"
#include "model/model.h"

struct vecmill_model {
  model *inner;
  model_location location;
  vecmill_model_info info;
};

#endif
