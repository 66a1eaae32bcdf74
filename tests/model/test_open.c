/* Opening a model while memory runs out at every place in turn: a clean error, nothing left behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/find.h"
#include "model/model.h"

/* Shards, a prefix, a Dense module, prompts: every loader has something to do. */
#define FORMS                                                                                      \
  "--layers 1 --hidden 8 --heads 2 --intermediate 8 --positions 16 --dense 6 --default-prompt "    \
  "query"

static char folder[64];

static int make_model(void **state) {
  (void)state;
  char command[512];
  strcpy(folder, "test_open-XXXXXX");
  if (!mkdtemp(folder)) return -1;
  snprintf(command, sizeof command,
           "/usr/bin/python3 '%s' %s " FORMS " --shards 2 --tensor-prefix bert. --dtype F16",
           getenv("VECMILL_MAKE_TINY_MODEL"), folder);
  return system(command);
}

static int remove_model(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof command, "rm -r %s", folder);
  return system(command);
}

/* folder/home and folder/hub, with a model in each by a link. */
static void make_homes(void) {
  char command[512], path[80];
  snprintf(command, sizeof command,
           "cd %s && hub=hub/models--they--theirs && "
           "mkdir -p home/models/org $hub/refs $hub/snapshots && printf abc > $hub/refs/main && "
           "ln -sfn ../../.. home/models/org/mine && ln -sfn ../../.. $hub/snapshots/abc",
           folder);
  assert_int_equal(system(command), 0);
  snprintf(path, sizeof path, "%s/home", folder);
  setenv("VECMILL_HOME", path, 1);
  snprintf(path, sizeof path, "%s/hub", folder);
  setenv("HF_HUB_CACHE", path, 1);
}

typedef vecmill_status try_it(vecmill_error *err);

static vecmill_status try_open(vecmill_error *err) {
  model *m = NULL;
  vecmill_status status = model_open(folder, &m, err);
  assert_true((m != NULL) == (status == VECMILL_OK));
  model_close(&m);
  return status;
}

static vecmill_status try_find(vecmill_error *err) {
  model_location location;
  vecmill_status status = model_find(folder, &location, err);
  if (status == VECMILL_OK) model_location_fini(&location);
  return status;
}

/* The hub's, so that every look-up before it is gone through. */
static vecmill_status try_find_by_name(vecmill_error *err) {
  model_location location;
  vecmill_status status = model_find("theirs", &location, err);
  if (status != VECMILL_OK) return status;
  assert_string_equal(location.name, "they/theirs");
  model_location_fini(&location);
  return status;
}

/* A name that is nowhere: NOT_FOUND, and only when both that are there could be named. */
static vecmill_status try_not_found(vecmill_error *err) {
  model_location location;
  vecmill_status status = model_find("nowhere", &location, err);
  if (status != VECMILL_ERROR_NOT_FOUND) return status;
  assert_non_null(strstr(err->text, "org/mine, they/theirs"));
  return VECMILL_OK;
}

static vecmill_status try_scratch(vecmill_error *err) {
  static model *opened;
  model_scratch *scratch = NULL;
  if (!opened) {
    mem_fail_after(-1);
    assert_int_equal(model_open(folder, &opened, NULL), VECMILL_OK);
    mem_fail_after(0);
  }
  vecmill_status status = model_scratch_open(opened, 64, &scratch, err);
  assert_true((scratch != NULL) == (status == VECMILL_OK));
  model_scratch_close(&scratch);
  if (status == VECMILL_OK) model_close(&opened);
  return status;
}

static vecmill_status try_identity(vecmill_error *err) {
  char *identity = NULL;
  vecmill_status status = model_identity(folder, &identity, err);
  assert_true((identity != NULL) == (status == VECMILL_OK));
  mem_free(identity);
  return status;
}

/* The n-th allocation and all later ones fail: the call says MEMORY until none is needed any more.
 * Returns n. */
static long fail_each(try_it *try) {
  long n = 0;
  for (vecmill_status status = VECMILL_ERROR_MEMORY; status != VECMILL_OK; n++) {
    vecmill_error error = {0};
    mem_fail_after(n);
    status = try(&error);
    mem_fail_after(-1);
    if (status == VECMILL_OK) continue;
    assert_int_equal(status, VECMILL_ERROR_MEMORY);
    assert_non_null(strstr(error.text, "out of memory"));
  }
  return n;
}

static void test_open_without_memory(void **state) {
  (void)state;
  assert_in_range(fail_each(try_open), 50, 100000);
}

static void test_find_without_memory(void **state) {
  (void)state;
  assert_in_range(fail_each(try_find), 2, 100000);
}

static void test_find_by_name_without_memory(void **state) {
  (void)state;
  make_homes();
  assert_in_range(fail_each(try_find_by_name), 10, 100000);
  assert_in_range(fail_each(try_not_found), 10, 100000);
}

static void test_scratch_without_memory(void **state) {
  (void)state;
  assert_in_range(fail_each(try_scratch), 10, 100000);
}

static void test_identity_without_memory(void **state) {
  (void)state;
  make_homes();
  assert_in_range(fail_each(try_identity), 10, 100000);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open_without_memory),
      cmocka_unit_test(test_find_without_memory),
      cmocka_unit_test(test_find_by_name_without_memory),
      cmocka_unit_test(test_scratch_without_memory),
      cmocka_unit_test(test_identity_without_memory),
  };
  return cmocka_run_group_tests(tests, make_model, remove_model);
}
