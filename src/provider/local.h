/* The provider that runs a model on this machine's processor. */
#ifndef PROVIDER_LOCAL_H
#define PROVIDER_LOCAL_H

#include "model/model.h"
#include "provider/provider.h"

/*
 * The model is borrowed and must outlive the provider. `prefix` is put before every text (before
 * tokenization); copied.
 */
vecmill_status provider_open_local(const model *m, const char *prefix, provider **provider_out,
                                   vecmill_error *err);

#endif
