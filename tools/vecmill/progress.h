/*
 * Showing an ingest run: a bar on a terminal, a line a batch elsewhere, JSON for programs.
 *
 * Lines and JSON go to stdout, the bar to stderr; errors are not its business. One thread
 * draws, but warnings may come from any: progress_message puts them above the bar.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

#include <vecmill/ingest.h>

typedef enum progress_mode {
  PROGRESS_AUTO,
  PROGRESS_BAR,
  PROGRESS_LINES,
  PROGRESS_JSON,
  PROGRESS_OFF
} progress_mode;

/* False for a word that is no mode. */
bool progress_mode_named(const char *word, progress_mode *mode_out);

typedef struct progress_display {
  progress_mode mode; /* never AUTO after init */
  bool utf8;
  bool dry_run, metrics_only; /* set by whoever runs it: the summary says other things */
} progress_display;

/* AUTO becomes a bar if stdout and stderr are terminals that can move the cursor. */
void progress_display_init(progress_display *display, progress_mode mode);

/* A vecmill_ingest_handler; the context is the display. */
void progress_event(void *display, const vecmill_ingest_event *event);

/* The end of the run, whatever it was: the summary, on stdout. */
void progress_summary(progress_display *display, const vecmill_ingest_report *report,
                      vecmill_status status);

/* One line on stderr ("vecmill: ..."), above the bar if there is one. Any thread. */
void progress_message(const char *text);

/* The bar as it would be drawn in `width` columns, at least 1; for tests and for drawing.
 * Returns its bytes. */
size_t progress_format_bar(const vecmill_ingest_event *event, unsigned width, bool utf8,
                           char *line_out, size_t n_room);

#endif
