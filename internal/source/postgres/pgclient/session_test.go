package pgclient_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/source/postgres/pgclient"
	"holdfast/internal/testbed"
)

// params lead to a database of a throwaway server.
func params(t testing.TB, server *testbed.Server, database string) pgclient.Params {
	t.Helper()
	p, err := pgclient.Resolve(holdfast.NewSecret(server.URL(database)), holdfast.Secret{}, map[string]string{"HOME": t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ways opens a session in each way there is on this machine: by the protocol, and by each psql.
func ways(t testing.TB, p pgclient.Params) map[string]func(ctx context.Context) (pgclient.Session, error) {
	t.Helper()
	host := pgclient.NewHost(nil, "")
	all := map[string]func(context.Context) (pgclient.Session, error){"protocol": func(ctx context.Context) (pgclient.Session, error) {
		s, _, err := host.Dial(ctx, p)
		return s, err
	}}
	for _, major := range []int{15, 17, 18} {
		program := pgclient.Program{Path: filepath.Join(testbed.ClientDir(t, major), "psql"), Major: major}
		all[fmt.Sprintf("psql %d", major)] = func(ctx context.Context) (pgclient.Session, error) {
			return pgclient.OpenPsql(ctx, host, program, p)
		}
	}
	return all
}

func text(s string) *string { return &s }

// TestSessions runs the same statements in every way and compares.
func TestSessions(t *testing.T) {
	for _, major := range []int{13, 18} {
		server := testbed.Postgres(t, major, testbed.ServerOptions{})
		for name, open := range ways(t, params(t, server, "postgres")) {
			t.Run(fmt.Sprintf("%s on %d", name, major), func(t *testing.T) {
				s, err := open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				hostile := "it's\n\\! touch /tmp/x\n\\.\n:HOME :'HOME' \t\r\n\x01\x7f \"q\" $a$ ; é 漢 \\gexec\n\\echo"
				for _, test := range []struct {
					sql  string
					want pgclient.Rows
				}{
					{`SELECT 1 AS a, NULL AS "b c", '' AS c, true AS d`, pgclient.Rows{Columns: []string{"a", "b c", "c", "d"},
						Values: [][]*string{{text("1"), nil, text(""), text("t")}}}},
					{`SELECT 1 AS a WHERE false`, pgclient.Rows{Columns: []string{"a"}}},
					{`SELECT '' AS a`, pgclient.Rows{Columns: []string{"a"}, Values: [][]*string{{text("")}}}},
					{`VALUES (''), (''), (NULL)`, pgclient.Rows{Columns: []string{"column1"}, Values: [][]*string{{text("")}, {text("")}, {nil}}}},
					{`SELECT ` + pgclient.QuoteLiteral(hostile) + ` AS ` + pgclient.QuoteIdent("h\n'x\\"), pgclient.Rows{
						Columns: []string{"h\n'x\\"}, Values: [][]*string{{text(hostile)}}}},
					{"-- a comment\n/* and /* one */ more */ SELECT 'a' AS a -- end", pgclient.Rows{Columns: []string{"a"}, Values: [][]*string{{text("a")}}}},
					{`CREATE TEMP TABLE t (n int)`, pgclient.Rows{}},
					{`INSERT INTO t SELECT generate_series(1, 3)`, pgclient.Rows{}},
					{`DELETE FROM t WHERE n > 1 RETURNING n`, pgclient.Rows{Columns: []string{"n"}, Values: [][]*string{{text("2")}, {text("3")}}}},
					{`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`, pgclient.Rows{}},
					{`SHOW transaction_isolation`, pgclient.Rows{Columns: []string{"transaction_isolation"}, Values: [][]*string{{text("repeatable read")}}}},
					{`SHOW search_path`, pgclient.Rows{Columns: []string{"search_path"}, Values: [][]*string{{text("")}}}},
					{`COMMIT`, pgclient.Rows{}},
					{`SET standard_conforming_strings = off`, pgclient.Rows{}},
					{`SELECT ` + pgclient.QuoteLiteral(`a\'b`) + ` AS a`, pgclient.Rows{Columns: []string{"a"}, Values: [][]*string{{text(`a\'b`)}}}},
					{`RESET standard_conforming_strings`, pgclient.Rows{}},
				} {
					got, err := s.Query(t.Context(), test.sql)
					if err != nil {
						t.Fatalf("%s: %v", test.sql, err)
					}
					if !reflect.DeepEqual(got, test.want) {
						t.Errorf("%s: %q %s, want %q %s", test.sql, got.Columns, shown(got), test.want.Columns, shown(test.want))
					}
				}
				big, err := pgclient.Strings(t.Context(), s, `SELECT repeat(md5(n::text), 50) FROM generate_series(1, 20000) n`)
				if err != nil || len(big) != 20000 || len(big[19999]) != 1600 {
					t.Errorf("%d long values, %v", len(big), err)
				}
				for _, test := range []struct{ sql, code, message string }{
					{`SELECT 1/0`, "22012", "division by zero"},
					{`SELEKT`, "42601", `syntax error at or near "SELEKT"`},
					{`SELECT nothing()`, "42883", "function nothing() does not exist"},
					{`DO $$ BEGIN RAISE EXCEPTION E'two\nlines %', ':HOME' USING ERRCODE = 'HF001'; END $$`, "HF001", "two\nlines :HOME"},
				} {
					_, err := s.Query(t.Context(), test.sql)
					var refused *pgclient.Error
					if !errors.As(err, &refused) || refused.Code != test.code || refused.Message != test.message {
						t.Errorf("%s: %v", test.sql, err)
					}
				}
				if name != "protocol" { // there a COPY is waited for as long as its context lasts
					if _, err := s.Query(t.Context(), `COPY t FROM STDIN`); err != nil {
						t.Error(err)
					}
				}
				if n, err := pgclient.Strings(t.Context(), s, `SELECT count(*) FROM t`); err != nil || n[0] != "1" {
					t.Errorf("after a COPY %v rows, %v", n, err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if !s.Closed() {
					t.Error("a session that was closed is open")
				}
				if _, err := s.Query(t.Context(), `SELECT 1`); err == nil {
					t.Error("a session that was closed answers")
				}
			})
		}
	}
}

func shown(r pgclient.Rows) string {
	var b strings.Builder
	for _, row := range r.Values {
		for _, v := range row {
			if v == nil {
				b.WriteString("NULL ")
			} else {
				fmt.Fprintf(&b, "%q ", *v)
			}
		}
	}
	return b.String()
}

// eventually polls until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute still not: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestSessionThatIsEnded(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	for name, open := range ways(t, params(t, server, "postgres")) {
		t.Run(name, func(t *testing.T) {
			s, err := open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			pid, err := pgclient.Strings(t.Context(), s, `SELECT pg_backend_pid()::text`)
			if err != nil {
				t.Fatal(err)
			}
			// Of a session that is ended while nobody reads, the next write may fail before the reason is read.
			ended := make(chan error, 1)
			go func() {
				_, err := s.Query(t.Context(), `SELECT pg_sleep(1000)`)
				ended <- err
			}()
			eventually(t, "the statement runs", func() bool {
				return server.Value(t, "postgres", `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = `+pid[0]) == "1"
			})
			server.Exec(t, "postgres", `SELECT pg_terminate_backend(`+pid[0]+`)`)
			err = <-ended
			var refused *pgclient.Error
			if !errors.As(err, &refused) || refused.Code != "57P01" {
				t.Errorf("the end of the session is %v", err)
			}
			if !s.Closed() {
				t.Error("the session is open")
			}
			s.Close() // it has ended by itself
		})
	}
}

func TestCancelledStatement(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	for name, open := range ways(t, params(t, server, "postgres")) {
		t.Run(name, func(t *testing.T) {
			s, err := open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			reason := errors.New("the reason")
			ended := make(chan error, 1)
			go func() {
				_, err := s.Query(ctx, `SELECT pg_sleep(1000)`)
				ended <- err
			}()
			sleeping := func() string {
				return server.Value(t, "postgres", `SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'`)
			}
			eventually(t, "the statement runs", func() bool { return sleeping() == "1" })
			cancel(reason)
			if err := <-ended; err == nil {
				t.Error("a cancelled statement succeeded")
			}
			if !s.Closed() {
				t.Error("the session is open")
			}
			s.Close() // it has ended
			eventually(t, "the statement has ended", func() bool { return sleeping() == "0" })
		})
	}
}

func TestNoWayIn(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{Password: "the-password"})
	server.Exec(t, "postgres", `CREATE ROLE idle NOLOGIN`, `CREATE DATABASE shut ALLOW_CONNECTIONS false`, `CREATE DATABASE private`,
		`REVOKE ALL ON DATABASE private FROM PUBLIC`, `CREATE ROLE guest LOGIN PASSWORD 'guest-password'`)
	for _, test := range []struct {
		name          string
		change        map[string]string
		words         []string
		psqlMayDiffer bool
	}{
		{"wrong password", map[string]string{"password": "not-the-password"}, []string{"password authentication failed", "28P01", "the password of role \"postgres\" is wrong"}, false},
		{"no database", map[string]string{"dbname": "nowhere"}, []string{`database "nowhere" does not exist`, "3D000", "`psql -l` lists"}, false},
		{"no role", map[string]string{"user": "idle", "password": "x"}, []string{`let role "idle" in`}, true},
		{"a database that is shut", map[string]string{"dbname": "shut"}, []string{"not currently accepting connections", "55000"}, false},
		{"no right to connect", map[string]string{"dbname": "private", "user": "guest", "password": "guest-password"}, []string{"permission denied for database", "42501", `GRANT CONNECT ON DATABASE "private" TO "guest"`}, false},
		{"no server", map[string]string{"port": "1"}, []string{"connect to ", "no server answers there"}, false},
	} {
		p, err := pgclient.Resolve(holdfast.NewSecret(server.TCPURL("postgres")), holdfast.Secret{}, map[string]string{"HOME": t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range test.change {
			p[key] = value
		}
		for name, open := range ways(t, p) {
			t.Run(test.name+" by "+name, func(t *testing.T) {
				_, err := open(t.Context())
				if err == nil {
					t.Fatal("let in")
				}
				said := err.Error() + " | " + holdfast.Hint(err)
				for _, word := range test.words {
					if !strings.Contains(said, word) && !test.psqlMayDiffer {
						t.Errorf("%q lacks %q", said, word)
					}
				}
				if strings.Contains(said, "\n") || strings.Contains(said, "-password\"") || strings.Contains(said, "not-the-password") {
					t.Errorf("%q is not one sentence without a secret", said)
				}
			})
		}
	}
}
