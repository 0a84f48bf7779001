package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
	"holdfast/internal/testbed"
)

// TestDrillFindsDamage alters what is stored in ways that SQL accepts.
func TestDrillFindsDamage(t *testing.T) {
	server := withApplication(t, 15)
	stored := capture(t, options(t, server.URL("app")))
	for _, test := range []struct{ name, from, to, want string }{
		{"a row altered", "\n500\trow 500\n", "\n500\trow 5OO\n", "table public.t: same counts, other content"},
		{"a row lost", "\n500\trow 500\n", "\n", "table public.t: 1000 rows stored, 999 restored"},
		{"a row added", "\n500\trow 500\n", "\n500\trow 500\n5000\trow 500\n", "table public.t: 1000 rows stored, 1001 restored"},
		{"a column renamed", "body text", "bodi text", "schema"},
		{"a grant lost", "GRANT SELECT ON TABLE public.t", "GRANT UPDATE ON TABLE public.t", "schema"},
	} {
		t.Run(test.name, func(t *testing.T) {
			damaged := replaced(t, stored, "app.sql", func(s string) string {
				s = strings.Replace(s, test.from, test.to, 1)
				if test.name == "a column renamed" {
					s = strings.Replace(s, "(id, body)", "(id, bodi)", 1)
				}
				return s
			})
			d := throwaway(t, damaged, ignore)
			if err := d.Restore(t.Context(), damaged); err != nil {
				t.Fatal(err)
			}
			restored, err := d.Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(failures(stored.Facts, restored), "\n"); !strings.Contains(got, test.want) {
				t.Errorf("differences %q, want %q", got, test.want)
			}
		})
	}
}

func TestAssert(t *testing.T) {
	stored := capture(t, options(t, withApplication(t, 15).URL("app")))
	d := throwaway(t, stored, ignore)
	if _, err := d.Assert(t.Context(), `SELECT true`); err == nil {
		t.Error("an assertion before the restore")
	}
	bring(t, d, stored)
	for query, want := range map[string]bool{
		`SELECT count(*) = 1000 FROM t`:      true,
		`SELECT count(*) = 1001, 5 FROM t`:   false,
		`SELECT NULL::boolean`:               false,
		`SELECT true WHERE false`:            false,
		`SELECT id > 0, body FROM public.t;`: true,
	} {
		got, err := d.Assert(t.Context(), query)
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", query, got, err)
		}
	}
	for _, query := range []string{`SELECT count(*) FROM t`, `DELETE FROM t RETURNING true`, `nonsense`, `SELECT 1 / 0 = 1`, ``} {
		if got, err := d.Assert(t.Context(), query); err == nil {
			t.Errorf("%s: %v and no error", query, got)
		}
	}
	if _, err := d.Commit(t.Context()); err == nil {
		t.Error("a drill was committed")
	}
}

// edited returns stored with another record of the driver.
func edited(t *testing.T, stored source.Stored, from, to string) source.Stored {
	t.Helper()
	text := strings.Replace(string(stored.Facts.Driver), from, to, 1)
	if text == string(stored.Facts.Driver) || !json.Valid([]byte(text)) {
		t.Fatalf("%q does not change %s", from, text)
	}
	stored.Facts.Driver = []byte(text)
	return stored
}

// mustNotTest checks that a drill could not be made, which is neither a proof nor a failure.
func mustNotTest(t *testing.T, err error, message, hint string) {
	t.Helper()
	if !errors.Is(err, holdfast.ErrCannotTest) {
		t.Errorf("%v does not say that the drill cannot be made", err)
	}
	mustSay(t, err, message, hint)
}

func TestCannotTest(t *testing.T) {
	server := reader(t, `CREATE EXTENSION citext`)
	stored := capture(t, options(t, server.URL("app")))
	opt := postgres.DrillOptions{BinDirs: binDirs(t)}
	for _, test := range []struct {
		name          string
		stored        source.Stored
		opt           func(o *postgres.DrillOptions)
		message, hint string
	}{
		{"no server of that version", edited(t, stored, `"server":15`, `"server":12`), nil, "initdb of PostgreSQL 12", "install postgresql-12"},
		{"scratch folder missing", stored, func(o *postgres.DrillOptions) { o.Scratch += "/nothing" }, "no such file", "existing"},
		{"scratch folder in use", stored, func(o *postgres.DrillOptions) {
			if err := os.WriteFile(filepath.Join(o.Scratch, "x"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not empty", "empty folder"},
		{"scratch folder too deep", stored, func(o *postgres.DrillOptions) {
			o.Scratch = filepath.Join(o.Scratch, strings.Repeat("d", 100))
			if err := os.Mkdir(o.Scratch, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "too long", "90"},
		{"no room", func() source.Stored {
			s := stored
			s.Items = append([]source.StoredItem{{Name: "x", Size: 1 << 50}}, s.Items...)
			return s
		}(), nil, "MiB free", "more room"},
	} {
		t.Run(test.name, func(t *testing.T) {
			opt := opt
			opt.Scratch = scratch(t)
			if test.opt != nil {
				test.opt(&opt)
			}
			_, err := postgres.Throwaway(t.Context(), opt, test.stored, ignore)
			mustNotTest(t, err, test.message, test.hint)
		})
	}
	for _, test := range []struct {
		name          string
		stored        source.Stored
		message, hint string
	}{
		{"extension missing", edited(t, stored, `"name":"citext"`, `"name":"postgis"`), "lacks the extension postgis", "postgresql-15-postgis-3"},
		{"locale missing", edited(t, stored, `"collate":"C.UTF-8"`, `"collate":"xx_XX.UTF-8"`), "xx_XX.UTF-8", "needs the locale xx_XX.UTF-8"},
		{"collation missing", replaced(t, stored, "app.sql", func(s string) string {
			return strings.Replace(s, "CREATE TABLE public.open_table (", `CREATE TABLE public.open_table (x text COLLATE pg_catalog."xx_XX",`, 1)
		}), `collation "pg_catalog.xx_XX"`, "locale"},
		{"library missing", replaced(t, stored, "app.sql", func(s string) string {
			return strings.Replace(s, "SET default_tablespace", "CREATE FUNCTION public.f() RETURNS int LANGUAGE c AS '$libdir/nowhere', 'f';\nSET default_tablespace", 1)
		}), "$libdir/nowhere", "library"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := throwaway(t, test.stored, ignore)
			mustNotTest(t, d.Restore(t.Context(), test.stored), test.message, test.hint)
		})
	}
}

// TestDrillIsIsolated shows that the dump's code cannot reach the host, the network, or psql's commands.
func TestDrillIsIsolated(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	stored := capture(t, options(t, reader(t).URL("app")))
	for _, code := range []string{
		"COPY public.open_table FROM '" + secret + "';",
		"COPY public.open_table FROM PROGRAM 'cat " + secret + "';",
	} {
		bad := replaced(t, stored, "app.sql", func(s string) string {
			return strings.Replace(s, "\nSET default_tablespace", "\nCREATE TABLE public.open_table (id text);\n"+code+"\nSET default_tablespace", 1)
		})
		d := throwaway(t, bad, ignore)
		if err := d.Restore(t.Context(), bad); err == nil {
			t.Errorf("%s was run", code)
		}
	}
}

func TestDrillEndsWithItsContext(t *testing.T) {
	stored := capture(t, options(t, reader(t).URL("app")))
	ctx, cancel := context.WithCancelCause(t.Context())
	dir := scratch(t)
	d, err := postgres.Throwaway(ctx, postgres.DrillOptions{Scratch: dir, BinDirs: binDirs(t)}, stored, ignore)
	if err != nil {
		t.Fatal(err)
	}
	cancel(holdfast.ErrInterrupted)
	if err := d.Restore(ctx, stored); !errors.Is(err, holdfast.ErrInterrupted) {
		t.Errorf("restore: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the scratch folder: %v, %v", left, err)
	}
	if out, err := exec.CommandContext(t.Context(), "pgrep", "-f", dir).Output(); err == nil {
		t.Errorf("processes go on: %s", out)
	}
	if _, err := postgres.Throwaway(ctx, postgres.DrillOptions{Scratch: dir, BinDirs: binDirs(t)}, stored, ignore); !errors.Is(err, holdfast.ErrInterrupted) {
		t.Errorf("a drill under a cancelled context: %v", err)
	}
}

func TestDrillWithoutSandbox(t *testing.T) {
	stored := capture(t, options(t, reader(t).URL("app")))
	seen := &events{}
	dir := scratch(t)
	d, err := postgres.Throwaway(t.Context(), postgres.DrillOptions{Scratch: dir, BinDirs: binDirs(t), Unsandboxed: true}, stored, seen.observe)
	if err != nil {
		t.Fatal(err)
	}
	bring(t, d, stored)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(seen.warnings(), "without a sandbox") {
		t.Errorf("it is not told: %q", seen.warnings())
	}
}

// TestPreloadedLibraries are loaded in the throwaway where they are there.
func TestPreloadedLibraries(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements"}})
	server.Exec(t, "postgres", `CREATE EXTENSION pg_stat_statements`, `ALTER DATABASE postgres SET pg_stat_statements.track TO 'none'`)
	stored := capture(t, options(t, server.URL("postgres")))
	for _, test := range []struct{ name, library, said string }{{"there", "pg_stat_statements", ""}, {"missing", "nowhere", "without the libraries nowhere"}} {
		t.Run(test.name, func(t *testing.T) {
			stored := stored
			if test.library != "pg_stat_statements" {
				stored = edited(t, stored, `"preload":"pg_stat_statements"`, `"preload":"`+test.library+`"`)
			}
			seen := &events{}
			bring(t, throwaway(t, stored, seen.observe), stored)
			if got := seen.warnings(); (got == "") != (test.said == "") || !strings.Contains(got, test.said) {
				t.Errorf("warnings %q, want %q", got, test.said)
			}
		})
	}
}

func TestLookup(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	for database, want := range map[string]bool{"postgres": true, "nowhere": false} {
		name, exists, err := postgres.Lookup(t.Context(), postgres.Target{URL: holdfast.NewSecret(server.URL(database))})
		if err != nil || name != database || exists != want {
			t.Errorf("%s: %q, %v, %v", database, name, exists, err)
		}
	}
}

// TestSettingsOfTheSourceDoNotMatter brings back values whose text depends on settings that the throwaway server has not.
func TestSettingsOfTheSourceDoNotMatter(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{SuperUser: "Boß", Settings: map[string]string{
		"timezone": "Asia/Kathmandu", "datestyle": "German", "bytea_output": "escape", "quote_all_identifiers": "on",
		"default_transaction_read_only": "off", "intervalstyle": "sql_standard", "extra_float_digits": "0"}})
	server.Exec(t, "postgres", `CREATE TABLE t AS SELECT now() AS at, 1234.5::money AS price, '\x00ff'::bytea AS raw, 0.1::float8 + 0.2 AS f, interval '1 day 2 h' AS i`,
		`CREATE TABLESPACE fast LOCATION '`+folderFor(t, server)+`'`, `CREATE TABLE placed (id int) TABLESPACE fast`, `CREATE INDEX ON placed (id) TABLESPACE fast`,
		`ALTER ROLE "Boß" SET default_transaction_read_only = on`, `DROP SCHEMA IF EXISTS nothing`)
	stored := capture(t, options(t, server.URL("postgres")))
	bring(t, throwaway(t, stored, ignore), stored)
	if script := content(t, stored, "app.create.sql"); !strings.Contains(script, `CREATE DATABASE "postgres"`) {
		t.Errorf("create script:\n%s", script)
	}
	if got := stored.Facts.Properties["lsn"]; !strings.Contains(got, "/") {
		t.Errorf("LSN %q", got)
	}
}

func folderFor(t *testing.T, server *testbed.Server) string {
	t.Helper()
	dir := filepath.Join(server.Dir, "fast")
	info, err := os.Stat(server.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	uid, gid := owner(info)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestGlobalsChangedMeanwhile is told in the notes.
func TestGlobalsChangedMeanwhile(t *testing.T) {
	server := reader(t)
	c, err := postgres.New(options(t, server.URL("app"))).Capture(t.Context(), ignore)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, item := range c.Items() {
		if _, err := readAll(t.Context(), item); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			server.Exec(t, "postgres", `CREATE ROLE came_later`)
		}
	}
	facts, err := c.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if notes := fmt.Sprint(facts.Notes); !strings.Contains(notes, "changed while the backup ran") {
		t.Errorf("notes: %s", notes)
	}
}

// TestStockPrograms restores with psql alone, as a recovery sheet says.
func TestStockPrograms(t *testing.T) {
	stored := capture(t, options(t, withApplication(t, 15).URL("app")))
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	psql := filepath.Join(testbed.ClientDir(t, 15), "psql")
	for _, step := range [][2]string{{"app.globals.sql", "postgres"}, {"app.create.sql", "postgres"}, {"app.sql", "app"}} {
		text := content(t, stored, step[0])
		if step[0] == "app.globals.sql" {
			text = strings.Replace(text, "CREATE ROLE postgres;", "", 1) // it exists
		}
		cmd := exec.CommandContext(t.Context(), psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", server.URL(step[1]))
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", step[0], err, out)
		}
	}
	again := capture(t, options(t, server.URL("app")))
	if got := append(failures(stored.Facts, again.Facts), texts(stored.Facts, again.Facts)...); len(got) > 0 {
		t.Errorf("stock psql brought back something else:\n%s", strings.Join(got, "\n"))
	}
}
