#include "config/conninfo.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

/* What a password with one of these in it comes out as. */
#define ESCAPE_IT "(write @ : / ? of a password as %40 %3A %2F %3F)"
/* A separator that libpq does not have, before KEYWORD=VALUE. */
#define HOLDS_EQUALS "a = where none can stand (before KEYWORD=VALUE stands ? or &; write = as %3D)"

/* libpq's own, to version 18, beside the variables of its environment that stand for them. */
static const conninfo_keyword keywords[] = {
    {"host", "PGHOST", false},
    {"hostaddr", "PGHOSTADDR", false},
    {"port", "PGPORT", false},
    {"dbname", "PGDATABASE", false},
    {"user", "PGUSER", false},
    {"password", "PGPASSWORD", true},
    {"passfile", "PGPASSFILE", false},
    {"service", "PGSERVICE", false},
    {"servicefile", NULL, false},
    {"require_auth", "PGREQUIREAUTH", false},
    {"channel_binding", "PGCHANNELBINDING", false},
    {"connect_timeout", "PGCONNECT_TIMEOUT", false},
    {"client_encoding", NULL, false},
    {"options", "PGOPTIONS", false},
    {"application_name", "PGAPPNAME", false},
    {"fallback_application_name", NULL, false},
    {"keepalives", NULL, false},
    {"keepalives_idle", NULL, false},
    {"keepalives_interval", NULL, false},
    {"keepalives_count", NULL, false},
    {"tcp_user_timeout", NULL, false},
    {"replication", NULL, false},
    {"gssencmode", "PGGSSENCMODE", false},
    {"krbsrvname", "PGKRBSRVNAME", false},
    {"gsslib", "PGGSSLIB", false},
    {"gssdelegation", "PGGSSDELEGATION", false},
    {"sslmode", "PGSSLMODE", false},
    {"sslnegotiation", "PGSSLNEGOTIATION", false},
    {"sslcompression", "PGSSLCOMPRESSION", false},
    {"sslcert", "PGSSLCERT", false},
    {"sslkey", "PGSSLKEY", false},
    {"sslkeylogfile", NULL, false},
    {"sslpassword", NULL, true},
    {"sslcertmode", "PGSSLCERTMODE", false},
    {"sslrootcert", "PGSSLROOTCERT", false},
    {"sslcrl", "PGSSLCRL", false},
    {"sslcrldir", "PGSSLCRLDIR", false},
    {"sslsni", "PGSSLSNI", false},
    {"requiressl", "PGREQUIRESSL", false},
    {"requirepeer", "PGREQUIREPEER", false},
    {"ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", false},
    {"ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", false},
    {"min_protocol_version", "PGMINPROTOCOLVERSION", false},
    {"max_protocol_version", "PGMAXPROTOCOLVERSION", false},
    {"target_session_attrs", "PGTARGETSESSIONATTRS", false},
    {"load_balance_hosts", "PGLOADBALANCEHOSTS", false},
    {"scram_client_key", NULL, true},
    {"scram_server_key", NULL, true},
    {"oauth_issuer", NULL, false},
    {"oauth_client_id", NULL, false},
    {"oauth_client_secret", NULL, true},
    {"oauth_scope", NULL, false},
};
_Static_assert(sizeof keywords / sizeof *keywords == CONNINFO_N_KEYWORDS, "count the keywords");

const conninfo_keyword *conninfo_keyword_at(size_t i) {
  return i < CONNINFO_N_KEYWORDS ? &keywords[i] : NULL;
}

int conninfo_find_keyword(const char *name, size_t n) {
  for (int i = 0; i < CONNINFO_N_KEYWORDS; i++)
    if (strlen(keywords[i].name) == n && memcmp(keywords[i].name, name, n) == 0) return i;
  return -1;
}

static void free_secret(char *text) {
  if (text) explicit_bzero(text, strlen(text));
  mem_free(text);
}

void conninfo_fini(conninfo *c) {
  for (size_t i = 0; i < CONNINFO_N_KEYWORDS; i++) free_secret(c->values[i]);
  *c = (conninfo){0};
}

static bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Blanks before, and for an address after, and a pair of quotes around it all. */
typedef struct span {
  size_t from, to;
} span;

static span without_blanks(const char *text, span s) {
  while (s.from < s.to && is_space(text[s.from])) s.from++;
  while (s.from < s.to && is_space(text[s.to - 1])) s.to--;
  return s;
}

static size_t scheme_length(const char *text, size_t n);

static span inner(const char *text) {
  size_t n = strlen(text);
  span whole = {0, n}, s = without_blanks(text, whole);
  bool is_quoted =
      s.to - s.from >= 2 && strchr("'\"", text[s.from]) != NULL && text[s.from] == text[s.to - 1];
  if (is_quoted) return without_blanks(text, (span){s.from + 1, s.to - 1});
  /* A blank at the end of KEYWORD=VALUE may be a value's, after a backslash. */
  return scheme_length(text + s.from, s.to - s.from) ? s : (span){s.from, n};
}

/* After postgres[ql][+DRIVER]://, in any case; 0: it does not begin so. */
static size_t scheme_length(const char *text, size_t n) {
  static const char name[] = "postgres";
  size_t at = 0;
  while (at < sizeof name - 1 && at < n && str_lower(text[at]) == name[at]) at++;
  if (at < sizeof name - 1) return 0;
  if (n - at >= 2 && str_lower(text[at]) == 'q' && str_lower(text[at + 1]) == 'l') at += 2;
  if (at < n && text[at] == '+') {
    size_t from = ++at;
    while (at < n && (str_is_alnum(text[at]) || text[at] == '_')) at++;
    if (at == from) return 0;
  }
  return n - at >= 3 && memcmp(text + at, "://", 3) == 0 ? at + 3 : 0;
}

bool conninfo_is(const char *text) {
  span s = inner(text);
  if (scheme_length(text + s.from, s.to - s.from) > 0) return true;
  size_t at = s.from;
  while (at < s.to && text[at] != '=' && !is_space(text[at])) at++;
  size_t n = at - s.from;
  while (at < s.to && is_space(text[at])) at++;
  return at < s.to && text[at] == '=' && conninfo_find_keyword(text + s.from, n) >= 0;
}

bool conninfo_is_doubtful(const char *value) {
  const char *colon = strchr(value, ':');
  return colon && (strstr(value, "://") || strchr(colon, '@'));
}

/* A word that stands by itself and has a = after it. */
static bool has_pair(const char *text) {
  for (const char *at = text; (at = strchr(at, '=')) != NULL; at++) {
    const char *word = at;
    while (word > text && is_space(word[-1])) word--;
    while (word > text && (str_is_alnum(word[-1]) || strchr("_-.", word[-1]))) word--;
    if (word == text || is_space(word[-1]) || strchr(";&?,'\"", word[-1])) return true;
  }
  return false;
}

/* What is written as a path may hold : and = (/data/day=3/corpus.db), anything else hardly. */
bool conninfo_is_meant(const char *text) {
  while (is_space(*text) || *text == '\'' || *text == '"') text++;
  if (conninfo_is_doubtful(text)) return true;
  return *text == '/' || *text == '.' ? has_pair(text) : strpbrk(text, ":=@") != NULL;
}

/* --- parts --- */

static vecmill_status malformed(const char *why, vecmill_error *err) {
  return err_set(err, VECMILL_ERROR_ARGUMENT, "--db: not a connection to PostgreSQL: %s", why);
}

/* Takes over `value`. */
static vecmill_status put(conninfo *c, int keyword, char *value, vecmill_error *err) {
  if (!keywords[keyword].is_secret && conninfo_is_doubtful(value)) {
    free_secret(value);
    return malformed("a value looks like an address itself (give the address to --db)", err);
  }
  if (strcmp(keywords[keyword].name, "requiressl") ==
      0) { /* an old name, which strings alone have */
    keyword = conninfo_find_keyword("sslmode", 7);
    char *mode = mem_strdup(value[0] == '1' ? "require" : "prefer");
    free_secret(value);
    value = mode;
    if (!value) return err_set_memory(err, "connection", 8);
  }
  free_secret(c->values[keyword]);
  c->values[keyword] = value;
  return VECMILL_OK;
}

static vecmill_status add_secret(conninfo *c, size_t value_from, size_t value_to, size_t from,
                                 size_t to, vecmill_error *err) {
  if (c->n_secrets == CONNINFO_MAX_SECRETS) return malformed("too many passwords", err);
  c->secrets[c->n_secrets++] = (conninfo_secret){value_from, value_to, from, to};
  return VECMILL_OK;
}

static int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* %XX decoded; *text_out: mem_free. */
static vecmill_status decode(const char *from, size_t n, char **text_out, vecmill_error *err) {
  char *text = mem_calloc(n + 1, 1), *to = text;
  if (!text) return err_set_memory(err, "connection", n + 1);
  for (size_t i = 0; i < n; i++) {
    if (from[i] != '%') {
      *to++ = from[i];
      continue;
    }
    int high = i + 2 < n ? hex_value(from[i + 1]) : -1;
    int low = high >= 0 ? hex_value(from[i + 2]) : -1;
    if (low < 0 || high + low == 0) {
      free_secret(text);
      return malformed("a % is not followed by two hexadecimal digits (write % itself as %25)",
                       err);
    }
    *to++ = (char)(high * 16 + low);
    i += 2;
  }
  *text_out = text;
  return VECMILL_OK;
}

static vecmill_status put_decoded(conninfo *c, const char *keyword, const char *from, size_t n,
                                  vecmill_error *err) {
  char *text = NULL;
  if (n == 0) return VECMILL_OK; /* libpq takes an empty part as not said */
  vecmill_status status = decode(from, n, &text, err);
  return status == VECMILL_OK ? put(c, conninfo_find_keyword(keyword, strlen(keyword)), text, err)
                              : status;
}

/* --- postgresql://USER:PASSWORD@HOST:PORT,HOST:PORT/DBNAME?KEYWORD=VALUE&.. --- */

/* *at stands after the scheme, then after the @ if there is one. As libpq: the first @ before any /
 * ends them. */
static vecmill_status parse_credentials(const char *text, size_t *at, conninfo *c,
                                        vecmill_error *err) {
  size_t from = *at, end = from + strcspn(text + from, "@/");
  if (text[end] != '@') return VECMILL_OK;
  size_t colon = from + strcspn(text + from, ":@");
  *at = end + 1;
  if (memchr(text + from, '=', colon - from)) return malformed(HOLDS_EQUALS, err);
  vecmill_status status = put_decoded(c, "user", text + from, colon - from, err);
  if (status != VECMILL_OK || colon == end) return status;
  status = add_secret(c, colon + 1, end, colon, end, err);
  return status == VECMILL_OK ? put_decoded(c, "password", text + colon + 1, end - colon - 1, err)
                              : status;
}

/* One HOST:PORT of the list. */
static vecmill_status parse_host(const char *text, size_t *at, str *hosts, str *ports,
                                 vecmill_error *err) {
  size_t from = *at, end;
  if (text[from] == '[') {
    from++;
    end = from + strcspn(text + from, "]");
    if (!text[end] || end == from || !strchr(":/?,", text[end + 1]))
      return malformed("its [..] holds no address", err);
    *at = end + 1;
  } else *at = end = from + strcspn(text + from, ":/?,");
  str_append(hosts, text + from, end - from);
  if (text[*at] != ':') return VECMILL_OK;
  from = ++*at;
  *at = end = from + strcspn(text + from, "/?,");
  str_append(ports, text + from, end - from);
  return VECMILL_OK;
}

static vecmill_status parse_hosts(const char *text, size_t *at, conninfo *c, vecmill_error *err) {
  str hosts = {0}, ports = {0};
  vecmill_status status = VECMILL_OK;
  for (;;) {
    status = parse_host(text, at, &hosts, &ports, err);
    if (status != VECMILL_OK || text[*at] != ',') break;
    str_append_char(&hosts, ',');
    str_append_char(&ports, ',');
    ++*at;
  }
  if (status == VECMILL_OK && (hosts.failed || ports.failed))
    status = err_set_memory(err, "connection", hosts.n);
  if (status == VECMILL_OK && hosts.n > 0 && strchr(hosts.data, '@'))
    status = malformed("a host holds @ " ESCAPE_IT, err);
  if (status == VECMILL_OK && hosts.n > 0 && strchr(hosts.data, '='))
    status = malformed(HOLDS_EQUALS, err);
  if (status == VECMILL_OK && hosts.n > 0)
    status = put_decoded(c, "host", hosts.data, hosts.n, err);
  if (status == VECMILL_OK && ports.n > 0)
    status = put_decoded(c, "port", ports.data, ports.n, err);
  if (hosts.data) explicit_bzero(hosts.data, hosts.n);
  if (ports.data) explicit_bzero(ports.data, ports.n);
  str_fini(&hosts);
  str_fini(&ports);
  return status;
}

/* One KEYWORD=VALUE after the ?, *at behind it. */
static vecmill_status parse_parameter(const char *text, size_t *at, conninfo *c,
                                      vecmill_error *err) {
  size_t from = *at, end = from + strcspn(text + from, "&"),
         equals = from + strcspn(text + from, "=&");
  char *name = NULL, *value = NULL;
  *at = end;
  if (equals >= end || memchr(text + equals + 1, '=', end - equals - 1))
    return malformed(
        "after ? stand KEYWORD=VALUE, with & between them (write = and & as %3D and %26)", err);
  vecmill_status status = decode(text + from, equals - from, &name, err);
  if (status == VECMILL_OK) status = decode(text + equals + 1, end - equals - 1, &value, err);
  int keyword = status == VECMILL_OK ? conninfo_find_keyword(name, strlen(name)) : -1;
  if (status == VECMILL_OK && keyword < 0 && strcmp(name, "ssl") == 0 &&
      strcmp(value, "true") == 0) {
    mem_free(value); /* as JDBC has it */
    value = mem_strdup("require");
    keyword = conninfo_find_keyword("sslmode", 7);
    if (!value) status = err_set_memory(err, "connection", 8);
  }
  if (status == VECMILL_OK && keyword < 0)
    status = malformed("a keyword that libpq does not have", err);
  if (status == VECMILL_OK && keywords[keyword].is_secret)
    status =
        add_secret(c, equals + 1, end, text[end] ? from : from - 1, text[end] ? end + 1 : end, err);
  if (status == VECMILL_OK) status = put(c, keyword, value, err), value = NULL;
  free_secret(name);
  free_secret(value);
  return status;
}

static vecmill_status parse_address(const char *text, size_t at, conninfo *c, vecmill_error *err) {
  vecmill_status status = parse_credentials(text, &at, c, err);
  if (status == VECMILL_OK) status = parse_hosts(text, &at, c, err);
  if (status == VECMILL_OK && text[at] == '/') {
    size_t from = at + 1;
    at = from + strcspn(text + from, "?");
    if (memchr(text + from, '@', at - from))
      return malformed("the database's name holds @ " ESCAPE_IT, err);
    if (memchr(text + from, '=', at - from)) return malformed(HOLDS_EQUALS, err);
    status = put_decoded(c, "dbname", text + from, at - from, err);
  }
  while (status == VECMILL_OK && text[at]) {
    at++; /* ? or & */
    if (text[at] || text[at - 1] == '&') status = parse_parameter(text, &at, c, err);
  }
  return status;
}

/* --- KEYWORD=VALUE KEYWORD='VALUE' --- */

/* A value and the place after it; \ takes the next byte as it is. */
static vecmill_status parse_value(const char *text, size_t *at, char **value_out,
                                  vecmill_error *err) {
  bool quoted = text[*at] == '\'';
  size_t i = *at + quoted;
  char *value = mem_calloc(strlen(text + i) + 1, 1), *to = value;
  if (!value) return err_set_memory(err, "connection", strlen(text + i));
  while (text[i] && (quoted ? text[i] != '\'' : !is_space(text[i]))) {
    if (text[i] == '\\' && text[i + 1]) i++;
    else if (text[i] == '\\') { /* at the end: nothing to take */ i++;
      continue;
    }
    *to++ = text[i++];
  }
  if (quoted && text[i] != '\'') {
    free_secret(value);
    return malformed("a quote is not closed", err);
  }
  *at = i + quoted;
  *value_out = value;
  return VECMILL_OK;
}

static vecmill_status parse_pair(const char *text, size_t *at, conninfo *c, vecmill_error *err) {
  size_t from = *at, i = from + strcspn(text + from, "= \t\r\n\v\f"), n_name = i - from;
  char *value = NULL;
  while (is_space(text[i])) i++;
  if (text[i] != '=')
    return malformed("KEYWORD=VALUE expected (put values with spaces in ' ')", err);
  int keyword = conninfo_find_keyword(text + from, n_name);
  if (keyword < 0)
    return malformed("a keyword that libpq does not have (put values with spaces in ' ')", err);
  for (i++; is_space(text[i]);) i++;
  size_t value_from = i;
  vecmill_status status = parse_value(text, &i, &value, err);
  if (status != VECMILL_OK) return status;
  size_t value_to = i;
  while (is_space(text[i])) i++;
  *at = i;
  bool is_secret = keywords[keyword].is_secret, is_quoted = text[value_from] == '\'',
       has_options = strcmp(keywords[keyword].name, "options") == 0;
  if (!is_secret && !is_quoted && !has_options && strchr(value, '=')) {
    free_secret(value);
    return malformed("a value holds = (put blanks between KEYWORD=VALUE, and values with = in ' ')",
                     err);
  }
  status = put(c, keyword, value, err);
  return status == VECMILL_OK && is_secret ? add_secret(c, value_from, value_to, from, i, err)
                                           : status;
}

static vecmill_status parse_pairs(const char *text, conninfo *c, vecmill_error *err) {
  vecmill_status status = VECMILL_OK;
  size_t at = 0;
  while (is_space(text[at])) at++;
  while (status == VECMILL_OK && text[at]) status = parse_pair(text, &at, c, err);
  return status;
}

/* Checked here, since libpq would quote what stands there. */
bool conninfo_are_ports(const char *text) {
  while (*text) {
    size_t n = strspn(text, "0123456789");
    unsigned long port = 0;
    for (size_t i = 0; i < n && port <= 65535; i++)
      port = 10 * port + (unsigned long)(text[i] - '0');
    if (port > 65535 || (n > 0 && port == 0) || (text[n] && text[n] != ',')) return false;
    text += n + (text[n] == ',');
  }
  return true;
}

/* Where its secrets stand in the text that `inside` was cut from. */
static void shift(conninfo *c, span inside) {
  for (size_t i = 0; i < c->n_secrets; i++) {
    conninfo_secret *s = &c->secrets[i];
    s->value_from += inside.from;
    s->value_to += inside.from;
    s->from += inside.from;
    s->to += inside.from;
  }
  c->from = inside.from;
  c->to = inside.to;
}

vecmill_status conninfo_parse(const char *text, conninfo *conninfo_out, vecmill_error *err) {
  conninfo c = {0};
  *conninfo_out = c;
  if (strlen(text) > CONNINFO_MAX_BYTES) return malformed("longer than 65536 bytes", err);
  span inside = inner(text);
  char *copy = mem_strndup(text + inside.from, inside.to - inside.from);
  if (!copy) return err_set_memory(err, "connection", inside.to - inside.from);
  size_t scheme = scheme_length(copy, strlen(copy));
  vecmill_status status =
      scheme ? parse_address(copy, scheme, &c, err) : parse_pairs(copy, &c, err);
  const char *port = c.values[conninfo_find_keyword("port", 4)];
  if (status == VECMILL_OK && port && !conninfo_are_ports(port))
    status = malformed("the port is not a number from 1 to 65535 " ESCAPE_IT, err);
  free_secret(copy);
  shift(&c, inside);
  if (status == VECMILL_OK) *conninfo_out = c;
  else conninfo_fini(&c);
  return status;
}

/* --- without the secrets --- */

char *conninfo_shown(const char *text) {
  conninfo c;
  str shown = {0};
  span inside = inner(text);
  size_t scheme = scheme_length(text + inside.from, inside.to - inside.from);
  if (conninfo_parse(text, &c, NULL) != VECMILL_OK)
    return mem_strdup(scheme ? "postgresql://..." : "a connection string");
  size_t at = c.from;
  for (size_t i = 0; i < c.n_secrets; i++) {
    const conninfo_secret *s = &c.secrets[i];
    if (s->from > at) str_append(&shown, text + at, s->from - at);
    if (s->to > at) at = s->to;
  }
  str_append(&shown, text + at, c.to - at);
  str_append_text(&shown, "");
  /* What stood between the last one and the end. */
  const char *left_over = scheme && c.n_secrets > 0 ? "?&" : " \t\r\n\v\f";
  while (!shown.failed && shown.n > 0 && strchr(left_over, shown.data[shown.n - 1]))
    shown.data[--shown.n] = '\0';
  conninfo_fini(&c);
  if (!shown.failed) return shown.data;
  str_fini(&shown);
  return NULL;
}

void conninfo_hide(char *text) {
  conninfo c;
  if (!conninfo_is(text)) {
    if (conninfo_is_meant(text)) memset(text, 'x', strlen(text));
    return;
  }
  if (conninfo_parse(text, &c, NULL) != VECMILL_OK) {
    span inside = inner(text);
    size_t scheme = scheme_length(text + inside.from, inside.to - inside.from);
    size_t from = scheme ? inside.from + scheme : strcspn(text, "=");
    memset(text + from, 'x', strlen(text + from));
    return;
  }
  for (size_t i = 0; i < c.n_secrets; i++)
    memset(text + c.secrets[i].value_from, 'x', c.secrets[i].value_to - c.secrets[i].value_from);
  conninfo_fini(&c);
}
