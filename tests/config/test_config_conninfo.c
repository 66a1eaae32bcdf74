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

static void test_is_pg(void **state) {
  static const char *const yes[] = {NULL,          "postgresql://", "postgres://h/d", "host=x",
                                    " dbname = x", "service=s",     "user=",          "password=x"};
  static const char *const no[] = {"",         "corpus.db",  "./host=x",           "a=b.db",
                                   "host",     "postgresql", "postgresql:/h",      "dbname",
                                   "x host=h", "Host=h",     "/tmp/postgresql://x"};
  for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
    if (!config_is_pg(yes[i])) fail_msg("%s is PostgreSQL", yes[i]);
  for (size_t i = 0; i < sizeof no / sizeof *no; i++)
    if (config_is_pg(no[i])) fail_msg("%s is a file", no[i]);
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
  setenv("PG_PORT", "54x", 1);
  config_pg pg;
  assert_int_equal(config_pg_conninfo(c, NULL, &pg, &error), VECMILL_ERROR_ARGUMENT);
  assert_string_equal(error.text, "PG_PORT=54x (environment): not a port (1 to 65535)");
  shown = config_database_shown(c, NULL);
  assert_string_equal(shown, "PostgreSQL");
  mem_free(shown);
  config_close(&c);
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
      cmocka_unit_test_setup(test_refusals, begin),
      cmocka_unit_test_setup(test_shown, begin),
      cmocka_unit_test_setup(test_is_pg, begin),
      cmocka_unit_test_setup(test_variables, begin),
      cmocka_unit_test_setup(test_service_of_the_file, begin),
      cmocka_unit_test_setup(test_add, begin),
      cmocka_unit_test_setup(test_memory_fails, begin),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
