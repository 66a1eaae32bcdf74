/* Numbers that are told of a text beside its vector. docs/metrics.md has every rule. */
#ifndef VECMILL_METRICS_H
#define VECMILL_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include <vecmill/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The words of a language, folded (case, macrons, NFC and NFD, okina forms). Immutable: any number
 * of threads may use one. */
typedef struct vecmill_wordlist vecmill_wordlist;

/*
 * Reads a UTF-8 file of one word a line (blank lines and lines that begin with `-` or `raw_head`
 * are skipped) and, unless overrides_path is NULL, a JSON file of entries {"word", "action"} that
 * take words off the list or put them there. What no word of a text can be ("e komo mai") is left
 * out, and a warning (vecmill/log.h) counts it. Errors name file and line: VECMILL_ERROR_NOT_FOUND,
 * _IO, _FORMAT, _MEMORY. The list is the caller's, to be closed.
 */
VECMILL_API vecmill_status vecmill_wordlist_open(const char *path, const char *overrides_path,
                                                 vecmill_wordlist **list_out, vecmill_error *err);
VECMILL_API void vecmill_wordlist_close(vecmill_wordlist **list); /* NULL inside is allowed */
VECMILL_API size_t vecmill_wordlist_n_words(const vecmill_wordlist *list);

/* Counts stop at INT32_MAX. */
typedef struct vecmill_text_metrics {
  int32_t word_count;         /* runs separated by Unicode's White_Space */
  int32_t length;             /* code points; an ill-formed sequence is one */
  int32_t entity_count;       /* names: runs of capitalised words that begin no sentence */
  int has_ratio;              /* 0 without a list, and for a text without words */
  double hawaiian_word_ratio; /* 0 to 1: words that the list holds, or that are Hawaiian by
                               * themselves, among all; 0 where there is none */
} vecmill_text_metrics;

/* Of n_bytes of UTF-8 (NUL allowed); `list` may be NULL. Cannot fail; allocates nothing. */
VECMILL_API void vecmill_text_measure(const char *text, size_t n_bytes,
                                      const vecmill_wordlist *list,
                                      vecmill_text_metrics *metrics_out);

#ifdef __cplusplus
}
#endif
#endif
