/* What stands before a text so that its model takes it for a passage or for a question. */
#ifndef CONFIG_PREFIX_H
#define CONFIG_PREFIX_H

#include <stdbool.h>

/* What the E5 family was trained with (Wang et al., "Text Embeddings by Weakly-Supervised
 * Contrastive Pre-training", 2022; the model cards of intfloat/e5-* say so too). */
#define PREFIX_E5_PASSAGE "passage: "
#define PREFIX_E5_QUERY "query: "

/*
 * Whether a model's name or directory says that it is an E5: "e5" stands as a word of its own in
 * the last part of it, or in the name of a hub cache's folder above a snapshot. The instruct models
 * of that family are not meant: they put instructions before questions and nothing before passages.
 */
bool prefix_is_e5(const char *name_or_directory);

/*
 * EMBED_PREFIX as it is put before texts: what is missing of a closing ": " is added ("passage" and
 * "passage:" become "passage: "); empty stays empty. mem_free; NULL when memory is out.
 */
char *prefix_completed(const char *text);

#endif
