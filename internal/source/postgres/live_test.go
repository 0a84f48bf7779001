package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/source/postgres"
	"holdfast/internal/testbed"
)

// application is a small database with what concerns a database as a whole.
const application = `
CREATE TABLE t (id int PRIMARY KEY, body text);
INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 1000) n;
ALTER TABLE t OWNER TO app_owner;
GRANT SELECT ON t TO "Grüße ""role";
COMMENT ON DATABASE app IS 'it''s \ the app';
REVOKE ALL ON DATABASE app FROM PUBLIC;
GRANT CONNECT ON DATABASE app TO "Grüße ""role" WITH GRANT OPTION;
ALTER DATABASE app SET search_path TO "odd, schema", public;
ALTER DATABASE app SET work_mem TO '7MB';
ALTER ROLE app_owner IN DATABASE app SET statement_timeout TO '17s';
ALTER DATABASE app CONNECTION LIMIT 33;`

func withApplication(t *testing.T, major int) *testbed.Server {
	t.Helper()
	server := testbed.Postgres(t, major, testbed.ServerOptions{})
	server.Exec(t, "postgres", `CREATE ROLE app_owner LOGIN PASSWORD 'x'; CREATE ROLE "Grüße ""role"; GRANT "Grüße ""role" TO app_owner;
		CREATE ROLE unrelated SUPERUSER; ALTER ROLE app_owner SET lock_timeout TO '3s'`,
		`CREATE DATABASE app OWNER app_owner ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8' TEMPLATE template0`)
	server.Exec(t, "app", application)
	return server
}

// TestRestoreOnAnotherServer makes the missing roles and everything that concerns the database as a whole.
func TestRestoreOnAnotherServer(t *testing.T) {
	for _, pair := range [][2]int{{13, 13}, {13, 18}, {14, 15}, {15, 14}, {15, 15}, {17, 15}, {18, 13}, {18, 18}} {
		t.Run(fmt.Sprintf("%d to %d", pair[0], pair[1]), func(t *testing.T) {
			t.Parallel()
			stored := capture(t, options(t, withApplication(t, pair[0]).URL("app")))
			server := testbed.Postgres(t, pair[1], testbed.ServerOptions{})
			p := open(t, postgres.Target{URL: holdfast.NewSecret(server.URL("app"))}, ignore)
			bring(t, p, stored)
			if server.Value(t, "postgres", `SELECT count(*) FROM pg_database WHERE datname = 'app'`) != "0" {
				t.Error("the final name is taken before Commit")
			}
			where, err := p.Commit(t.Context())
			if err != nil {
				t.Fatalf("commit: %v (hint: %s)", err, holdfast.Hint(err))
			}
			if !strings.Contains(where, `database "app"`) {
				t.Errorf("commit says %q", where)
			}
			for query, want := range map[string]string{
				`SELECT count(*) FROM t`: "1000",
				`SELECT pg_get_userbyid(datdba) || ' ' || datcollate || ' ' || datctype || ' ' || datconnlimit FROM pg_database WHERE datname = 'app'`: "app_owner C C.UTF-8 33",
				`SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'app'`:                                                  `it's \ the app`,
				`SELECT has_database_privilege('Grüße "role', 'app', 'CONNECT WITH GRANT OPTION')`:                                                     "t",
				`SELECT setconfig::text FROM pg_db_role_setting WHERE setrole = 0`:                                                                     `{"search_path=\"odd, schema\", public",work_mem=7MB}`,
				`SELECT setconfig::text FROM pg_db_role_setting WHERE setdatabase <> 0 AND setrole <> 0`:                                               `{statement_timeout=17s}`,
				`SELECT setconfig::text FROM pg_db_role_setting WHERE setdatabase = 0`:                                                                 `{lock_timeout=3s}`,
				`SELECT rolpassword IS NOT NULL AND rolcanlogin FROM pg_authid WHERE rolname = 'app_owner'`:                                            "t",
				`SELECT pg_has_role('app_owner', 'Grüße "role', 'MEMBER')`:                                                                             "t",
				`SELECT count(*) FROM pg_roles WHERE rolname = 'unrelated'`:                                                                            "0",
				`SELECT count(*) FROM pg_database WHERE datname LIKE '%restoring%'`:                                                                    "0",
			} {
				if got := server.Value(t, "app", query); got != want {
					t.Errorf("%s: %q, want %q", query, got, want)
				}
			}
		})
	}
}

func TestExistingTargetIsRefused(t *testing.T) {
	server := withApplication(t, 15)
	stored := capture(t, options(t, server.URL("app")))
	p := open(t, postgres.Target{URL: holdfast.NewSecret(server.URL("app"))}, ignore)
	err := p.Restore(t.Context(), stored)
	if !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("restore into an existing database: %v", err)
	}
	mustSay(t, err, `database "app" exists`, "--overwrite")
}

func TestOverwriteKeepsTheOldDatabase(t *testing.T) {
	server := withApplication(t, 15)
	stored := capture(t, options(t, server.URL("app")))
	server.Exec(t, "app", `DELETE FROM t WHERE id > 10`)
	session := server.Connect(t, "app") // has to be ended
	target := postgres.Target{URL: holdfast.NewSecret(server.URL("app")), Overwrite: true, ID: "k7",
		Now: time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC)}
	p := open(t, target, ignore)
	if err := p.Restore(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	if got := server.Value(t, "postgres", `SELECT count(*) FROM pg_database WHERE datname = 'app_restoring_k7'`); got != "1" {
		t.Error("the restore is not in app_restoring_k7")
	}
	if got := server.Value(t, "app", `SELECT count(*) FROM t`); got != "10" {
		t.Errorf("the target was touched before Commit: %s rows", got)
	}
	where, err := p.Commit(t.Context())
	if err != nil {
		t.Fatalf("commit: %v (hint: %s)", err, holdfast.Hint(err))
	}
	if !strings.Contains(where, "app_before_20261122t030405z") {
		t.Errorf("commit says %q", where)
	}
	if err := session.Ping(t.Context()); err == nil {
		t.Error("the session in the old database goes on")
	}
	if got := server.Value(t, "app", `SELECT count(*) FROM t`); got != "1000" {
		t.Errorf("%s rows came back", got)
	}
	if got := server.Value(t, "app_before_20261122t030405z", `SELECT count(*) FROM t`); got != "10" {
		t.Errorf("the old database has %s rows", got)
	}
}

// TestOverwriteThatCannotRename leaves the target open when a prepared transaction holds it.
func TestOverwriteThatFailsChangesNothing(t *testing.T) {
	server := withApplication(t, 15)
	stored := capture(t, options(t, server.URL("app")))
	p := open(t, postgres.Target{URL: holdfast.NewSecret(server.URL("postgres")), Overwrite: true}, ignore)
	if err := p.Restore(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, "postgres", `CREATE ROLE app_restorer SUPERUSER LOGIN`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("commit: %v", err)
	}
	if got := server.Value(t, "app", `SELECT count(*) FROM t`); got != "1000" {
		t.Errorf("the target has %s rows", got)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if got := server.Value(t, "postgres", `SELECT count(*) FROM pg_database WHERE datname LIKE 'app%'`); got != "1" {
		t.Errorf("%s databases are left", got)
	}
}

func TestWithRolesChangesExistingOnes(t *testing.T) {
	stored := capture(t, options(t, withApplication(t, 15).URL("app")))
	for _, with := range []bool{false, true} {
		t.Run(fmt.Sprint(with), func(t *testing.T) {
			server := testbed.Postgres(t, 15, testbed.ServerOptions{})
			server.Exec(t, "postgres", `CREATE ROLE app_owner NOLOGIN`)
			p := open(t, postgres.Target{URL: holdfast.NewSecret(server.URL("postgres")), WithRoles: with}, ignore)
			bring(t, p, stored)
			if _, err := p.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := server.Value(t, "postgres", `SELECT rolcanlogin FROM pg_roles WHERE rolname = 'app_owner'`) == "t"; got != with {
				t.Errorf("the existing role may log in: %v", got)
			}
		})
	}
}

func TestCloseWithoutCommitLeavesNothing(t *testing.T) {
	stored := capture(t, options(t, withApplication(t, 15).URL("app")))
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	const state = `SELECT (SELECT string_agg(datname, ' ') FROM pg_database) || (SELECT string_agg(rolname, ' ') FROM pg_roles)`
	before := server.Value(t, "postgres", state)
	p := open(t, postgres.Target{URL: holdfast.NewSecret(server.URL("postgres"))}, ignore)
	bring(t, p, stored)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if after := server.Value(t, "postgres", state); after != before {
		t.Errorf("before: %s\nafter: %s", before, after)
	}
}

// TestRestoreInterrupted cancels while the dump is half in.
func TestRestoreInterrupted(t *testing.T) {
	server := reader(t, bigTable)
	stored := capture(t, options(t, server.URL("app")))
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	item, _ := stored.Item("app.sql")
	text := content(t, stored, "app.sql")
	for i := range stored.Items {
		if stored.Items[i].Name == item.Name {
			stored.Items[i].Open = func(context.Context) (io.ReadCloser, error) {
				half := strings.NewReader(text[:len(text)/2])
				return io.NopCloser(io.MultiReader(half, blocking{ctx, cancel})), nil
			}
		}
	}
	p := open(t, postgres.Target{URL: holdfast.NewSecret(server.URL("postgres")), Database: "back"}, ignore)
	if err := p.Restore(ctx, stored); !errors.Is(err, holdfast.ErrInterrupted) {
		t.Errorf("restore: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if got := server.Value(t, "postgres", `SELECT count(*) FROM pg_database WHERE datname LIKE 'back%'`); got != "0" {
		t.Errorf("%s databases are left", got)
	}
}

// blocking cancels when it is read, and returns what a reader under a cancelled context returns.
type blocking struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
}

func (b blocking) Read([]byte) (int, error) {
	b.cancel(holdfast.ErrInterrupted)
	return 0, context.Cause(b.ctx)
}

// TestLeftoverOfAKilledRestore restores where a killed restore of the same backup left its staging, and where another one
// is still at work in it.
func TestLeftoverOfAKilledRestore(t *testing.T) {
	stored := capture(t, options(t, withApplication(t, 15).URL("app")))
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	server.Exec(t, "postgres", `CREATE DATABASE back_restoring_abc`)
	target := postgres.Target{URL: holdfast.NewSecret(server.URL("postgres")), Database: "back", ID: "abc"}

	at := server.Connect(t, "back_restoring_abc")
	p := open(t, target, ignore)
	if err := p.Restore(t.Context(), stored); !errors.Is(err, holdfast.ErrBusy) || holdfast.Hint(err) == "" {
		t.Errorf("with a session on it: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := server.Value(t, "postgres", `SELECT count(*) FROM pg_database WHERE datname = 'back_restoring_abc'`); got != "1" {
		t.Fatal("a database in use was dropped")
	}
	if err := at.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	deadline := time.Now().Add(time.Minute)
	for server.Value(t, "postgres", `SELECT count(*) FROM pg_stat_activity WHERE datname = 'back_restoring_abc'`) != "0" {
		if time.Now().After(deadline) {
			t.Fatal("the session did not end")
		}
	}
	p = open(t, target, ignore)
	bring(t, p, stored)
	if _, err := p.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := server.Value(t, "postgres", `SELECT count(*) FROM pg_database WHERE datname LIKE 'back%'`); got != "1" {
		t.Errorf("%s databases are there", got)
	}
}

func TestRestoreErrorsNameTheObject(t *testing.T) {
	server := reader(t, bigTable, `CREATE ROLE lost_role; ALTER TABLE open_table OWNER TO lost_role`)
	opt := options(t, server.URL("app"))
	stored := capture(t, opt)
	for _, test := range []struct {
		name          string
		change        func(string) string
		message, hint string
	}{
		{"a row does not parse", func(s string) string { return strings.Replace(s, "\n100\t", "\nx00\t", 1) }, "COPY big, line 100", "nothing was changed"},
		{"a statement is refused", func(s string) string {
			return strings.Replace(s, "ALTER TABLE public.open_table", "ALTER TABLE public.shut_table", 1)
		}, `"public.shut_table" does not exist`, "nothing was changed"},
		{"a shell command", func(s string) string {
			return strings.Replace(s, "\nSET ", "\n\\! touch /tmp/holdfast-was-here\nSET ", 1)
		}, "app.sql", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := open(t, postgres.Target{URL: holdfast.NewSecret(server.URL("postgres")), Database: "back"}, ignore)
			err := p.Restore(t.Context(), replaced(t, stored, "app.sql", test.change))
			if err == nil || !strings.Contains(err.Error(), test.message) || !strings.Contains(holdfast.Hint(err), test.hint) {
				t.Errorf("restore: %v (hint: %s), want %q (%q)", err, holdfast.Hint(err), test.message, test.hint)
			}
		})
	}
}

// TestSnapshotUnderWriters moves money between two tables while dumps run: every one must see the whole of it.
func TestSnapshotUnderWriters(t *testing.T) {
	server := reader(t, `CREATE TABLE left_side (id int PRIMARY KEY, amount bigint); CREATE TABLE right_side (LIKE left_side INCLUDING ALL);
		INSERT INTO left_side SELECT n, 1000 FROM generate_series(1, 100) n; INSERT INTO right_side SELECT * FROM left_side`, bigTable)
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for worker := range 3 {
		conn := server.Connect(t, "app")
		writers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if _, err := conn.Exec(context.WithoutCancel(ctx), fmt.Sprintf(`BEGIN; UPDATE left_side SET amount = amount - %[1]d WHERE id = %[2]d;
					UPDATE right_side SET amount = amount + %[1]d WHERE id = %[2]d; COMMIT`, n%50+1, worker*30+n%30+1)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	opt := options(t, server.URL("app"))
	opt.SkipGlobals = true
	for n := range 3 {
		stored := capture(t, opt)
		var sum int64
		for line := range strings.Lines(content(t, stored, "app.sql")) {
			_, field, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			if amount, err := strconv.ParseInt(field, 10, 64); err == nil && amount < 1e6 {
				sum += amount
			}
		}
		if sum != 200_000 {
			t.Errorf("dump %d holds %d, want 200000", n, sum)
		}
	}
	stop()
	writers.Wait()
}

func TestTLSAndPassword(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{TLS: true, Password: "pass word"})
	server.Exec(t, "postgres", `CREATE TABLE t AS SELECT 1 AS id`)
	stored := capture(t, options(t, server.TCPURL("postgres")))
	p := open(t, postgres.Target{URL: holdfast.NewSecret(server.TCPURL("postgres")), Database: "back"}, ignore)
	bring(t, p, stored)
	t.Run("untrusted", func(t *testing.T) {
		other := testbed.Postgres(t, 15, testbed.ServerOptions{TLS: true})
		_, err := tryCapture(t.Context(), options(t, strings.Replace(server.TCPURL("postgres"), url.QueryEscape(server.CA), url.QueryEscape(other.CA), 1)))
		mustSay(t, err, "certificate", "sslrootcert")
	})
	t.Run("environment alone", func(t *testing.T) {
		opt := options(t, "")
		opt.Env = map[string]string{"PGHOST": "127.0.0.1", "PGPORT": fmt.Sprint(server.Port), "PGUSER": "postgres", "PGDATABASE": "postgres",
			"PGSSLMODE": "verify-full", "PGSSLROOTCERT": server.CA}
		opt.Password = holdfast.NewSecret("pass word")
		if got := failures(stored.Facts, capture(t, opt).Facts); len(got) > 0 {
			t.Errorf("another way, other facts: %q", got)
		}
	})
}

// TestAllDatabases takes databases whose names are hard to write, each with its own snapshot.
func TestAllDatabases(t *testing.T) {
	names := []string{"globals", "a=b", "new\nline \"quoted\" 'name'", "größe", "postgres://x/y", "UPPER", "upper"}
	for _, major := range []int{15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			server := testbed.Postgres(t, major, testbed.ServerOptions{})
			for i, name := range names {
				quoted := `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
				server.Exec(t, "postgres", "CREATE DATABASE "+quoted)
				opt := options(t, "")
				opt.Env = map[string]string{"PGHOST": server.Socket, "PGPORT": fmt.Sprint(server.Port), "PGUSER": "postgres", "PGDATABASE": name}
				execIn(t, server, name, fmt.Sprintf(`CREATE TABLE "t ""%d
" AS SELECT generate_series(1, %d) AS "n
n"`, i, i+1))
				opt.SkipGlobals = false
				single := capture(t, opt)
				if got := single.Facts.Properties["database"]; got != name {
					t.Errorf("captured %q, want %q", got, name)
				}
			}
			opt := options(t, server.URL("postgres"))
			opt.AllDatabases = true
			stored := capture(t, opt)
			if got, want := len(stored.Items), 1+2*(len(names)+1); got != want {
				t.Errorf("%d items, want %d", got, want)
			}
			d := throwaway(t, stored, ignore)
			bring(t, d, stored)
			p := open(t, postgres.Target{URL: holdfast.NewSecret(server.URL("template1")), Overwrite: true}, ignore)
			if err := p.Restore(t.Context(), stored); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func execIn(t *testing.T, server *testbed.Server, database, sql string) {
	t.Helper()
	conn := server.Connect(t, "postgres")
	config := conn.Config().Copy()
	config.Database = database
	other, err := connectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	if _, err := other.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// TestFiltersComeBack restores backups that leave something out.
func TestFiltersComeBack(t *testing.T) {
	server := reader(t, `CREATE SCHEMA one; CREATE SCHEMA two; CREATE EXTENSION citext SCHEMA one;
		CREATE TABLE one.kept (id int, name one.citext); INSERT INTO one.kept VALUES (1, 'x'); CREATE TABLE two.other (id int);
		CREATE TABLE one.log AS SELECT generate_series(1, 100) AS n; SELECT lo_from_bytea(9, 'x')`)
	for _, test := range []struct {
		name   string
		change func(*postgres.Options)
		tables string
	}{
		{"only a table", func(o *postgres.Options) { o.IncludeTables = []string{"one.kept"} }, "one.kept:1"},
		{"only a schema", func(o *postgres.Options) { o.IncludeSchemas = []string{"one"} }, "one.kept:1 one.log:100"},
		{"without rows", func(o *postgres.Options) { o.ExcludeTableData = []string{"one.log"} }, "one.kept:1 public.open_table:0 two.other:0"},
		{"without a schema", func(o *postgres.Options) { o.ExcludeSchemas = []string{"two"} }, "one.kept:1 one.log:100 public.open_table:0"},
		{"without globals", func(o *postgres.Options) { o.SkipGlobals = true }, "one.kept:1 one.log:100 public.open_table:0 two.other:0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			opt := options(t, server.URL("app"))
			test.change(&opt)
			stored := capture(t, opt)
			var tables []string
			for _, fact := range stored.Facts.Facts {
				if fact.Class == "table" {
					tables = append(tables, fmt.Sprintf("%s:%d", fact.Name, fact.Rows))
				}
			}
			if got := strings.Join(tables, " "); got != test.tables {
				t.Errorf("tables %q, want %q", got, test.tables)
			}
			if len(stored.Facts.Exclusions) == 0 {
				t.Error("nothing is said to be left out")
			}
			bring(t, throwaway(t, stored, ignore), stored)
		})
	}
	t.Run("no such table", func(t *testing.T) {
		opt := options(t, server.URL("app"))
		opt.IncludeTables = []string{"nonsense"}
		_, err := tryCapture(t.Context(), opt)
		mustSay(t, err, "no matching tables", "filters")
	})
}
