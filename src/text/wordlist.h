/*
 * A word list: which words are Hawaiian (or of any language whose words somebody has written down).
 *
 * Read from a file of one word a line and, where there is one, a JSON file of overrides; kept
 * folded (fold.h) in a hash set. Immutable after open: any number of threads may ask at once.
 *
 * The list: UTF-8 (a byte order mark is passed over), lines ended by LF or CR LF, white space
 * around a word ignored. Blank lines and lines that begin with `-` or `raw_head` are skipped. A
 * line that holds what no word holds (a space, a hyphen, a comma) is kept out and counted: no word
 * of a text could ever be it. How many there are is told by a warning (log.h), of the overrides too.
 *
 * The overrides, applied after the list in the order of the file, the last one on a word counting:
 * an array of entries, or an object with such an array under "entries". An entry is an object with
 * "word" and "action": stopword, exclude or remove take the word off the list; include, hawaiian or
 * add put it there; review, note and clear change nothing. Case and white space around an action do
 * not count; other members are ignored. An entry that is a string alone is a stopword. Older files
 * have "stopwords", an array of words, and "recategorized", an object whose names are words to
 * include, in place of "entries".
 */
#ifndef TEXT_WORDLIST_H
#define TEXT_WORDLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define WORDLIST_MAX_FILE_BYTES (64 << 20)

typedef struct vecmill_wordlist wordlist;

typedef struct wordlist_counts {
  size_t n_words;      /* different words, folded, after the overrides */
  size_t n_skipped;    /* lines: blank, `-`, raw_head */
  size_t n_unusable;   /* lines and overrides that hold what no word holds */
  size_t n_overridden; /* overrides that put a word on the list or took it off */
} wordlist_counts;

/*
 * `overrides_path` may be NULL. Errors name the file and the line (of the overrides: the entry,
 * from 1): NOT_FOUND, IO, MEMORY, FORMAT (not UTF-8, not JSON, an unknown action, a word of more
 * than 255 bytes, a list of no words, a file of more than 64 MiB).
 */
vecmill_status wordlist_open(const char *path, const char *overrides_path, wordlist **list_out,
                             vecmill_error *err);
void wordlist_close(wordlist **list); /* idempotent; clears *list */

/* Whether the list holds a word that was folded by fold_word. Eight bytes from any of them on can be
 * read, whatever n is. */
bool wordlist_holds(const wordlist *list, const char *folded, size_t n);

wordlist_counts wordlist_count(const wordlist *list);

/* The same for lists that hold the same words, however they came there; never 0. */
uint64_t wordlist_fingerprint(const wordlist *list);

#endif
