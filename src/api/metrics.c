#include <vecmill/metrics.h>

#include "text/metrics.h"

vecmill_status vecmill_wordlist_open(const char *path, const char *overrides_path,
                                     vecmill_wordlist **list_out, vecmill_error *err) {
  return wordlist_open(path, overrides_path, list_out, err);
}

void vecmill_wordlist_close(vecmill_wordlist **list) {
  wordlist_close(list);
}

size_t vecmill_wordlist_n_words(const vecmill_wordlist *list) {
  return wordlist_count(list).n_words;
}

void vecmill_text_measure(const char *text, size_t n_bytes, const vecmill_wordlist *list,
                          vecmill_text_metrics *metrics_out) {
  text_metrics m;
  metrics_of(text, n_bytes, list, &m);
  *metrics_out = (vecmill_text_metrics){.word_count = m.word_count,
                                        .length = m.length,
                                        .entity_count = m.entity_count,
                                        .has_ratio = m.has_ratio,
                                        .hawaiian_word_ratio = m.hawaiian_word_ratio};
}
