/*
 * A provider that counts what another one does, in a file: how many texts the model was run on, and
 * in how many calls. The file is mapped, so that the count outlives a kill -9, and several
 * processes may share it.
 */
#ifndef PROVIDER_COUNTED_H
#define PROVIDER_COUNTED_H

#include "provider/provider.h"

/* Puts itself before *p, which it owns from then on. The file is two uint64 in native byte
 * order, texts and calls; it is made if it is missing. Errors: IO, MEMORY; *p stays. */
vecmill_status provider_count(provider **p, const char *path, vecmill_error *err);

#endif
