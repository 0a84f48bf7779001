package pgdump_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgdump"
	"holdfast/internal/testbed"
)

// atomic is only understood since PostgreSQL 14.
const atomic = `CREATE FUNCTION public.atomic(a integer) RETURNS integer LANGUAGE sql BEGIN ATOMIC
	SELECT CASE WHEN a > 1 THEN 2 ELSE CASE a WHEN 3 THEN 4 END END AS "end"; SELECT 5; END;
CREATE PROCEDURE public."Begin"() BEGIN ATOMIC SELECT ';'; END;
CREATE FUNCTION public.short(a integer) RETURNS integer RETURN CASE WHEN a = 1 THEN 2 ELSE 3 END;`

func run(t *testing.T, stdin io.Reader, program string, args ...string) []byte {
	t.Helper()
	var out, messages bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &messages
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s", filepath.Base(program), err, messages.String())
	}
	return out.Bytes()
}

// TestRealServers dumps a database of nasty things, restores it through a Filter, and dumps the result.
func TestRealServers(t *testing.T) {
	nasty, err := os.ReadFile("testdata/nasty.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, major := range testbed.Majors() {
		t.Run(strconv.Itoa(major), func(t *testing.T) { roundTrip(t, major, "on", string(nasty)) })
	}
	t.Run("15 without conforming strings", func(t *testing.T) { roundTrip(t, 15, "off", string(nasty)) })
}

func roundTrip(t *testing.T, major int, conforming, nasty string) {
	server := testbed.Postgres(t, major, testbed.ServerOptions{})
	client := func(name string) string { return filepath.Join(testbed.ClientDir(t, major), name) }
	server.Exec(t, "postgres", "CREATE DATABASE a TEMPLATE template0", "CREATE DATABASE b TEMPLATE template0")
	server.Exec(t, "a", nasty)
	if major >= 14 {
		server.Exec(t, "a", atomic)
	}
	server.Exec(t, "postgres", "ALTER DATABASE a SET standard_conforming_strings = "+conforming,
		"ALTER DATABASE b SET standard_conforming_strings = "+conforming)

	dump := run(t, nil, client("pg_dump"), server.URL("a"))
	stored := factsOf(t, string(dump))
	checkCounts(t, server, stored)
	scansAsRead(t, string(dump))

	filter := pgdump.NewFilter(bytes.NewReader(dump),
		pgdump.Rules{DropSettings: []string{"transaction_timeout"}, DropTablespaces: true})
	run(t, filter, client("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", server.URL("b"))
	restored := factsOf(t, string(run(t, nil, client("pg_dump"), server.URL("b"))))
	for _, d := range source.Compare(stored, restored) {
		if d.Fails() {
			t.Errorf("after the restore: %s", d)
		}
	}

	server.Exec(t, "b", "UPDATE public.users SET email = 'x' WHERE id = 7", "ALTER TABLE public.empty OWNER TO app",
		"SELECT lo_put(4711, 5, '\\x01')", "SELECT nextval('public.empty_b_seq')")
	var failing []string
	for _, d := range source.Compare(stored, factsOf(t, string(run(t, nil, client("pg_dump"), server.URL("b"))))) {
		if d.Fails() {
			failing = append(failing, d.Class+" "+d.Name)
		}
	}
	want := "large object 4711, schema SEQUENCE public.empty_b_seq, schema TABLE public.empty, sequence public.empty_b_seq, table public.users"
	// The name of a default value's entry has its table's owner too.
	failing = without(failing, "schema DEFAULT public.empty b", "schema SEQUENCE OWNED BY public.empty_b_seq")
	if got := strings.Join(failing, ", "); got != want {
		t.Errorf("after damage the facts that differ are\n%s\nwant\n%s", got, want)
	}

	globals, err := pgdump.ParseGlobals(bytes.NewReader(run(t, nil, client("pg_dumpall"), "--globals-only", "-d", server.URL("postgres"))))
	if err != nil {
		t.Fatal(err)
	}
	checkGlobals(t, globals)
}

func without(list []string, drop ...string) []string {
	var kept []string
	for _, text := range list {
		if !strings.Contains(strings.Join(drop, "\n"), text) {
			kept = append(kept, text)
		}
	}
	return kept
}

// checkCounts compares facts with what the server itself counts.
func checkCounts(t *testing.T, server *testbed.Server, facts []source.Fact) {
	t.Helper()
	tables := 0
	for _, f := range facts {
		var query, got string
		switch f.Class {
		case "table":
			tables++
			query, got = "SELECT count(*) FROM ONLY "+f.Name, strconv.FormatInt(f.Rows, 10)
		case "large object":
			query, got = "SELECT length(lo_get("+f.Name+")) || ' ' || encode(sha256(lo_get("+f.Name+")), 'hex')",
				strconv.FormatInt(f.Bytes, 10)+" "+f.Digest
		case "sequence":
			query, got = "SELECT last_value || ', ' || is_called FROM "+f.Name, f.Text
		default:
			continue
		}
		if want := server.Value(t, "a", query); got != want {
			t.Errorf("%s %s: %s, the server says %s", f.Class, f.Name, got, want)
		}
	}
	if want := server.Value(t, "a", "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)'"); strconv.Itoa(tables) != want {
		t.Errorf("%d tables, the server says %s", tables, want)
	}
	for class, query := range map[string]string{
		"TABLE ":             "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)'",
		"FUNCTION ":          "SELECT count(*) FROM pg_proc WHERE prokind = 'f' AND pronamespace = 'public'::regnamespace",
		"VIEW ":              "SELECT count(*) FROM pg_class WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace",
		"MATERIALIZED VIEW ": "SELECT count(*) FROM pg_class WHERE relkind = 'm'",
		"INDEX ":             "SELECT 1",
		"POLICY ":            "SELECT 1",
	} {
		got := 0
		for _, f := range facts {
			// Other kinds begin with the same word: TABLE ATTACH, MATERIALIZED VIEW DATA.
			rest, ok := strings.CutPrefix(f.Name, class)
			if f.Class == "schema" && ok && !strings.HasPrefix(rest, "ATTACH ") && !strings.HasPrefix(rest, "DATA ") {
				got++
			}
		}
		if want := server.Value(t, "a", query); strconv.Itoa(got) != want {
			t.Errorf("%d entries of %s, the server says %s", got, class, want)
		}
	}
}

func checkGlobals(t *testing.T, g pgdump.Globals) {
	t.Helper()
	var names []string
	for _, r := range g.Roles {
		names = append(names, r.Name)
		if r.Create != "CREATE ROLE "+r.Name+";" && r.Create != "CREATE ROLE "+pgdump.QuoteIdent(r.Name)+";" {
			t.Errorf("role %s is made by %q", r.Name, r.Create)
		}
		if r.Name == "app" && (len(r.Alter) != 2 || r.Alter[1] != "COMMENT ON ROLE app IS 'x; -- y';") {
			t.Errorf("role app is altered by %q", r.Alter)
		}
	}
	if got := strings.Join(names, ", "); got != `Odd "Role; --, app, postgres, reader` {
		t.Errorf("roles %s", got)
	}
	if len(g.Memberships) != 2 || g.Memberships[0].Role != "app" || g.Memberships[1].Role != "app" ||
		g.Memberships[0].Member == g.Memberships[1].Member {
		t.Errorf("memberships %+v", g.Memberships)
	}
	if len(g.Settings) != 1 || g.Settings[0].Role != `Odd "Role; --` ||
		g.Settings[0].SQL != `ALTER ROLE "Odd ""Role; --" SET search_path TO 'a', 'B c';` {
		t.Errorf("settings %+v", g.Settings)
	}
	if len(g.Preamble) != 3 || len(g.Tablespaces) != 0 || len(g.Other) != 0 {
		t.Errorf("preamble %q, tablespaces %+v, other %q", g.Preamble, g.Tablespaces, g.Other)
	}
}
