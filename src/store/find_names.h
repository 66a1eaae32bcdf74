/* Names that a text column is likely to have, the likeliest first; the same for every database. */
#ifndef STORE_FIND_NAMES_H
#define STORE_FIND_NAMES_H

static const char *const text_names[] = {
    "text",     "body",    "content", "description", "sentence", "hawaiiantext",
    "document", "passage", "chunk",   "message",     "comment",  "review",
    "abstract", "summary", "article", "paragraph",
};
enum { N_TEXT_NAMES = sizeof text_names / sizeof *text_names };

#endif
