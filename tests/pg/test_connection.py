#!/usr/bin/python3
"""What vecmill doctor says of the server that the settings lead to; libpq's variables in a .env file, honoured.

  test_connection.py --vecmill PATH [NAME..]
"""
import re
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import expect, run_tests  # noqa: E402
from runs import N_DIMENSIONS, fresh, state_grants  # noqa: E402
from servers import Bouncer, Server  # noqa: E402


def run(vecmill, folder, *words, settings: dict, status: int, **more):
    """In a folder whose .env says the settings."""
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8")
    done = subprocess.run([vecmill.command, *words], cwd=folder, env=vecmill.environment | more, capture_output=True, text=True, timeout=120, check=False)
    expect(done.returncode == status, f"{words}: exit {done.returncode}, not {status}: {done.stdout}{done.stderr}")
    return done


def doctor(vecmill, folder, *words, settings: dict, status: int, **more) -> tuple:
    """(lines about settings, lines about the database); the last line must be of the exit status, and no password told."""
    done = run(vecmill, folder, "doctor", "--model", vecmill.model, *words, settings=settings, status=status, **more)
    lines = done.stdout.splitlines()
    named = [i for i, line in enumerate(lines) if not line.startswith("  ")]
    parts = {lines[i].split()[0]: [line[11:] for line in lines[i:j]] for i, j in zip(named, [*named[1:], len(lines)])}
    expect(parts["main"] == ["cannot run: no database" if status else "can run"], done.stdout)
    secret = settings.get("PG_PASSWORD")
    expect(not secret or secret not in done.stdout + done.stderr, "the password is told")
    expect(", libpq " in parts["libraries"][0], done.stdout)
    expect(parts["settings"][0] == f"--model {vecmill.model}", done.stdout)
    return parts["settings"][1:], parts["database"]


def test_doctor(vecmill, folder):
    """Which server the settings lead to, whether it answers, what it has, and what is missing."""
    with Server(auth="scram-sha-256") as server:
        version = server.psql("SHOW server_version")[0][0]
        vector = server.psql("SELECT extversion FROM pg_extension WHERE extname = 'vector'")[0][0]
        settings = {"PG_PORT": server.port, "PG_HOST": "127.0.0.1", "PG_DATABASE": "corpus", "PG_PASSWORD": server.password}
        told = ["PG_HOST=127.0.0.1 (.env line 2)", f"PG_PORT={server.port} (.env line 1)", "PG_DATABASE=corpus (.env line 3)",
                "PGUSER=postgres (environment)", "PG_PASSWORD=... (.env line 4)"]
        place, what = f"postgres@127.0.0.1:{server.port}/", f"PostgreSQL {version}, pgvector {vector}, no TLS"
        got = doctor(vecmill, folder, settings=settings, status=0, PGUSER="postgres")
        expect(got == (told, [place + "corpus", what]), got)
        # what is said twice; what --db says; how to talk to a server alone names none
        got = doctor(vecmill, folder, settings=settings, status=0, PGUSER="postgres", PG_DB="corpus", PGPORT=str(server.port), PGSSLMODE="prefer")
        expect(got[0] == [told[0], f"PG_PORT={server.port} (.env line 1), not used: PGPORT stands over it", f"PGPORT={server.port} (environment)",
                          "PG_DATABASE=corpus (.env line 3), not used: PG_DB stands over it", "PG_DB=corpus (environment)", *told[3:],
                          "PGSSLMODE=prefer (environment)"], got)
        got = doctor(vecmill, folder, "--db", server.uri_of(), settings={"PG_HOST": "elsewhere"}, status=0)
        expect(got == (["PG_HOST=elsewhere (.env line 1)"], [place + "corpus", what]), got)
        got = doctor(vecmill, folder, settings={"PGPASSWORD": "S3cret", "PGSSLMODE": "disable", "PGTZ": "UTC"}, status=0)
        expect(got == (["PGPASSWORD=... (.env line 1)", "PGSSLMODE=disable (.env line 2)", "PGTZ=UTC (.env line 3)"],
                       ["none named (--db DB, or PG_HOST, PG_DATABASE ..)"]), got)
        # what is missing
        got = doctor(vecmill, folder, settings=settings, status=1, PGUSER="postgres", PG_DATABASE="template1")
        expect(got[1] == [place + "template1: this database has no pgvector (as a superuser: CREATE EXTENSION vector; the server has version "
                          f"{vector})", f"PostgreSQL {version}, no pgvector, no TLS"], got)
        got = doctor(vecmill, folder, settings=settings, status=1, PGUSER="nobody")
        expect(got[1] == [f'PostgreSQL: cannot connect: connection to server at "127.0.0.1", port {server.port} failed: FATAL: password '
                          'authentication failed for user "nobody" (check the user and its password)'], got)
        got = doctor(vecmill, folder, settings=settings | {"PGOPTIONS": "-cdefault_transaction_read_only=on"}, status=1, PGUSER="postgres")
        expect(got[1] == [place + "corpus: the server takes no writes: a standby, or default_transaction_read_only (name the primary)", what], got)
        server.psql("CREATE ROLE ana LOGIN PASSWORD 'S3cret0451'")
        ana, settings = place.replace("postgres", "ana") + "corpus", settings | {"PG_USER": "ana", "PG_PASSWORD": "S3cret0451"}
        got = doctor(vecmill, folder, settings=settings, status=1)
        expect(got[1] == [ana + ": this user may not create schema vecmill, where vecmill keeps its state (have its owner run GRANT CREATE ON "
                          'DATABASE "corpus" TO "ana", or what vecmill ingest prints)', what], got)
        server.psql("CREATE SCHEMA vecmill")
        got = doctor(vecmill, folder, settings=settings, status=1)
        may_not = ana + ": this user may not use schema vecmill, where vecmill keeps its state (have its owner run "
        expect(got[1][0] == may_not + 'GRANT USAGE, CREATE ON SCHEMA "vecmill" TO "ana", or what vecmill ingest prints)', got)
        server.psql('GRANT USAGE, CREATE ON SCHEMA "vecmill" TO "ana"')
        doctor(vecmill, folder, settings=settings, status=0)
        server.psql("CREATE TABLE t(id integer PRIMARY KEY, text text); INSERT INTO t VALUES(1, 'one')")
        run(vecmill, folder, "ingest", "t", "--db", server.uri_of(), "--model", vecmill.model, settings={}, status=0)
        server.psql('GRANT SELECT ON ALL TABLES IN SCHEMA "vecmill" TO "ana"')
        got = doctor(vecmill, folder, settings=settings, status=1)
        grants = state_grants("ana")
        expect(got[1][0] == f"{may_not}{grants}or what vecmill ingest prints)", got)
        server.psql(grants)
        doctor(vecmill, folder, settings=settings, status=0)
        # an address in the wrong place is told by its variable alone
        done = run(vecmill, folder, "doctor", "--model", vecmill.model, settings={"PG_DATABASE": server.uri_of()}, status=1)
        expect("PG_DATABASE=... (.env line 1): an address, where only its dbname is meant (give the address to --db)\n" in done.stdout
               and server.password not in done.stdout + done.stderr, done.stdout)


def test_doctor_tls(vecmill, folder):
    """The 15 has TLS and no pgvector."""
    with Server(version=15, tls=True) as server:
        version = server.psql("SHOW server_version")[0][0].split()[0]
        _, told = doctor(vecmill, folder, "--db", server.uri_of(), settings={}, status=1)
        expect(told == [f"{server.user}@{server.host}:{server.port}/{server.database}: this database has no pgvector (install it, then as a "
                        "superuser: CREATE EXTENSION vector)", f"PostgreSQL {version}, no pgvector, TLSv1.3"], told)


def test_mistyped(vecmill, folder):
    """What of a connection cannot be: libpq's words, and what to do."""
    (folder / "services.conf").write_text("[corpus]\n", encoding="utf-8")
    with fresh() as server:
        settings = {"PG_HOST": "127.0.0.1", "PG_PORT": server.port, "PG_DATABASE": "corpus", "PG_USER": server.user}

        def refused(words: str, **wrong) -> None:
            told = doctor(vecmill, folder, settings=settings | wrong, status=1)[1]
            told = [re.sub(r"(to address|\"here\"): [^(]* \(", r"\1: .. (", line) for line in told]  # the resolver's words
            expect(told == [f"PostgreSQL: cannot connect: {words}"], told)

        for host, advice in (("nowhere.invalid", "check the host's name: PG_HOST, PGHOST or --db"), ("a:b.invalid", "check the host's name: PG_HOST, PGHOST or --db"),
                             (f"127.0.0.1:{server.port}", "the port belongs into PG_PORT, or port= of --db"),
                             ("[::1]", "without the brackets, which only an address postgresql://.. has"),
                             (f"[::1]:{server.port}", "without the brackets, which only an address postgresql://.. has, and the port into PG_PORT")):
            refused(f'could not translate host name "{host}" to address: .. ({advice})', PG_HOST=host)
        refused('could not parse network address "here": .. (hostaddr is an address in numbers; host takes names)', PGHOSTADDR="here")
        refused('could not match 3 port numbers to 2 hosts (as many ports as hosts, or one for all)', PG_HOST="a,b", PG_PORT="1,2,3")
        refused('definition of service "nix" not found (PGSERVICE, or service= of --db, names it; PGSERVICEFILE or ~/.pg_service.conf is where it stands)',
                PGSERVICE="nix", PGSERVICEFILE="services.conf")
        refused('service file "nix.conf" not found (PGSERVICEFILE names it)', PGSERVICE="corpus", PGSERVICEFILE="nix.conf")
        for variable, keyword, values in (("PGSSLMODE", "sslmode", "disable, allow, prefer, require, verify-ca or verify-full"),
                                          ("PGCHANNELBINDING", "channel_binding", "disable, prefer or require"),
                                          ("PGGSSENCMODE", "gssencmode", "disable, prefer or require"),
                                          ("PGTARGETSESSIONATTRS", "target_session_attrs", "any, read-write, read-only, primary, standby or prefer-standby")):
            refused(f'invalid {keyword} value: "requir" ({values}; {variable} or --db)', **{variable: "requir"})


def test_password_file(vecmill, folder):
    """One that others may read is passed over, as libpq does, and told once, as all else is; where it is not asked for nothing is said."""
    with Server(auth="scram-sha-256") as server:
        server.psql("CREATE TABLE t(id integer PRIMARY KEY, text text); INSERT INTO t VALUES(1, 'a')")
        settings = {"PG_HOST": "127.0.0.1", "PG_PORT": server.port, "PG_DATABASE": "corpus", "PG_USER": server.user}
        path = folder / ".pgpass"
        path.write_text(f"127.0.0.1:{server.port}:*:*:{server.password}\n", encoding="utf-8")
        for more in ({"HOME": str(folder), "PGPASSFILE": ""}, {"PGPASSFILE": str(path)}):
            words = ("ingest", "t", "--model", vecmill.model)
            path.chmod(0o640)
            done = run(vecmill, folder, *words, settings=settings, status=1, **more)
            expect(done.stderr == f"vecmill: password file {path}: others may read it, so no password is taken from it (chmod 600 {path})\n"
                   f'vecmill: PostgreSQL: cannot connect: connection to server at "127.0.0.1", port {server.port} failed: fe_sendauth: no password supplied '
                   "(check the user and its password)\n", done.stderr)
            done = run(vecmill, folder, *words, settings=settings | {"PG_PASSWORD": server.password}, status=0, **more)
            expect(done.stderr == "", done.stderr)
            path.chmod(0o600)
            done = run(vecmill, folder, *words, settings=settings, status=0, **more)
            expect(done.stderr == "", done.stderr)
    with fresh() as server:  # which asks for none: a run has four connections
        server.psql("CREATE TABLE t(id integer PRIMARY KEY, text text); INSERT INTO t VALUES(1, 'a')")
        path.chmod(0o604)
        done = run(vecmill, folder, "ingest", "t", "--model", vecmill.model, "--db", server.uri, settings={}, status=0, PGPASSFILE=str(path))
        expect(done.stderr.count("password file") == 1 and "WARNING" not in done.stderr, done.stderr)


def test_bouncer(vecmill, folder):
    """What pgbouncer does not let through, seen by the doctor as by a run."""
    with fresh() as server:
        server.psql("CREATE TABLE t(id integer PRIMARY KEY, text text); INSERT INTO t VALUES(1, 'a')")
        with Bouncer(server) as bouncer:
            for variable, keyword, value, more in (("PGOPTIONS", "options", "-cwork_mem=1MB", " or --db"), ("PGGEQO", "geqo", "off", "")):
                words = (f'PostgreSQL: cannot connect: connection to server at "127.0.0.1", port {bouncer.port} failed: FATAL: unsupported startup parameter: '
                         f"{keyword} (it comes from {variable}{more}; pgbouncer passes over it with ignore_startup_parameters = {keyword})")
                told = doctor(vecmill, folder, "--db", bouncer.uri, settings={variable: value}, status=1)[1]
                expect(told == [words], told)
                done = run(vecmill, folder, "ingest", "t", "--model", vecmill.model, "--db", bouncer.uri, settings={variable: value}, status=1)
                expect(done.stderr == f"vecmill: {words}\n", done.stderr)
        with Bouncer(server, settings={"ignore_startup_parameters": "options, geqo"}) as bouncer:
            doctor(vecmill, folder, "--db", bouncer.uri, settings={"PGOPTIONS": "-cwork_mem=1MB", "PGGEQO": "off"}, status=0)
        with Bouncer(server, "statement") as bouncer:
            at, words = f"{bouncer.user}@127.0.0.1:{bouncer.port}/corpus", "transaction blocks not allowed in statement pooling mode (pgbouncer: pool_mode = transaction, or session)"
            told = doctor(vecmill, folder, "--db", bouncer.uri, settings={}, status=1)[1]
            expect(told[0] == f"{at}: no transaction can be begun: {words}" and len(told) == 2, told)
            done = run(vecmill, folder, "ingest", "t", "--model", vecmill.model, "--db", bouncer.uri, settings={}, status=1)
            expect(done.stderr == f"vecmill: {at}: cannot begin a run: {words}\n", done.stderr)


def test_variables(vecmill, folder):
    """Of .env: libpq's own, which are keywords of a connection, and those that it looks for in the environment alone."""
    with fresh() as server:
        server.psql(f"CREATE TABLE t(id integer PRIMARY KEY, text text, embedding vector({N_DIMENSIONS})); "
                    "INSERT INTO t SELECT i, 'star ' || i FROM generate_series(1, 20) AS i")
        settings = {"PGHOST": server.host, "PGPORT": server.port, "PGDATABASE": server.database, "PGUSER": server.user}
        for more, where in [({"PGTZ": "Pacific/Honolulu"}, "current_setting('TimeZone') = 'Pacific/Honolulu'"),
                            ({"PGGEQO": "off"}, "current_setting('geqo') = 'off'"), ({"PGAPPNAME": "mine"}, "current_setting('application_name') = 'mine'"),
                            ({"PGOPTIONS": "-cwork_mem=123kB"}, "current_setting('work_mem') = '123kB'"),
                            ({"PGCLIENTENCODING": "LATIN1"}, "current_setting('client_encoding') = 'UTF8'")]:
            done = run(vecmill, folder, "ingest", "t", "--dry-run", "--model", vecmill.model, "--where", where, settings=settings | more, status=0)
            expect("Remaining to embed in t: 20\n" in done.stdout, f"{more}: {done.stdout}{done.stderr}")
        (folder / "services.conf").write_text("[corpus]\n" + "".join(f"{name}={value}\n" for name, value in server.parameters.items()), encoding="utf-8")
        run(vecmill, folder, "ingest", "t", "--model", vecmill.model, settings={"PGSERVICEFILE": "services.conf", "PGSERVICE": "corpus", "PG_HOST": "x"},
            status=0)
        expect(server.psql("SELECT count(embedding) FROM t") == [("20",)], "the service's table")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
