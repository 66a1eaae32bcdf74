/*
 * One pass over a text, in which two kinds of word are told apart:
 * - what stands between white space (word_count, entity_count): here a "run";
 * - letters, marks, digits and okina forms together (the ratio): here a "word".
 */
#include "text/metrics.h"

#include <string.h>

#include "text/fold.h"
#include "text/unicode.h"
#include "text/utf8.h"

/* unicode_kind, and finer where the rules ask for it. */
enum kind {
  OTHER = UNICODE_KIND_OTHER,
  SPACE = UNICODE_KIND_SPACE,
  MARK = UNICODE_KIND_MARK,
  DIGIT = UNICODE_KIND_DIGIT,
  LETTER = UNICODE_KIND_LETTER,
  UPPER = UNICODE_KIND_UPPER,
  OKINA,      /* U+02BB */
  OKINA_LIKE, /* the other forms; three of them close quotes too */
  CLOSING,    /* quotes that close, and are no okina form */
  ENDING      /* . ! ? */
};

/* clang-format off */
static const uint8_t ascii_kinds[128] = {
#define O OTHER
#define S SPACE
#define D DIGIT
#define L LETTER
#define U UPPER
#define Q OKINA_LIKE
#define C CLOSING
#define E ENDING
    O, O, O, O, O, O, O, O, O, S, S, S, S, S, O, O,  /* 0x00 */
    O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,  /* 0x10 */
    S, E, C, O, O, O, O, Q, O, O, O, O, O, O, E, O,  /* 0x20 */
    D, D, D, D, D, D, D, D, D, D, O, O, O, O, O, E,  /* 0x30 */
    O, U, U, U, U, U, U, U, U, U, U, U, U, U, U, U,  /* 0x40 */
    U, U, U, U, U, U, U, U, U, U, U, O, O, O, O, O,  /* 0x50 */
    Q, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L,  /* 0x60 */
    L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,  /* 0x70 */
#undef O
#undef S
#undef D
#undef L
#undef U
#undef Q
#undef C
#undef E
};
/* clang-format on */

/* Past ASCII. The marks that open quotes in one language close them in another. */
static uint8_t kind_of(uint32_t code) {
  switch (code) {
    case FOLD_OKINA: return OKINA;
    case 0x2018:
    case 0x2019: return OKINA_LIKE;
    case 0xAB:
    case 0xBB:
    case 0x201C:
    case 0x201D:
    case 0x2039:
    case 0x203A: return CLOSING;
    default: return (uint8_t)unicode_kind_of(code);
  }
}

typedef struct scan {
  const char *text;
  size_t n;
  const wordlist *list;
  size_t n_runs, n_codes, n_names, n_words, n_hawaiian;

  /* The run being read. Its body is what lies from the first letter or digit to the last. */
  size_t body_start, body_end;
  bool in_run, has_body, capital;
  bool parted; /* not only okina forms, marks and space came since the last letter or digit */
  bool parted_before; /* `parted` as the body began */
  bool ended;         /* . ! ? and perhaps closing quotes were the last that came */

  /* From run to run. */
  bool begins_sentence, in_name;

  /* The word being read. */
  size_t word_start;
  bool in_word, word_has_body, word_has_okina;
  bool word_is_plain; /* ASCII letters and digits */
} scan;

#define STOP_MAX_BYTES 8

/*
 * Words that are capitalised in titles, at the beginning of quotations and by habit, and name
 * nobody. Folded, okina forms at the ends stripped; sorted by their bytes. docs/metrics.md has the
 * list too.
 */
static const char stop_list[][STOP_MAX_BYTES + 1] = {
    "a",     "aia",   "aka",     "also",   "an",      "and",    "aole",    "are",    "as",
    "at",    "au",    "aʻole",   "be",     "because", "been",   "but",     "by",     "can",
    "canʻt", "could", "did",     "didnʻt", "do",      "does",   "doesnʻt", "donʻt",  "e",
    "eia",   "for",   "from",    "had",    "has",     "have",   "he",      "her",    "here",
    "hers",  "heʻs",  "him",     "his",    "how",     "i",      "ia",      "if",     "in",
    "into",  "is",    "isnʻt",   "it",     "its",     "itʻs",   "iʻd",     "iʻll",   "iʻm",
    "iʻve",  "ka",    "kakou",   "ke",     "keia",    "kekahi", "kela",    "ko",     "lakou",
    "letʻs", "ma",    "mai",     "makou",  "me",      "my",     "na",      "no",     "nor",
    "not",   "now",   "o",       "oe",     "of",      "oh",     "oia",     "on",     "or",
    "our",   "ours",  "pela",    "she",    "sheʻs",   "should", "so",      "some",   "such",
    "than",  "that",  "thatʻs",  "the",    "their",   "them",   "then",    "there",  "thereʻs",
    "these", "they",  "theyʻre", "this",   "those",   "to",     "too",     "ua",     "was",
    "we",    "were",  "weʻll",   "weʻre",  "weʻve",   "what",   "whatʻs",  "when",   "where",
    "which", "while", "who",     "whom",   "whose",   "whoʻs",  "why",     "with",   "wonʻt",
    "would", "yes",   "yet",     "you",    "your",    "yours",  "youʻll",  "youʻre", "youʻve",
};
#define N_STOP (sizeof stop_list / sizeof *stop_list)

/* Eight bytes as a number that orders as they do. */
static uint64_t ordered(const char *bytes) {
  uint64_t block;
  memcpy(&block, bytes, sizeof block);
  return __builtin_bswap64(block);
}

static bool is_stop_word(const char *body, size_t n) {
  fold_result word;
  if (n > 2 * STOP_MAX_BYTES) return false; /* no usual spelling of one is longer */
  fold_word(body, n, &word);
  if (word.n == 0 || word.n > STOP_MAX_BYTES) return false;
  memset(word.bytes + word.n, 0, STOP_MAX_BYTES);
  uint64_t key = ordered(word.bytes);
  size_t first =
      0; /* the last entry that is not above the key; no branch of it can be mispredicted */
  for (size_t n_left = N_STOP; n_left > 1; n_left -= n_left / 2)
    first += ordered(stop_list[first + n_left / 2]) <= key ? n_left / 2 : 0;
  return ordered(stop_list[first]) == key;
}

static void end_run(scan *s) {
  if (!s->in_run) return;
  bool name = s->has_body && s->capital && !s->begins_sentence &&
              !is_stop_word(s->text + s->body_start, s->body_end - s->body_start);
  if (name && (!s->in_name || s->parted_before)) s->n_names++;
  s->in_name = name;
  /* Dashes, bullets and quotes that stand alone leave it to the next run to begin the sentence. */
  s->begins_sentence = s->ended || (s->begins_sentence && !s->has_body);
  s->in_run = s->has_body = s->ended = false;
}

static size_t okina_like_at_front(const char *word, size_t n) {
  if (n > 0 && (word[0] == '\'' || word[0] == '`')) return 1;
  return n >= 3 && (!memcmp(word, "\xE2\x80\x98", 3) || !memcmp(word, "\xE2\x80\x99", 3)) ? 3 : 0;
}

static size_t okina_like_at_end(const char *word, size_t n) {
  if (n > 0 && (word[n - 1] == '\'' || word[n - 1] == '`')) return 1;
  return n >= 3 ? okina_like_at_front(word + n - 3, 3) / 3 * 3 : 0;
}

/* Whether the list holds the word with n_lead okina forms before it and n_trail after it. */
static bool holds_with(const wordlist *list, const fold_result *word, size_t n_lead,
                       size_t n_trail) {
  char key[FOLD_MAX_BYTES + 8];
  size_t at = 0;
  const size_t n_okina = sizeof FOLD_OKINA_BYTES - 1, room = (FOLD_MAX_BYTES - word->n) / n_okina;
  if (n_lead > room || n_trail > room - n_lead) return false;
  for (size_t i = 0; i < n_lead; i++, at += n_okina) memcpy(key + at, FOLD_OKINA_BYTES, n_okina);
  memcpy(key + at, word->bytes, word->n);
  at += word->n;
  for (size_t i = 0; i < n_trail; i++, at += n_okina) memcpy(key + at, FOLD_OKINA_BYTES, n_okina);
  return wordlist_holds(list, key, at);
}

/*
 * What is written around a word is a quotation mark or an okina, and only the list can tell: it is
 * asked for the word with none, one and all of them at each end.
 */
static bool holds_any(const wordlist *list, const fold_result *word, size_t n_lead,
                      size_t n_trail) {
  const size_t leads[] = {0, 1, n_lead}, trails[] = {0, 1, n_trail};
  for (size_t i = 0; i < 3 && leads[i] <= n_lead; i++)
    for (size_t k = 0; k < 3 && trails[k] <= n_trail; k++)
      if (holds_with(list, word, leads[i], trails[k])) return true;
  return false;
}

/* For ASCII letters and digits lower case is one bit. */
static bool holds_plain(const wordlist *list, const char *word, size_t n) {
  char key[FOLD_MAX_BYTES + 8];
  if (n > FOLD_MAX_BYTES) return false;
  size_t at = 0;
  do {
    uint64_t block;
    memcpy(&block, word + at, 8);
    block |= UINT64_C(0x2020202020202020);
    memcpy(key + at, &block, 8);
    at += 8;
  } while (at < n);
  return wordlist_holds(list, key, n);
}

static bool is_hawaiian(const wordlist *list, const char *word, size_t n) {
  fold_result folded;
  size_t step, n_lead = 0, n_trail = 0;
  while ((step = okina_like_at_front(word, n)) > 0) {
    word += step;
    n -= step;
    n_lead++;
  }
  while ((step = okina_like_at_end(word, n)) > 0) {
    n -= step;
    n_trail++;
  }
  fold_word(word, n, &folded);
  if (folded.macron_vowel) return true;
  if (!folded.fits) return false;
  if (n_lead == 0 && n_trail == 0) return wordlist_holds(list, folded.bytes, folded.n);
  return holds_any(list, &folded, n_lead, n_trail);
}

static void end_word(scan *s, size_t end) {
  if (!s->in_word) return;
  s->in_word = false;
  if (!s->list || !s->word_has_body) return; /* quotation marks alone are no word */
  s->n_words++;
  const char *word = s->text + s->word_start;
  size_t n = end - s->word_start;
  if (s->word_has_okina) s->n_hawaiian++;
  else if (s->word_is_plain && s->n - end >= 8) s->n_hawaiian += holds_plain(s->list, word, n);
  else s->n_hawaiian += is_hawaiian(s->list, word, n);
}

static void begin_word(scan *s, size_t at) {
  if (s->in_word) return;
  s->in_word = true;
  s->word_start = at;
  s->word_has_body = s->word_has_okina = false;
  s->word_is_plain = true;
}

static void take_body(scan *s, enum kind kind, bool ascii, size_t at, size_t end) {
  if (!s->has_body) {
    s->has_body = true;
    s->capital = kind == UPPER;
    s->body_start = at;
    s->parted_before = s->parted;
  }
  begin_word(s, at);
  s->word_has_body = true;
  s->word_is_plain &= ascii;
  s->body_end = end;
  s->parted = s->ended = false;
}

/* What is neither white space, letter nor digit. */
static void take_other(scan *s, enum kind kind, size_t at, size_t end) {
  switch (kind) {
    case MARK: /* belongs to what it stands on: begins no word, as the one in an emoji must not */
      if (s->has_body && s->body_end == at) s->body_end = end;
      s->word_is_plain = false;
      break;
    case OKINA:
      begin_word(s, at);
      s->word_has_body = s->word_has_okina = true;
      s->ended = false;
      break;
    case OKINA_LIKE:
      begin_word(s, at);
      s->word_is_plain = false;
      break;
    default:
      end_word(s, at);
      s->parted = true;
      if (kind != CLOSING) s->ended = kind == ENDING;
  }
}

/*
 * How many bytes are in a-z before one is not. Eight at a time, so that the length of a word is no
 * loop whose end the processor has to guess: adding 0x1F to seven bits carries into the eighth from
 * 'a' on, adding 5 carries past 'z'.
 */
static inline size_t small_letters(const char *text, size_t n) {
  const uint64_t tops = UINT64_C(0x8080808080808080), ones = UINT64_C(0x0101010101010101);
  size_t i = 0;
  for (; n - i >= 8; i += 8) {
    uint64_t block;
    memcpy(&block, text + i, 8);
    uint64_t low = block & ~tops;
    uint64_t others = ~((low + 0x1F * ones) & ~(low + 5 * ones) & ~block) & tops;
    if (others) return i + (size_t)__builtin_ctzll(others) / 8;
  }
  while (i < n && text[i] >= 'a' && text[i] <= 'z') i++;
  return i;
}

static int32_t as_count(size_t n) {
  return n > INT32_MAX ? INT32_MAX : (int32_t)n;
}

/*
 * Most runs are small ASCII letters and a space. For each such one from `at` on, where a run may
 * begin, this does what end_word and end_run would do after it. Returns where the next run begins.
 */
static size_t skip_plain_runs(scan *s, size_t at) {
  size_t n, n_runs = 0, n_hawaiian = 0, start = at;
  for (; s->n - at > 16; at += n + 1, n_runs++) {
    n = small_letters(s->text + at, s->n - at - 8); /* eight bytes stay that can be read */
    if (n == 0 || s->text[at + n] != ' ') break;
    if (s->list && n <= FOLD_MAX_BYTES) n_hawaiian += wordlist_holds(s->list, s->text + at, n);
  }
  if (n_runs == 0) return at;
  s->n_runs += n_runs;
  s->n_codes += at - start;
  if (s->list) s->n_words += n_runs;
  s->n_hawaiian += n_hawaiian;
  s->begins_sentence = s->in_name = s->parted = false;
  return at;
}

static void take_char(scan *s, enum kind kind, bool ascii, size_t at, size_t end) {
  s->n_codes++;
  if (kind == SPACE) {
    end_word(s, at);
    end_run(s);
    return;
  }
  s->n_runs += !s->in_run;
  s->in_run = true;
  if (kind >= DIGIT && kind <= UPPER) take_body(s, kind, ascii, at, end);
  else take_other(s, kind, at, end);
}

void metrics_of(const char *text, size_t n, const wordlist *list, text_metrics *metrics_out) {
  scan s = {.text = text, .n = n, .list = list, .begins_sentence = true};
  for (size_t at = skip_plain_runs(&s, 0); at < n;) {
    uint8_t byte = (uint8_t)text[at];
    size_t start = at;
    if (byte >= 0x80) {
      uint32_t code;
      at += utf8_next(text + at, n - at, &code);
      take_char(&s, kind_of(code), false, start, at);
      continue;
    }
    at++;
    enum kind kind = ascii_kinds[byte];
    if (kind == LETTER || kind == UPPER) { /* small letters after it change nothing */
      size_t more = small_letters(text + at, n - at);
      at += more;
      s.n_codes += more;
    }
    take_char(&s, kind, true, start, at);
    if (kind == SPACE) at = skip_plain_runs(&s, at);
  }
  end_word(&s, n);
  end_run(&s);
  *metrics_out = (text_metrics){.word_count = as_count(s.n_runs),
                                .length = as_count(s.n_codes),
                                .entity_count = as_count(s.n_names),
                                .has_ratio = s.n_words > 0};
  if (s.n_words > 0) metrics_out->hawaiian_word_ratio = (double)s.n_hawaiian / (double)s.n_words;
}
