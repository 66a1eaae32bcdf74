/* The SQLite store over a database of the test's own: opened, run, refused. */
#ifndef TESTS_STORE_TEST_H
#define TESTS_STORE_TEST_H

#include "sqlite_test.h"

#include "store/sqlite.h"

#define DIMENSION 2
static const store_maker maker = {"a/model", "sha256:1", "mean", "", "f32", "", DIMENSION};

static vecmill_error error;

static inline int setup(void **state) {
  (void)state;
  make_database();
  return 0;
}

static inline int teardown(void **state) {
  (void)state;
  return remove_database();
}

static inline store *open_target(const store_target *target, vecmill_status expected) {
  store *s = NULL;
  store_columns columns;
  memset(&error, 0, sizeof error);
  assert_int_equal(store_open_sqlite(path, NULL, &s, &error), VECMILL_OK);
  vecmill_status status = s->operations->find(s, target, &columns, &error);
  if (status != expected) fail_msg("find: %d instead of %d: %s", status, expected, error.text);
  if (status == VECMILL_OK) return s;
  s->operations->close(s);
  return NULL;
}

static inline store *begin_counted(const store_target *target, store_counts *counts_out) {
  store *s = open_target(target, VECMILL_OK);
  vecmill_status status = s->operations->begin(s, &maker, &error);
  if (status == VECMILL_OK) status = s->operations->count(s, counts_out, &error);
  if (status != VECMILL_OK) fail_msg("begin: %s", error.text);
  return s;
}

static inline void refused(const store_target *target, vecmill_status status, const char *words) {
  open_target(target, status);
  if (!strstr(error.text, words)) fail_msg("\"%s\" does not say \"%s\"", error.text, words);
}

/* A vector that tells its text: its length and its first byte. */
static inline void vector_of(const store_row *row, float *vector_out) {
  vector_out[0] = (float)row->n_text_bytes;
  vector_out[1] = row->n_text_bytes ? (float)(unsigned char)row->text[0] : 0;
}

static inline void embed_page(store_page *page, float (*vectors)[DIMENSION]) {
  for (size_t i = 0; i < page->n_rows; i++) {
    vector_of(&page->rows[i], vectors[i]);
    page->rows[i].vector = vectors[i];
    page->rows[i].outcome = STORE_EMBEDDED;
  }
}

/* Passes until one finds nothing; returns the rows written; `keys` collects what was claimed. */
static inline uint64_t embed_all(store *s, size_t batch, str *keys) {
  uint64_t n_written = 0;
  for (;;) {
    bool may_find = false;
    uint64_t n_claimed = 0;
    assert_int_equal(s->operations->pass_begin(s, &may_find, &error), VECMILL_OK);
    for (size_t n = 1; may_find && n > 0;) {
      store_page page;
      float vectors[512][DIMENSION];
      assert_int_equal(s->operations->claim(s, batch, &page, &error), VECMILL_OK);
      n = page.n_rows;
      n_claimed += n;
      for (size_t i = 0; keys && i < n; i++) {
        if (keys->n) str_append_text(keys, " ");
        s->operations->key_json(s, page.rows[i].key, page.rows[i].n_key_bytes, keys);
      }
      embed_page(&page, vectors);
      store_commit_counts counts = {0};
      if (n) assert_int_equal(s->operations->commit(s, &page, &counts, &error), VECMILL_OK);
      n_written += counts.n_written;
      s->operations->page_free(s, &page);
    }
    if (n_claimed == 0) return n_written;
  }
}

static inline void expect_run(const store_target *target, size_t batch, uint64_t n_left,
                              const char *keys) {
  store_counts counts;
  str claimed = {0};
  store *s = begin_counted(target, &counts);
  assert_int_equal(counts.n_left, n_left);
  assert_int_equal(embed_all(s, batch, &claimed), n_left);
  assert_string_equal(claimed.data ? claimed.data : "", keys);
  str_fini(&claimed);
  s->operations->close(s);
}

#endif
