package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
	"holdfast/internal/testbed"
)

// mustSay checks that an error and its hint hold the given words, in one line each.
func mustSay(t *testing.T, err error, message, hint string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", message)
	}
	if !strings.Contains(err.Error(), message) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q, want one line that says %q", err, message)
	}
	if got := holdfast.Hint(err); !strings.Contains(got, hint) || got == "" {
		t.Errorf("hint %q, want one that says %q (error: %v)", got, hint, err)
	}
}

// eventually polls until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestConnectionFaults(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{Password: "right-password"})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	wrong := strings.Replace(server.TCPURL("postgres"), "right-password", "wrong%2Dpassword", 1)
	for _, test := range []struct{ name, url, message, hint string }{
		{"server down", "postgres://postgres@" + closed.Addr().String() + "/app", "connect to 127.0.0.1:", "no server answers"},
		{"no socket", "host=/nonexistent user=postgres dbname=app", "/nonexistent/.s.PGSQL.5432", "no server answers"},
		{"unknown host", "postgres://postgres@host.invalid/app", "host.invalid", "host.invalid"},
		{"wrong password", wrong, "28P01", `password of role "postgres" is wrong`},
		{"database missing", server.TCPURL("nowhere"), "3D000", `database "nowhere" is not on this server`},
		{"role missing", server.URLAs("nobody", "postgres"), "28000", `role "nobody"`},
		{"no TLS there", strings.Replace(server.TCPURL("postgres"), "sslmode=disable", "sslmode=require", 1), "TLS", "does not offer TLS"},
		{"several hosts down", "host=/nonexistent,/nowhere user=postgres dbname=app", "no server could be used", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := tryCapture(t.Context(), options(t, test.url))
			if test.hint == "" {
				if err == nil || !strings.Contains(err.Error(), test.message) {
					t.Errorf("error %v, want %q", err, test.message)
				}
				return
			}
			mustSay(t, err, test.message, test.hint)
			if text := fmt.Sprintf("%v %+v %s", err, err, holdfast.Hint(err)); strings.Contains(text, "-password") {
				t.Errorf("a password stands in %q", text)
			}
			findings, err := postgres.New(options(t, test.url)).Diagnose(t.Context())
			if err != nil || len(findings) != 1 || findings[0].Severity != source.Fails || !strings.Contains(findings[0].Fix, test.hint) {
				t.Errorf("diagnosis: %+v, %v", findings, err)
			}
		})
	}
}

func TestBadConnectionStrings(t *testing.T) {
	for _, text := range []string{
		"postgres://u:sec%ret@h/db", "postgres://u@[::1/db", "postgres://h/db?sslmode", "host='x", "host", "host=x y",
		"postgres://h/db?nonsense=1", "postgres://h/db?sslpassword=secret-phrase", "postgres://u:secret@h:port/db",
	} {
		_, err := postgres.New(options(t, text)).Capture(t.Context(), ignore)
		if !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("%s: %v, want a usage error", text, err)
			continue
		}
		if strings.Contains(err.Error(), "sec%ret") || strings.Contains(err.Error(), "secret-phrase") || strings.Contains(err.Error(), "secret@") {
			t.Errorf("%s: the error shows the password: %v", text, err)
		}
	}
}

// reader prepares a database with one table that role reader may read, besides whatever a test adds.
func reader(t *testing.T, sql ...string) *testbed.Server {
	t.Helper()
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	server.Exec(t, "postgres", `CREATE ROLE reader LOGIN`, `CREATE DATABASE app`)
	server.Exec(t, "app", append([]string{`CREATE TABLE open_table (id int); GRANT SELECT ON open_table TO reader`}, sql...)...)
	return server
}

func TestRoleThatCannotReadEverything(t *testing.T) {
	for _, test := range []struct{ name, sql, message, hint, fix string }{
		{"table", `CREATE TABLE "Secret ""T" (id int)`, `permission denied for table Secret "T`, `cannot read table Secret "T`,
			`GRANT SELECT ON TABLE "public"."Secret ""T" TO "reader";`},
		{"sequence", `CREATE SEQUENCE hidden_seq`, "permission denied for sequence hidden_seq", "sequence hidden_seq",
			`GRANT SELECT ON SEQUENCE "public"."hidden_seq" TO "reader";`},
		{"schema", `CREATE SCHEMA closed; CREATE TABLE closed.t (); GRANT SELECT ON closed.t TO reader`, "permission denied for schema closed",
			`GRANT USAGE ON SCHEMA "closed" TO "reader";`, `GRANT USAGE ON SCHEMA "closed" TO "reader";`},
		{"large object", `SELECT lo_from_bytea(777, 'x')`, "permission denied for large object 777", "large object 777",
			`GRANT SELECT ON LARGE OBJECT 777 TO "reader";`},
		{"row-level security", `CREATE TABLE walled (id int); GRANT SELECT ON walled TO reader; ALTER TABLE walled ENABLE ROW LEVEL SECURITY`,
			"row-level security", `ALTER ROLE "reader" BYPASSRLS;`, `ALTER ROLE "reader" BYPASSRLS;`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := reader(t, test.sql)
			opt := options(t, server.URLAs("reader", "app"))
			_, err := tryCapture(t.Context(), opt)
			mustSay(t, err, test.message, test.hint)
			findings, err := postgres.New(opt).Diagnose(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var fixes []string
			for _, f := range findings {
				if f.Severity == source.Fails {
					fixes = append(fixes, f.Fix)
				}
			}
			if len(fixes) != 1 || fixes[0] != test.fix {
				t.Errorf("fixes %q, want %q", fixes, test.fix)
			}
		})
	}
}

// TestDiagnoseListsEverything lets the fixes that doctor lists be run, after which a backup works.
func TestDiagnoseListsEverything(t *testing.T) {
	server := reader(t, `CREATE TABLE a (id serial); CREATE TABLE "b c" (); CREATE SCHEMA "S x"; CREATE TABLE "S x".t (id int);
		CREATE TABLE walled (id int); ALTER TABLE walled ENABLE ROW LEVEL SECURITY; SELECT lo_from_bytea(5, 'x'), lo_from_bytea(6, 'y');
		CREATE EXTENSION hstore; CREATE TABLE left_out (id int); CREATE SCHEMA skipped; CREATE TABLE skipped.t ()`)
	opt := options(t, server.URLAs("reader", "app"))
	opt.ExcludeTables, opt.ExcludeSchemas = []string{"public.LEFT_*"}, []string{"skip*"}
	findings, err := postgres.New(opt).Diagnose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, f := range findings {
		if f.Severity == source.Fails {
			count++
			server.Exec(t, "app", f.Fix)
		}
	}
	if count != 9 { // schema, 4 tables, their one sequence, row-level security, 2 large objects
		t.Errorf("%d failing findings: %+v", count, findings)
	}
	stored := capture(t, opt)
	if notes := strings.Join(stored.Facts.Notes, "\n"); !strings.Contains(notes, "without password hashes") {
		t.Errorf("notes %q do not say that password hashes are missing", notes)
	}
	if want := []string{"without tables public.LEFT_*", "without schemas skip*"}; fmt.Sprint(stored.Facts.Exclusions) != fmt.Sprint(want) {
		t.Errorf("exclusions %q, want %q", stored.Facts.Exclusions, want)
	}
	findings, err = postgres.New(opt).Diagnose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.Severity == source.Fails {
			t.Errorf("still failing: %+v", f)
		}
	}
}

func TestLockTimeoutNamesTheBlocker(t *testing.T) {
	server := reader(t)
	blocker := server.Connect(t, "app")
	for _, sql := range []string{`SET application_name = 'the blocker'`, `BEGIN`, `LOCK TABLE open_table`} {
		if _, err := blocker.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	opt := options(t, server.URL("app"))
	opt.LockWait = 5 * time.Second
	_, err := tryCapture(t.Context(), opt)
	mustSay(t, err, "the blocker, idle in transaction", "lock_wait")
}

// bigTable takes a dump long enough to be disturbed.
const bigTable = `CREATE TABLE big AS SELECT n AS id, repeat(md5(n::text), 30) AS body FROM generate_series(1, 60000) n`

// disturb opens the dump of app, reads its beginning, and returns how it ended after do.
func disturb(t *testing.T, opt postgres.Options, do func()) error {
	t.Helper()
	c, err := postgres.New(opt).Capture(t.Context(), ignore)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, item := range c.Items() {
		if item.Name != "app.sql" {
			if _, err := readAll(t.Context(), item); err != nil {
				t.Fatal(err)
			}
			continue
		}
		r, err := item.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
			t.Fatal(err)
		}
		do()
		_, err = io.Copy(io.Discard, r)
		closeErr := r.Close()
		if err == nil || closeErr == nil {
			t.Fatalf("the dump was disturbed and ended well: read %v, close %v", err, closeErr)
		}
		if _, err := c.Facts(t.Context()); err == nil {
			t.Error("facts were given of a dump that failed")
		}
		return err
	}
	t.Fatal("no dump")
	return nil
}

func TestBackendKilledDuringTheDump(t *testing.T) {
	server := reader(t, bigTable)
	err := disturb(t, options(t, server.URL("app")), func() {
		server.Exec(t, "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'holdfast _%'`)
	})
	mustSay(t, err, "connection", "the server's log")
}

func TestServerKilledDuringTheDump(t *testing.T) {
	server := reader(t, bigTable)
	err := disturb(t, options(t, server.URL("app")), func() { server.Kill(t) })
	mustSay(t, err, "dump app.sql", "the server's log")
}

// TestSnapshotSessionLost shows that the session which pinned the view is of no use any more once pg_dump shares it.
func TestSnapshotSessionLost(t *testing.T) {
	server := reader(t, bigTable)
	c, err := postgres.New(options(t, server.URL("app"))).Capture(t.Context(), ignore)
	if err != nil {
		t.Fatal(err)
	}
	server.Exec(t, "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holdfast'`)
	items := c.Items()
	_, err = readAll(t.Context(), items[len(items)-1])
	if err == nil || !strings.Contains(err.Error(), "snapshot") {
		t.Errorf("a dump without its snapshot: %v", err)
	}
	if err := c.Close(); err == nil {
		t.Error("the view was lost and Close says nothing")
	}
}

// proxy forwards to a server's socket until it is told to freeze.
type proxy struct {
	net.Listener
	frozen chan struct{}
	cut    atomic.Bool
}

func newProxy(t *testing.T, server *testbed.Server) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: listener, frozen: make(chan struct{})}
	done := make(chan struct{})
	t.Cleanup(func() { listener.Close(); close(done) })
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", filepath.Join(server.Socket, fmt.Sprintf(".s.PGSQL.%d", server.Port)))
			if err != nil {
				in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					buffer := make([]byte, 32<<10)
					for {
						n, err := pair[0].Read(buffer)
						if err != nil {
							break
						}
						select {
						case <-p.frozen:
							if !p.cut.Load() {
								<-done
							}
							pair[0].Close()
							pair[1].Close()
							return
						default:
						}
						if _, err := pair[1].Write(buffer[:n]); err != nil {
							break
						}
					}
					pair[0].Close()
					pair[1].Close()
				}()
			}
		}
	}()
	return p
}

func (p *proxy) url() string {
	return (&url.URL{Scheme: "postgres", User: url.User("postgres"), Host: p.Addr().String(), Path: "/app", RawQuery: "sslmode=disable"}).String()
}

func TestConnectionCutDuringCopy(t *testing.T) {
	server := reader(t, bigTable)
	p := newProxy(t, server)
	p.cut.Store(true)
	err := disturb(t, options(t, p.url()), func() { close(p.frozen) })
	mustSay(t, err, "dump app.sql", "the server's log")
}

func TestStall(t *testing.T) {
	server := reader(t, bigTable)
	p := newProxy(t, server)
	opt := options(t, p.url())
	opt.Stall = 2 * time.Second
	err := disturb(t, opt, func() { close(p.frozen) })
	mustSay(t, err, "stalled", "network")
}

// TestOurOwnSlownessIsNoStall reads nothing for longer than the stall limit, and then everything.
func TestOurOwnSlownessIsNoStall(t *testing.T) {
	server := reader(t, bigTable)
	opt := options(t, server.URL("app"))
	opt.Stall = 200 * time.Millisecond
	c, err := postgres.New(opt).Capture(t.Context(), ignore)
	if err != nil {
		t.Fatal(err)
	}
	items := c.Items()
	r, err := items[len(items)-1].Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the backend waits for us for longer than the limit", func() bool {
		return server.Value(t, "postgres", `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'holdfast _%'
			AND wait_event = 'ClientWrite' AND clock_timestamp() - query_start > '1 s')`) == "t"
	})
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Error(err)
	}
	if err := errors.Join(r.Close(), c.Close()); err != nil {
		t.Error(err)
	}
}

// TestBusyServerIsNoStall waits for a query that takes longer than the stall limit.
func TestBusyServerIsNoStall(t *testing.T) {
	server := reader(t, `CREATE FUNCTION slow() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_catalog.pg_sleep(2); RETURN 1; END'`,
		`CREATE TABLE base (id int); INSERT INTO base VALUES (1)`,
		`CREATE TABLE slow_table (id int)`)
	blocker := server.Connect(t, "app")
	for _, sql := range []string{`BEGIN`, `LOCK TABLE slow_table`} {
		if _, err := blocker.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	opt := options(t, server.URL("app"))
	opt.Stall = 500 * time.Millisecond
	done := make(chan error, 1)
	go func() {
		_, err := tryCapture(t.Context(), opt)
		done <- err
	}()
	eventually(t, "the dump waits for longer than the limit", func() bool {
		return server.Value(t, "postgres", `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'holdfast _%'
			AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > '2 s')`) == "t"
	})
	if _, err := blocker.Exec(t.Context(), `COMMIT`); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestClientOlderThanTheServer(t *testing.T) {
	server := testbed.Postgres(t, 18, testbed.ServerOptions{})
	opt := postgres.Options{Name: "app", URL: holdfast.NewSecret(server.URL("postgres"))}
	_, err := tryCapture(t.Context(), opt)
	mustSay(t, err, "older than the server, which is PostgreSQL 18", "install postgresql-client-18")
}

// TestNewerClientIsTaken backs a server up that has no client of its own version here.
func TestNewerClientIsTaken(t *testing.T) {
	server := testbed.Postgres(t, 16, testbed.ServerOptions{})
	server.Exec(t, "postgres", `CREATE TABLE t (id int)`)
	opt := options(t, server.URL("postgres"))
	stored := capture(t, opt)
	if client := stored.Facts.Properties["client"]; !strings.HasPrefix(client, "pg_dump 17.") {
		t.Errorf("client %q, want the nearest newer one", client)
	}
	seen := &events{}
	p := open(t, postgres.Target{URL: holdfast.NewSecret(server.URL("postgres")), Database: "back"}, seen.observe)
	bring(t, p, stored)
	if !strings.Contains(seen.warnings(), "SET transaction_timeout") {
		t.Errorf("the removed setting is not listed: %q", seen.warnings())
	}
}

func TestCancelledDump(t *testing.T) {
	server := reader(t, bigTable)
	ctx, cancel := context.WithCancelCause(t.Context())
	c, err := postgres.New(options(t, server.URL("app"))).Capture(t.Context(), ignore)
	if err != nil {
		t.Fatal(err)
	}
	items := c.Items()
	r, err := items[len(items)-1].Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
		t.Fatal(err)
	}
	cancel(holdfast.ErrInterrupted)
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, holdfast.ErrInterrupted) {
		t.Errorf("read: %v", err)
	}
	if err := r.Close(); !errors.Is(err, holdfast.ErrInterrupted) {
		t.Errorf("close: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("close the capture: %v", err)
	}
	eventually(t, "no session of ours is left", func() bool {
		return server.Value(t, "postgres", `SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'holdfast%'`) == "0"
	})
}

// TestPasswordStaysSecret looks at the arguments of every process while a dump runs.
func TestPasswordStaysSecret(t *testing.T) {
	const password = "pä55 w:rd/@%'\\"
	server := testbed.Postgres(t, 15, testbed.ServerOptions{Password: password})
	server.Exec(t, "postgres", bigTable)
	opt := options(t, server.TCPURL("postgres"))
	c, err := postgres.New(opt).Capture(t.Context(), ignore)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	items := c.Items()
	r, err := items[len(items)-1].Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	for _, path := range paths {
		line, _ := os.ReadFile(path) // processes come and go
		seen = seen || strings.Contains(string(line), "--snapshot=")
		if strings.Contains(string(line), password) || strings.Contains(string(line), url.QueryEscape(password)) {
			t.Errorf("%s shows the password: %q", path, line)
		}
	}
	if !seen {
		t.Error("no pg_dump was seen")
	}
	server.Kill(t)
	_, err = io.Copy(io.Discard, r)
	if text := fmt.Sprintf("%v %#v %s", err, err, holdfast.Hint(err)); strings.Contains(text, password) {
		t.Errorf("an error shows the password: %s", text)
	}
	r.Close()
	if text := fmt.Sprintf("%v %+v %#v", opt, opt, opt); strings.Contains(text, password) {
		t.Errorf("the options show the password: %s", text)
	}
}
