/* config/conninfo.h and config/pg_settings.h: connections taken apart, and told without passwords.
 */
#include "config_test.h"

#include "config/pg_settings.h"

/* keyword=value pairs of what is passed, a space after each. */
static void expect_passed(const config *c, const char *db, const char *pairs) {
  config_pg pg;
  char text[2000] = "";
  if (config_pg_conninfo(c, db, &pg, &error) != VECMILL_OK) fail_msg("%s: %s", db, error.text);
  for (size_t i = 0; i < pg.n; i++)
    snprintf(text + strlen(text), sizeof text - strlen(text), "%s=%s ", pg.keywords[i],
             pg.values[i]);
  assert_string_equal(text, pairs);
  assert_null(pg.keywords[pg.n]);
  assert_null(pg.values[pg.n]);
  assert_null(strstr(pg.shown, "s3cret"));
  assert_null(strstr(pg.shown, "s%33cret"));
  config_pg_fini(&pg);
}

static void test_addresses(void **state) {
  expect_passed(NULL, "postgresql://", "");
  expect_passed(NULL, "postgresql://localhost", "host=localhost ");
  expect_passed(NULL, "postgres://localhost:5433", "host=localhost port=5433 ");
  expect_passed(NULL, "postgresql://localhost/mydb", "host=localhost dbname=mydb ");
  expect_passed(NULL, "postgresql://user@localhost", "host=localhost user=user ");
  expect_passed(NULL, "postgresql://user:s3cret@localhost",
                "host=localhost user=user password=s3cret ");
  expect_passed(
      NULL, "postgresql://other@localhost/otherdb?connect_timeout=10&application_name=myapp",
      "host=localhost dbname=otherdb user=other connect_timeout=10 application_name=myapp ");
  expect_passed(NULL, "postgresql://host1:123,host2:456/somedb?target_session_attrs=any",
                "host=host1,host2 port=123,456 dbname=somedb target_session_attrs=any ");
  expect_passed(NULL, "postgresql://host1,host2/somedb", "host=host1,host2 port=, dbname=somedb ");
  expect_passed(NULL, "postgresql:///mydb?host=localhost&port=5433",
                "host=localhost port=5433 dbname=mydb ");
  expect_passed(NULL, "postgresql://[2001:db8::1234]:99/database",
                "host=2001:db8::1234 port=99 dbname=database ");
  expect_passed(NULL, "postgresql:///dbname?host=/var/lib/postgresql",
                "host=/var/lib/postgresql dbname=dbname ");
  expect_passed(NULL, "postgresql://%2Fvar%2Flib%2Fpostgresql/dbname",
                "host=/var/lib/postgresql dbname=dbname ");
  expect_passed(NULL, "postgresql://u:s3c%40r%2fet@h", "host=h user=u password=s3c@r/et ");
  expect_passed(NULL, "postgresql://u:@h", "host=h user=u ");
  expect_passed(NULL, "postgresql://h/d?", "host=h dbname=d ");
  expect_passed(NULL, "postgresql://h?ssl=true&user=", "host=h user= sslmode=require ");
  expect_passed(NULL, "postgresql://h?p%61ssword=s3cret&user=u", "host=h user=u password=s3cret ");
}

static void test_strings(void **state) {
  expect_passed(NULL, "host=localhost port=5432 dbname=mydb connect_timeout=10",
                "host=localhost port=5432 dbname=mydb connect_timeout=10 ");
  expect_passed(NULL, " user = 'joe bloggs'  password='s3c\\'ret\\\\' ",
                "user=joe bloggs password=s3c'ret\\ ");
  expect_passed(NULL, "dbname=a\\ b user=''", "dbname=a b user= ");
  expect_passed(NULL, "dbname=a dbname=b", "dbname=b ");
  expect_passed(NULL, "host=/tmp dbname=x sslmode=disable", "host=/tmp dbname=x sslmode=disable ");
}

/* As other programs write them, and as a shell takes them out of an .env file. */
static void test_other_spellings(void **state) {
  const char *const wanted = "host=h user=u password=s3cret ";
  static const char *const same[] = {
      "POSTGRESQL://u:s3cret@h",          "Postgres://u:s3cret@h",
      "postgresql+psycopg2://u:s3cret@h", "postgres+asyncpg://u:s3cret@h",
      " postgresql://u:s3cret@h\r\n",     "'postgresql://u:s3cret@h'",
      "\"postgresql://u:s3cret@h\"",      " ' PostgreSQL+psycopg://u:s3cret@h ' "};
  for (size_t i = 0; i < sizeof same / sizeof *same; i++) expect_passed(NULL, same[i], wanted);
  expect_passed(NULL, "'host=h user=u password=s3cret'", wanted);
  expect_passed(NULL, "\"host=h user=u password='s3cret'\"", wanted);
  expect_passed(NULL, "host=h dbname=a\\ ", "host=h dbname=a  ");
}

static void expect_refused(const char *db, const char *why) {
  config_pg pg;
  char wanted[300];
  assert_int_equal(config_pg_conninfo(NULL, db, &pg, &error), VECMILL_ERROR_ARGUMENT);
  snprintf(wanted, sizeof wanted, "--db: not a connection to PostgreSQL: %s", why);
  assert_string_equal(error.text, wanted);
  assert_int_equal(pg.n, 0);
  char *shown = conninfo_shown(db);
  assert_null(strstr(shown, "s3c"));
  assert_null(strstr(shown, "ret"));
  mem_free(shown);
  char *copy = mem_strdup(db);
  conninfo_hide(copy);
  assert_int_equal(strlen(copy), strlen(db));
  assert_null(strstr(copy, "s3c"));
  mem_free(copy);
}

/* No text of the string stands in the error: it may be a piece of the password. */
static void test_refusals(void **state) {
#define ESCAPE "(write @ : / ? of a password as %40 %3A %2F %3F)"
  expect_refused("postgresql://u:s3c@ret@h/d", "a host holds @ " ESCAPE);
  expect_refused("postgresql://u:s3c/ret@h/d", "the database's name holds @ " ESCAPE);
  expect_refused("postgresql://u:s3c/ret", "the port is not a number from 1 to 65535 " ESCAPE);
  expect_refused("postgresql://u:12/ret@h/d", "the database's name holds @ " ESCAPE);
  expect_refused("postgresql://u:s3c%ret@h",
                 "a % is not followed by two hexadecimal digits (write % itself as %25)");
  expect_refused("postgresql://u:s3c%00ret@h",
                 "a % is not followed by two hexadecimal digits (write % itself as %25)");
  expect_refused("postgresql://u:s3cret%4@h",
                 "a % is not followed by two hexadecimal digits (write % itself as %25)");
  expect_refused("postgresql://h:70000", "the port is not a number from 1 to 65535 " ESCAPE);
  expect_refused("postgresql://h:0", "the port is not a number from 1 to 65535 " ESCAPE);
  expect_refused("postgresql://[::1/d", "its [..] holds no address");
  expect_refused("postgresql://h?s3cret=1", "a keyword that libpq does not have");
  expect_refused("postgresql://h?s3cret",
                 "after ? stand KEYWORD=VALUE, with & between them (write = and & as %3D and %26)");
  expect_refused("host=h password=my s3cret=1",
                 "a keyword that libpq does not have (put values with spaces in ' ')");
  expect_refused("host=h password=my s3cret",
                 "KEYWORD=VALUE expected (put values with spaces in ' ')");
  expect_refused("host=h password='s3cret", "a quote is not closed");
#define EQUALS "a = where none can stand (before KEYWORD=VALUE stands ? or &; write = as %3D)"
  expect_refused("postgresql://h/d;password=s3cret", EQUALS);
  expect_refused("postgresql://h&password=s3cret", EQUALS);
  expect_refused("postgresql://user=u,password=s3cret@h", EQUALS);
#define PAIRS "a value holds = (put blanks between KEYWORD=VALUE, and values with = in ' ')"
  expect_refused("host=h;password=s3cret", PAIRS);
  expect_refused("host=hpassword=s3cret", PAIRS);
  expect_refused("dbname=d,user=u,pwd=s3cret", PAIRS);
#define INNER "a value looks like an address itself (give the address to --db)"
  expect_refused("dbname=postgresql://u:s3cret@h", INNER);
  expect_refused("user=u:s3cret@h user=u", INNER);
  expect_refused("postgresql://h/?user=u:s3cret@h", INNER);
  expect_passed(NULL, "options=-csearch_path=a dbname='a=b' user=u@h",
                "dbname=a=b user=u@h options=-csearch_path=a ");
}

static void expect_shown(const char *db, const char *shown, const char *hidden) {
  char *text = conninfo_shown(db), *copy = mem_strdup(db);
  assert_string_equal(text, shown);
  conninfo_hide(copy);
  assert_string_equal(copy, hidden);
  mem_free(text);
  mem_free(copy);
}

static void test_shown(void **state) {
  expect_shown("postgresql://ana:s3cret@h:5/d?sslmode=require",
               "postgresql://ana@h:5/d?sslmode=require",
               "postgresql://ana:xxxxxx@h:5/d?sslmode=require");
  expect_shown("postgres://:s%33cret@h", "postgres://@h", "postgres://:xxxxxxxx@h");
  expect_shown("postgresql://h?password=s3cret", "postgresql://h",
               "postgresql://h?password=xxxxxx");
  expect_shown("postgresql://h?user=u&password=s3cret", "postgresql://h?user=u",
               "postgresql://h?user=u&password=xxxxxx");
  expect_shown("postgresql://h?p%61ssword=s3cret&user=u", "postgresql://h?user=u",
               "postgresql://h?p%61ssword=xxxxxx&user=u");
  expect_shown("postgresql://h?password=s3c&sslpassword=ret", "postgresql://h",
               "postgresql://h?password=xxx&sslpassword=xxx");
  expect_shown("host=h password='s3c ret' dbname=d", "host=h dbname=d",
               "host=h password=xxxxxxxxx dbname=d");
  expect_shown("password = s3cret dbname=d", "dbname=d", "password = xxxxxx dbname=d");
  expect_shown("dbname=d password=s3cret", "dbname=d", "dbname=d password=xxxxxx");
  expect_shown("dbname=d", "dbname=d", "dbname=d");
}

static void expect_kind(const char *const *all, size_t n, config_database kind) {
  for (size_t i = 0; i < n; i++) {
    char *copy = all[i] ? mem_strdup(all[i]) : NULL, *shown = config_database_shown(NULL, all[i]);
    if (config_database_of(all[i]) != kind) fail_msg("%s: not of kind %d", all[i], kind);
    assert_null(strstr(shown, "s3cret"));
    if (copy) conninfo_hide(copy);
    if (copy) assert_null(strstr(copy, "s3cret"));
    mem_free(copy);
    mem_free(shown);
  }
}

static void test_kinds(void **state) {
  static const char *const pg[] = {NULL,     "postgresql://", "postgres://h/d",
                                   "host=x", " dbname = x",   "service=s",
                                   "user=",  "password=x",    "Postgres+x_1://"};
  static const char *const files[] = {"",
                                      "corpus.db",
                                      "./host=x",
                                      "host",
                                      "postgresql",
                                      "./a=b.db",
                                      "dbname",
                                      "a b.db",
                                      "a-b_c.d/e+",
                                      "/",
                                      "/data/day=3/corpus.db",
                                      "../a@b:c"};
  static const char *const neither[] = {
      "Host=h",
      "HOST=h PASSWORD=s3cret",
      "passwrod=s3cret host=h",
      "x host=h password=s3cret",
      "Server=h;Password=s3cret",
      "a=b.db",
      "postgresql:/h",
      "postgres:s3cret@h/d",
      "h:5432:d:u:s3cret",
      "jdbc:postgresql://h/d?password=s3cret",
      "postgis://u:s3cret@h/d",
      "postgresql+://u:s3cret@h/d\"",
      "x postgresql://u:s3cret@h/d",
      "postgresql+psy copg2://u:s3cret@h/d",
      "//u:s3cret@h/d",
      "./u:s3cret@h/d",
      "/tmp/postgresql://u:s3cret@h",
      "'postgresql://u:s3cret@h",
      "/x password=s3cret",
      "\"u:s3cret\"@h",
      "DATABASE_URL=postgresql://u:s3cret@h/d",
  };
  expect_kind(pg, sizeof pg / sizeof *pg, CONFIG_DATABASE_PG);
  expect_kind(files, sizeof files / sizeof *files, CONFIG_DATABASE_FILE);
  expect_kind(neither, sizeof neither / sizeof *neither, CONFIG_DATABASE_NEITHER);
  assert_int_equal(config_check_database("a:s3cret@b", &error), VECMILL_ERROR_ARGUMENT);
  assert_string_equal(error.text,
                      "--db: not an SQLite file and not an address of PostgreSQL (give a file that "
                      "exists, postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or \"host=HOST "
                      "dbname=DATABASE user=USER\")");
  assert_int_equal(config_check_database("", &error), VECMILL_ERROR_ARGUMENT);
}

/* A file that is there may have any name. */
static void test_odd_file(void **state) {
  char *folder = folder_open(), path[200];
  snprintf(path, sizeof path, "%s/a:b@c d=e", folder);
  assert_int_equal(config_database_of(path), CONFIG_DATABASE_NEITHER);
  write_file(path, "");
  assert_int_equal(config_database_of(path), CONFIG_DATABASE_FILE);
  char *shown = config_database_shown(NULL, path);
  assert_string_equal(shown, path);
  mem_free(shown);
  folder_close(folder);
}

/* Whatever stands around it, what a : precedes and an @ follows is never told. */
static void test_random(void **state) {
  static const char *const pieces[] = {
      "postgresql", "postgres", "://",  ":",       "/",        "@", "?",    "&",
      "=",          " ",        "'",    "\"",      "\\",       "%", "%3A",  "+",
      "psycopg2",   "host",     "user", "dbname",  "password", "h", "5432", ",",
      "[",          "]",        ";",    "sslmode", "options",  ".", "\n",   "application_name=",
      "user='"};
  uint64_t seed = 88172645463325252u;
  for (int round = 0; round < 200000; round++) {
    char text[400] = "";
    size_t n = 0, secret_at = 0;
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    uint64_t bits = seed;
    secret_at = bits % 7;
    for (size_t i = 0; i < 8; i++) {
      seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
      const char *piece =
          i == secret_at ? ":S3CRET@" : pieces[(seed >> 20) % (sizeof pieces / sizeof *pieces)];
      n += (size_t)snprintf(text + n, sizeof text - n, "%s", piece);
    }
    char *shown = config_database_shown(NULL, text);
    if (strstr(shown, "S3CRET")) fail_msg("%s is shown as %s", text, shown);
    mem_free(shown);
    config_pg pg;
    if (config_is_pg(text)) {
      if (config_pg_conninfo(NULL, text, &pg, &error) != VECMILL_OK)
        assert_null(strstr(error.text, "S3CRET"));
      for (size_t i = 0; i < pg.n; i++)
        if (strstr(pg.values[i], "S3CRET")) assert_non_null(strstr(pg.keywords[i], "password"));
      config_pg_fini(&pg);
    }
    conninfo_hide(text);
    if (strstr(text, "S3CRET")) fail_msg("not hidden: %s", text);
  }
}

static void test_variables(void **state) {
  char *folder = folder_open(), path[200];
  config *c = NULL;
  snprintf(path, sizeof path, "%s/.env", folder);
  write_file(path, "PG_HOST=filehost\nPGPORT=1\nPG_PASSWORD='s3cret "
                   "it'\nPGSSLMODE=verify-full\nPGHOSTADDR=10.0.0.1\n");
  assert_int_equal(config_open(path, &c, &error), VECMILL_OK);
  expect_passed(NULL, NULL, "");
  expect_passed(c, NULL,
                "host=filehost port=1 password=s3cret it hostaddr=10.0.0.1 sslmode=verify-full ");
  setenv("PGHOST", "envhost", 1);
  setenv("PG_DB", "d b", 1);
  setenv("PG_USER", "ana", 1);
  setenv("PGUSER", "other", 1);
  setenv("PGSSLMODE", "require", 1); /* libpq finds it itself */
  expect_passed(c, NULL,
                "host=envhost port=1 dbname=d b user=ana password=s3cret it hostaddr=10.0.0.1 ");
  char *shown = config_database_shown(c, NULL);
  assert_string_equal(shown, "host=envhost hostaddr=10.0.0.1 port=1 dbname='d b' user=ana");
  mem_free(shown);
  /* What --db says wins, the rest is filled in; the address of another host is not. */
  expect_passed(c, "postgresql://h/mine", "host=h dbname=mine port=1 user=ana password=s3cret it ");
  expect_passed(c, "password=s3cret2 host=h",
                "host=h password=s3cret2 port=1 dbname=d b user=ana ");
  /* A service decides. */
  expect_passed(c, "service=s", "service=s ");
  setenv("PGSERVICE", "s", 1);
  expect_passed(c, NULL, "");
  expect_passed(c, "dbname=x", "dbname=x ");
  unsetenv("PGSERVICE");
  config_pg pg;
  static const char *const names[] = {"PG_HOST",    "PG_DB",     "PGUSER",       "PG_PORT",
                                      "PGHOSTADDR", "PGSERVICE", "PGSSLROOTCERT"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    setenv(names[i], "postgresql://u:s3cret@h/d", 1);
    assert_int_equal(config_pg_conninfo(c, NULL, &pg, &error), VECMILL_ERROR_ARGUMENT);
    assert_null(strstr(error.text, "s3cret"));
    assert_non_null(strstr(error.text, "=... (environment): an address, where only its "));
    unsetenv(names[i]);
  }
  setenv("PG_PORT", "70000", 1); /* libpq would not say where it came from */
  assert_int_equal(config_pg_conninfo(c, NULL, &pg, &error), VECMILL_ERROR_ARGUMENT);
  assert_string_equal(error.text, "PG_PORT=70000 (environment): not a port (1 to 65535)");
  setenv("PG_PORT", "54x", 1);
  assert_int_equal(config_pg_conninfo(c, NULL, &pg, &error), VECMILL_ERROR_ARGUMENT);
  assert_string_equal(error.text, "PG_PORT=54x (environment): not a port (1 to 65535)");
  shown = config_database_shown(c, NULL);
  assert_string_equal(shown, "PostgreSQL");
  mem_free(shown);
  config_close(&c);
  folder_close(folder);
}

/* Of several names for one thing the first that is set is taken, wherever all of them are set. */
static void test_first_name(void **state) {
  static const struct {
    const char *keyword, *names[4];
  } all[] = {{"host", {"PG_HOST", "PGHOST"}},
             {"port", {"PG_PORT", "PGPORT"}},
             {"dbname", {"PG_DATABASE", "PG_DB", "PGDATABASE"}},
             {"user", {"PG_USER", "PGUSER"}},
             {"password", {"PG_PASSWORD", "PGPASSWORD"}}};
  char *folder = folder_open(), path[200], lines[256], wanted[64];
  (void)state;
  snprintf(path, sizeof path, "%s/.env", folder);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    for (size_t first = 0; all[i].names[first]; first++) {
      config *none = NULL, *file = NULL;
      clear_environment();
      lines[0] = '\0';
      for (size_t k = first; all[i].names[k]; k++) { /* 1, 2 and 3 are ports too */
        size_t n = strlen(lines);
        snprintf(lines + n, sizeof lines - n, "%s=%zu\n", all[i].names[k], k + 1);
      }
      write_file(path, lines);
      snprintf(wanted, sizeof wanted, "%s=%zu ", all[i].keyword, first + 1);
      assert_int_equal(config_open(path, &file, &error), VECMILL_OK);
      expect_passed(file, NULL, wanted);
      write_file(path, "");
      assert_int_equal(config_open(path, &none, &error), VECMILL_OK);
      for (size_t k = first; all[i].names[k]; k++) {
        snprintf(lines, sizeof lines, "%zu", k + 1);
        setenv(all[i].names[k], lines, 1);
      }
      expect_passed(none, NULL, wanted);
      config_close(&none);
      config_close(&file);
    }
  folder_close(folder);
}

static void test_service_of_the_file(void **state) {
  char *folder = folder_open(), path[200];
  config *c = NULL;
  snprintf(path, sizeof path, "%s/.env", folder);
  write_file(path, "PGSERVICE=s\nPG_HOST=h\nPGPASSWORD=s3cret\n");
  assert_int_equal(config_open(path, &c, &error), VECMILL_OK);
  expect_passed(c, NULL, "service=s ");
  config_close(&c);
  /* What libpq would not hear of is refused: it would look the service up elsewhere. */
  write_file(path, "PGSERVICE=s\nPGSERVICEFILE=/f\n");
  assert_int_equal(config_open(path, &c, &error), VECMILL_OK);
  config_pg pg;
  assert_int_equal(config_pg_conninfo(c, NULL, &pg, &error), VECMILL_ERROR_ARGUMENT);
  assert_non_null(strstr(error.text, "PGSERVICEFILE=/f ("));
  assert_non_null(strstr(error.text, ".env line 2): libpq reads this from the environment alone "
                                     "(export it)"));
  setenv("PGSERVICEFILE", "/g", 1);
  expect_passed(c, NULL, "service=s ");
  unsetenv("PGSERVICEFILE");
  config_close(&c);
  write_file(path, "PG_HOST=h\nPGSERVICEFILE=/f\n");
  assert_int_equal(config_open(path, &c, &error), VECMILL_OK);
  expect_passed(c, NULL, "host=h ");
  config_close(&c);
  folder_close(folder);
}

/* Variables of the file that libpq finds in the environment alone are put there, others are not. */
static void test_export(void **state) {
  char *folder = folder_open(), path[200];
  config *c = NULL;
  config_value value;
  snprintf(path, sizeof path, "%s/.env", folder);
  write_file(path, "PGSERVICE=s\nPGSERVICEFILE=/f\nPGTZ=UTC\nPGDATESTYLE=ISO\nPGPASSWORD=s3cret\n"
                   "PGSSLMODE=require\nPGGEQO=\n");
  setenv("PGDATESTYLE", "SQL", 1);
  assert_int_equal(config_open(path, &c, &error), VECMILL_OK);
  assert_int_equal(config_export(c, &error), VECMILL_OK);
  assert_string_equal(getenv("PGSERVICEFILE"), "/f");
  assert_string_equal(getenv("PGTZ"), "UTC");
  assert_string_equal(getenv("PGDATESTYLE"), "SQL");
  assert_null(getenv("PGPASSWORD"));
  assert_null(getenv("PGSSLMODE"));
  assert_null(getenv("PGGEQO"));
  expect_passed(c, NULL, "service=s ");
  assert_true(config_find(c, "PGTZ", &value));
  assert_int_equal(value.source, CONFIG_FILE); /* where it came from is told as ever */
  assert_true(config_find(c, "PGDATESTYLE", &value));
  assert_int_equal(value.source, CONFIG_ENVIRONMENT);
  config_close(&c);
  folder_close(folder);
}

static bool knows_no_require_auth(const char *keyword) {
  return strcmp(keyword, "require_auth") != 0;
}

/* What an older libpq lacks, and what it has as a variable alone. */
static void test_variables_of_other_versions(void **state) {
  char *folder = folder_open(), path[200], origin[CONFIG_ORIGIN_SIZE];
  config *c = NULL;
  config_pg pg;
  snprintf(path, sizeof path, "%s/.env", folder);
  write_file(path, "PGREQUIRESSL=1\nPGREQUIREAUTH=none\n");
  assert_int_equal(config_open(path, &c, &error), VECMILL_OK);
  expect_passed(c, NULL, "require_auth=none sslmode=require ");
  expect_passed(c, "sslmode=disable", "sslmode=disable require_auth=none ");
  assert_int_equal(config_pg_conninfo(c, NULL, &pg, &error), VECMILL_OK);
  assert_string_equal(config_pg_unknown(c, &pg, knows_no_require_auth, origin), "require_auth");
  assert_non_null(strstr(origin, "PGREQUIREAUTH=none ("));
  config_pg_fini(&pg);
  setenv("PGREQUIREAUTH", "none", 1); /* libpq's affair */
  assert_int_equal(config_pg_conninfo(c, "require_auth=none", &pg, &error), VECMILL_OK);
  assert_null(config_pg_unknown(c, &pg, knows_no_require_auth, origin));
  config_pg_fini(&pg);
  setenv("PGSSLMODE", "prefer", 1);
  expect_passed(c, NULL, "");
  unsetenv("PGSSLMODE");
  unsetenv("PGREQUIREAUTH");
  config_close(&c);
  expect_passed(NULL, "requiressl=1", "sslmode=require ");
  expect_passed(NULL, "sslmode=disable requiressl=0 host=h", "host=h sslmode=prefer ");
  expect_passed(NULL, "postgresql://h?requiressl=1", "host=h sslmode=require ");
  folder_close(folder);
}

static void test_add(void **state) {
  config_pg pg;
  assert_int_equal(config_pg_conninfo(NULL, "application_name=mine", &pg, &error), VECMILL_OK);
  assert_int_equal(config_pg_add(&pg, "application_name", "ours", &error), VECMILL_OK);
  assert_int_equal(config_pg_add(&pg, "connect_timeout", "5", &error), VECMILL_OK);
  assert_string_equal(config_pg_value(&pg, "application_name"), "mine");
  assert_string_equal(config_pg_value(&pg, "connect_timeout"), "5");
  assert_null(config_pg_value(&pg, "host"));
  assert_null(pg.keywords[pg.n]);
  config_pg_fini(&pg);
}

static void test_memory_fails(void **state) {
  static const char *const strings[] = {
      "postgresql://u:s3cret@h:1,i:2/d?password=a&sslmode=require", "user=u password='a b' host=h",
      NULL};
  setenv("PG_HOST", "h", 1);
  setenv("PG_PASSWORD", "s3cret", 1);
  for (size_t i = 0; i < 3; i++) {
    long n = 0;
    for (vecmill_status status = VECMILL_ERROR_MEMORY; status != VECMILL_OK; n++) {
      config_pg pg;
      mem_fail_after(n);
      status = config_pg_conninfo(NULL, strings[i], &pg, &error);
      mem_fail_after(-1);
      assert_true(status == VECMILL_OK || status == VECMILL_ERROR_MEMORY);
      if (status == VECMILL_OK) assert_null(strstr(pg.shown, "s3cret"));
      config_pg_fini(&pg);
    }
    assert_true(n > 3);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(test_addresses, begin),
      cmocka_unit_test_setup(test_strings, begin),
      cmocka_unit_test_setup(test_other_spellings, begin),
      cmocka_unit_test_setup(test_refusals, begin),
      cmocka_unit_test_setup(test_shown, begin),
      cmocka_unit_test_setup(test_kinds, begin),
      cmocka_unit_test_setup(test_odd_file, begin),
      cmocka_unit_test_setup(test_random, begin),
      cmocka_unit_test_setup(test_variables, begin),
      cmocka_unit_test_setup(test_first_name, begin),
      cmocka_unit_test_setup(test_service_of_the_file, begin),
      cmocka_unit_test_setup(test_export, begin),
      cmocka_unit_test_setup(test_variables_of_other_versions, begin),
      cmocka_unit_test_setup(test_add, begin),
      cmocka_unit_test_setup(test_memory_fails, begin),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
