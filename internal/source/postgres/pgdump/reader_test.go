package pgdump_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgdump"
)

const (
	head = "--\n-- PostgreSQL database dump\n--\n\n"
	tail = "--\n-- PostgreSQL database dump complete\n--\n\n"
)

// named is the comment above an entry.
func named(kind, name string) string {
	return fmt.Sprintf("--\n-- Name: %s; Type: %s; Schema: public; Owner: app\n--\n\n", name, kind)
}

func small(t testing.TB) string {
	t.Helper()
	dump, err := os.ReadFile("testdata/small.sql")
	if err != nil {
		t.Fatal(err)
	}
	return string(dump)
}

// read passes all of r through a Reader.
func read(r io.Reader) (string, []source.Fact, error) {
	reader := pgdump.NewReader(r)
	passed, err := io.ReadAll(reader)
	if err != nil {
		return string(passed), nil, err
	}
	facts, err := reader.Facts()
	return string(passed), facts, err
}

// factsOf reads a dump whole and byte by byte, which must not differ.
func factsOf(t *testing.T, dump string) []source.Fact {
	t.Helper()
	passed, facts, err := read(strings.NewReader(dump))
	if err != nil {
		t.Fatal(err)
	}
	if passed != dump {
		t.Error("the bytes that passed are not those that came")
	}
	_, bytewise, err := read(iotest.OneByteReader(strings.NewReader(dump)))
	if err != nil {
		t.Fatalf("byte by byte: %v", err)
	}
	if !reflect.DeepEqual(facts, bytewise) {
		t.Errorf("facts depend on how bytes come:\n%v\n%v", facts, bytewise)
	}
	return facts
}

// only returns the facts of one class, without definitions' digests.
func only(facts []source.Fact, class string) []source.Fact {
	var list []source.Fact
	for _, f := range facts {
		if f.Class == class {
			list = append(list, f)
		}
	}
	return list
}

func rowSum(rows ...string) string {
	var set source.RowSet
	for _, row := range rows {
		set.Add([]byte(row))
	}
	return set.Digest()
}

func hexSum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestSmallDump(t *testing.T) {
	got := factsOf(t, small(t))
	definition := "CREATE TABLE public.t ( id integer DEFAULT 1 NOT NULL, note text );\nALTER TABLE public.t OWNER TO app;\n"
	want := []source.Fact{
		{Class: "definition", Name: "TABLE public.t", Rule: source.Text, Digest: hexSum(definition)},
		{Class: "schema", Name: "TABLE public.t", Rule: source.Exact, Text: "owner=app; cols: id integer, note text"},
		{Class: "sequence", Name: "public.s", Rule: source.Exact, Text: "42, true"},
		{Class: "table", Name: "public.t", Rule: source.Exact, Rows: 2, Bytes: 8, Digest: rowSum("1\ta", `2`+"\t"+`\\.`), Text: "(id, note)"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestFactsByClass(t *testing.T) {
	zero := rowSum()
	for _, c := range []struct {
		name, dump, class string
		want              []source.Fact
	}{
		{"quoted names", "COPY public.\"a\n\"\" (x) FROM stdin;\" (\"c, )\nFROM stdin;\", b) FROM stdin;\n1\t2\n\\.\n", "table",
			[]source.Fact{{Name: "public.\"a\n\"\" (x) FROM stdin;\"", Rows: 1, Bytes: 3, Digest: rowSum("1\t2"),
				Text: "(\"c, )\nFROM stdin;\", b)"}}},
		{"no columns", "COPY public.t  FROM stdin;\n\n\n\\.\n", "table",
			[]source.Fact{{Name: "public.t", Rows: 2, Digest: rowSum("", "")}}},
		{"empty", "COPY public.t (a) FROM stdin;\n\\.\n", "table",
			[]source.Fact{{Name: "public.t", Digest: zero, Text: "(a)"}}},
		{"same name twice", "COPY public.t  FROM stdin;\n\\.\nCOPY public.t  FROM stdin;\nx\n\\.\n", "table",
			[]source.Fact{{Name: "public.t", Digest: zero}, {Name: "public.t#2", Rows: 1, Bytes: 1, Digest: rowSum("x")}}},
		{"rows that look like ends", "COPY public.t (a) FROM stdin;\n\\\\.\n .\nx\\.\n-- Name: x\n\\.\n", "table",
			[]source.Fact{{Name: "public.t", Rows: 4, Bytes: 18, Text: "(a)", Digest: rowSum(`\\.`, " .", `x\.`, "-- Name: x")}}},
		{"sequence", "SELECT pg_catalog.setval('public.\"it''s\"', -7, false);\n", "sequence",
			[]source.Fact{{Name: `public."it's"`, Text: "-7, false"}}},
		{"sequence with escapes", "SET standard_conforming_strings = off;\nSELECT pg_catalog.setval('public.\"a\\\\''b\"', 1, true);\n", "sequence",
			[]source.Fact{{Name: `public."a\'b"`, Text: "1, true"}}},
		{"extension", "CREATE EXTENSION IF NOT EXISTS \"uuid-ossp\" WITH SCHEMA public;\nCREATE EXTENSION hstore;\n", "extension",
			[]source.Fact{{Name: "hstore"}, {Name: "uuid-ossp"}}},
		{"large objects", "BEGIN;\n\nSELECT pg_catalog.lo_open('5', 131072);\nSELECT pg_catalog.lowrite(0, '\\x6162');\n" +
			"SELECT pg_catalog.lowrite(0, '\\x63');\nSELECT pg_catalog.lo_close(0);\n\nSELECT pg_catalog.lo_open('6', 131072);\n" +
			"SELECT pg_catalog.lo_close(0);\n\nCOMMIT;\n", "large object",
			[]source.Fact{{Name: "5", Bytes: 3, Digest: hexSum("abc")}, {Name: "6", Digest: hexSum("")}}},
		{"large object with escapes", "SET standard_conforming_strings = off;\nSELECT pg_catalog.lo_open('5', 131072);\n" +
			"SELECT pg_catalog.lowrite(0, E'\\\\x6162');\nSELECT pg_catalog.lowrite(0, '\\\\x63');\nSELECT pg_catalog.lo_close(0);\n", "large object",
			[]source.Fact{{Name: "5", Bytes: 3, Digest: hexSum("abc")}}},
		{"grants are a set", named("ACL", "TABLE t") + "GRANT SELECT ON TABLE public.t TO z;\nSET SESSION AUTHORIZATION b;\n" +
			"GRANT SELECT ON TABLE public.t TO a;\nRESET SESSION AUTHORIZATION;\nREVOKE  ALL ON TABLE public.t\nFROM \"a  b\";\n", "schema",
			[]source.Fact{{Name: "ACL public.TABLE t", Text: "owner=app; GRANT SELECT ON TABLE public.t TO a by b; " +
				"GRANT SELECT ON TABLE public.t TO z; REVOKE ALL ON TABLE public.t FROM \"a  b\""}}},
		{"equal names are ordered by content", named("TABLE", "t") + "CREATE TABLE public.t (\n    b text\n);\n" +
			named("TABLE", "t") + "CREATE TABLE public.t (\n    a text\n);\n", "schema",
			[]source.Fact{{Name: "TABLE public.t", Text: "owner=app; cols: a text"}, {Name: "TABLE public.t#2", Text: "owner=app; cols: b text"}}},
		{"names like headers", named("TABLE", "x; Type: SEQUENCE SET; Schema: s; Owner: o"), "schema",
			[]source.Fact{{Name: "TABLE public.x; Type: SEQUENCE SET; Schema: s; Owner: o", Text: "owner=app"}}},
		{"without a schema", "-- Name: app; Type: SCHEMA; Schema: -; Owner: o; Tablespace: \nCREATE SCHEMA app;\n", "schema",
			[]source.Fact{{Name: "SCHEMA app", Text: "owner=o"}}},
		{"data is no inventory", named("SEQUENCE SET", "s") + named("BLOBS", "BLOBS") + named("STATISTICS DATA", "t"), "schema", nil},
		{"names in another encoding", named("TABLE", "M\xfcll") + named("TABLE", "M\xe9ll\ufffd"), "schema",
			[]source.Fact{{Name: `TABLE public.M\xe9ll` + "\ufffd", Text: "owner=app"}, {Name: `TABLE public.M\xfcll`, Text: "owner=app"}}},
		{"materialized view", named("MATERIALIZED VIEW", "m") + "CREATE MATERIALIZED VIEW public.m AS\n SELECT 1;\n", "materialized view",
			[]source.Fact{{Name: "public.m", Rule: source.Listed, Text: "refreshed, not proven"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.want {
				c.want[i].Class = c.class
				if c.want[i].Rule == "" {
					c.want[i].Rule = source.Exact
				}
			}
			if got := only(factsOf(t, head+c.dump+tail), c.class); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, c.want)
			}
		})
	}
}

// TestLargeObjectsOfEveryClient has what pg_dump writes of two large objects before version 17, and from then on.
func TestLargeObjectsOfEveryClient(t *testing.T) {
	entry := func(name, kind, statements string) string {
		return fmt.Sprintf("--\n-- Name: %s; Type: %s; Schema: -; Owner: app\n--\n\n%s\n\n", name, kind, statements)
	}
	one := func(oid string) string {
		return entry(oid, "BLOB", "SELECT pg_catalog.lo_create('"+oid+"');\n\n\nALTER LARGE OBJECT "+oid+" OWNER TO app;")
	}
	const grants = "GRANT SELECT ON LARGE OBJECT 1 TO reader;\nGRANT SELECT ON LARGE OBJECT 2 TO reader;"
	first, second, _ := strings.Cut(grants, "\n")
	older := head + one("1") + one("2") + entry("LARGE OBJECT 1", "ACL", first) + entry("LARGE OBJECT 2", "ACL", second) + tail
	newer := head + entry("1..2", "BLOB METADATA", "SELECT pg_catalog.lo_create('1');\nSELECT pg_catalog.lo_create('2');\n"+
		"\nALTER LARGE OBJECT 1 OWNER TO app;\nALTER LARGE OBJECT 2 OWNER TO app;") + entry("LARGE OBJECTS 1..2", "ACL", grants) + tail
	stored, restored := factsOf(t, older), factsOf(t, newer)
	if len(only(stored, "schema")) != 4 {
		t.Errorf("inventory: %v", only(stored, "schema"))
	}
	for _, difference := range source.Compare(stored, restored) {
		t.Errorf("%v", difference)
	}
	if differences := source.Compare(stored, factsOf(t, strings.ReplaceAll(newer, "2 TO reader", "2 TO other"))); len(differences) == 0 {
		t.Error("another grantee goes unseen")
	}
}

func TestColumns(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"CREATE TABLE public.t (\n);", ""},
		{"CREATE UNLOGGED TABLE public.t (\n    a character varying(20)[] DEFAULT ARRAY['x,)'::text] NOT NULL,\n    b numeric(10,2) GENERATED ALWAYS AS ((1 + 2)) STORED\n);",
			"a character varying(20)[], b numeric(10,2)"},
		{"CREATE TABLE public.t (\n    \"CONSTRAINT\" timestamp(3) without time zone,\n    CONSTRAINT c CHECK ((\"CONSTRAINT\" > now())),\n    NOT NULL x\n);",
			`"CONSTRAINT" timestamp(3) without time zone`},
		{"CREATE TABLE public.t (\n    a public.options OPTIONS (x 'y') NOT NULL,\n    b \"My,Type\" COLLATE pg_catalog.\"C\",\n    c public.\"default\" CONSTRAINT n NOT NULL\n);",
			`a public.options, b "My,Type", c public."default"`},
		{"CREATE FOREIGN TABLE public.t (\n    a integer OPTIONS (n 'x')\n)\nSERVER s;", "a integer"},
		{"CREATE TABLE public.t OF public.ct (\n    a WITH OPTIONS NOT NULL\n);", "OF public.ct"},
		{"CREATE TABLE public.t (\n    a integer\n)\nPARTITION BY RANGE (a);", "a integer"},
		{"CREATE TABLE public.t (\n    generated text,\n    options text\n)\nINHERITS (public.u);", "generated text, options text"},
	} {
		want := "owner=app"
		if c.want != "" {
			want += "; cols: " + c.want
		}
		facts := only(factsOf(t, head+named("TABLE", "t")+c.sql+"\n\n\n"+tail), "schema")
		if len(facts) != 1 || facts[0].Text != want {
			t.Errorf("%s\ngot  %+v\nwant %q", c.sql, facts, want)
		}
	}
}

// What looks like data, comments or commands within a definition is none: each of these is one entry with one
// definition, followed by one more.
func TestOneStatement(t *testing.T) {
	const fake = "\nCOPY x FROM stdin;\n1\n\\.\n\n-- Name: f; Type: TABLE; Schema: s; Owner: o\n-- PostgreSQL database dump complete\n\\! id\n"
	for _, sql := range []string{
		"CREATE FUNCTION public.f() RETURNS text AS $$" + fake + "$$;",
		"CREATE FUNCTION public.f() RETURNS text AS $_$" + fake + "$$ $__$ $_ $$_$;",
		"CREATE FUNCTION public.f() RETURNS text AS $xé1$" + fake + "$xé$ $xé1$;",
		"COMMENT ON TABLE public.t IS 'it''s" + fake + "';",
		"COMMENT ON TABLE public.t IS E'\\\\ \\' " + fake + "';",
		"COMMENT ON TABLE public.\"t" + fake + "\" IS NULL;",
		"CREATE VIEW public.v AS /* ' /* " + fake + " */ \" */ SELECT 1;",
		"CREATE VIEW public.v AS -- ' \" $$\n SELECT 1;",
		"CREATE FUNCTION public.replace(a integer) RETURNS integer\n    BEGIN ATOMIC\n SELECT CASE WHEN 1>2 THEN CASE a WHEN 1 THEN 2 END END;\n SELECT 'x;';\nEND;",
		"CREATE OR REPLACE PROCEDURE public.p()\n    BEGIN ATOMIC\n SELECT 1;\n SELECT \"end\", (CASE WHEN a THEN b END);\nEND;",
		"CREATE RULE r AS ON INSERT TO public.v DO INSTEAD ( SELECT 1;\n SELECT 2;\n);",
		"CREATE FUNCTION public.f(integer) RETURNS integer AS 'SELECT $1 - $2/2' || a$b$ || 1e5;",
	} {
		facts := factsOf(t, head+named("FUNCTION", "f")+sql+"\n\n\n"+named("SCHEMA", "z")+"CREATE SCHEMA z;\n"+tail)
		var names []string
		for _, f := range facts {
			names = append(names, f.Class+" "+f.Name)
		}
		want := []string{"definition FUNCTION public.f", "definition SCHEMA public.z", "schema FUNCTION public.f", "schema SCHEMA public.z"}
		if !reflect.DeepEqual(names, want) {
			t.Errorf("%s\ngot  %q\nwant %q", sql, names, want)
			continue
		}
		if last := facts[1].Digest; last != hexSum("CREATE SCHEMA z;\n") {
			t.Errorf("%s\nswallowed the next statement", sql)
		}
	}
}

func TestStringsWithoutConformingStrings(t *testing.T) {
	sql := "SET standard_conforming_strings = off;\n" + named("COMMENT", "c") + "COMMENT ON TABLE t IS 'a\\'; -- b';\n"
	if got := only(factsOf(t, head+sql+tail), "schema"); len(got) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestDefinitionIgnoresLayout(t *testing.T) {
	digest := func(sql string) string {
		return only(factsOf(t, head+named("VIEW", "v")+sql+"\n"+tail), "definition")[0].Digest
	}
	plain := digest("CREATE VIEW v AS SELECT 'a  b' AS \"c  d\", $$e  f$$;")
	if digest("CREATE   VIEW\n\tv AS -- so\n /* and so */ SELECT 'a  b' AS \"c  d\", $$e  f$$;\nSET default_tablespace = x;") != plain {
		t.Error("layout, comments or settings changed the digest")
	}
	for _, other := range []string{"'a b' AS \"c  d\", $$e  f$$", "'a  b' AS \"c d\", $$e  f$$", "'a  b' AS \"c  d\", $$e f$$"} {
		if digest("CREATE VIEW v AS SELECT "+other+";") == plain {
			t.Errorf("%s: whitespace within quotes did not change the digest", other)
		}
	}
}

func TestLongUnits(t *testing.T) {
	long := strings.Repeat("x; ' \\.\n", 3<<20)
	t.Run("function", func(t *testing.T) {
		_, facts, err := read(strings.NewReader(head + named("FUNCTION", "f") + "CREATE FUNCTION f() AS $$" + long + "$$;\n" + tail))
		if err != nil {
			t.Fatal(err)
		}
		if want := hexSum("CREATE FUNCTION f() AS $$" + long + "$$;"); facts[0].Digest != want {
			t.Errorf("got %+v, want %s", facts[0], want)
		}
	})
	t.Run("row", func(t *testing.T) {
		row := strings.Repeat("0123456789abcdef", 4<<20)
		dump := head + "COPY t (a) FROM stdin;\nx\n" + row + "\ny\n\\.\n" + tail
		_, facts, err := read(iotest.HalfReader(strings.NewReader(dump)))
		if err != nil {
			t.Fatal(err)
		}
		if f := facts[0]; f.Rows != 3 || f.Bytes != int64(len(row)+2) || f.Digest != rowSum("x", row, "y") {
			t.Errorf("got %+v", f)
		}
	})
	t.Run("grant", func(t *testing.T) {
		_, _, err := read(strings.NewReader(head + "GRANT SELECT ON \"" + long + "\" TO a;\n" + tail))
		if !errors.Is(err, pgdump.ErrMalformed) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("copy", func(t *testing.T) {
		dump := head + "COPY \"" + long + "\" FROM stdin;\n\\.\n" + tail
		_, _, err := read(strings.NewReader(dump))
		if !errors.Is(err, pgdump.ErrMalformed) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTruncated(t *testing.T) {
	for name, dump := range map[string]string{"restricted": small(t), "plain": head + "SELECT 1;\n" + tail} {
		for n := range len(dump) {
			_, facts, err := read(strings.NewReader(dump[:n]))
			if !errors.Is(err, pgdump.ErrTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) || facts != nil {
				t.Fatalf("%s: the first %d bytes of %d gave %v", name, n, len(dump), err)
			}
			if _, err := io.ReadAll(pgdump.NewFilter(strings.NewReader(dump[:n]), pgdump.Rules{DropRestrict: true})); !errors.Is(err, pgdump.ErrTruncated) {
				t.Fatalf("%s: the first %d bytes of %d gave the filter %v", name, n, len(dump), err)
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, c := range []struct{ name, dump, shows string }{
		{"shell command", head + "\\! rm -rf secret\n" + tail, `line 5: meta-command "\\!"`},
		{"command within a statement", head + "SELECT 1\n\\gexec\n" + tail, "line 6"},
		{"command behind a statement", head + "SELECT 1; \\g\n" + tail, "line 5"},
		{"a routine that psql cannot read", head + "CREATE FUNCTION begin() AS $$$$;\nCOPY t (a) FROM stdin;\n\\.\n" + tail, "begin"},
		{"connect with a command", head + "\\connect `id`\n" + tail, `\\connect`},
		{"connect while restricted", head + "\\restrict a\n\\connect b\n\\unrestrict a\n" + tail, `\\connect`},
		{"another token", head + "\\restrict a\n\\unrestrict b\n" + tail, "match"},
		{"a row without its COPY", head + "\\N\tsecret\n" + tail, `"\\N"`},
		{"something behind the trailer", head + tail + "SELECT 1;\n\n", "trailer"},
		{"a command behind the trailer", head + tail + "\\connect x\n\n", `\\connect`},
		{"a COPY with options", head + "COPY t FROM stdin WITH csv;\n\\.\n" + tail, "COPY"},
		{"a COPY from a program", head + "COPY t FROM PROGRAM 'secret';\n" + tail, "COPY"},
		{"a COPY that is not alone", head + "COPY t (a) FROM stdin; SELECT 1;\n\\.\n" + tail, "alone"},
		{"an end with something behind it", head + "COPY t (a) FROM stdin;\n\\.secret\n\\.\n" + tail, "line 6"},
		{"an end with carriage return", head + "COPY t (a) FROM stdin;\n\\.\r\n\\.\n" + tail, "line 6"},
		{"an encoding with backslashes in letters", head + "SET client_encoding = 'SJIS';\n" + tail, "encoding"},
		{"large object without lo_open", head + "SELECT pg_catalog.lowrite(0, '\\x00');\n" + tail, "large object"},
		{"large object of no digits", head + "SELECT pg_catalog.lo_open('1', 1);\nSELECT pg_catalog.lowrite(0, '\\xzz');\n" + tail, "line 6"},
		{"sequence without value", head + "SELECT pg_catalog.setval('secret');\n" + tail, "setval"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.dump), iotest.OneByteReader(strings.NewReader(c.dump))} {
				_, _, err := read(r)
				if !errors.Is(err, pgdump.ErrMalformed) || !strings.Contains(err.Error(), c.shows) {
					t.Errorf("got %v, want one that shows %q", err, c.shows)
				}
				if err != nil && strings.Contains(err.Error(), "secret") {
					t.Errorf("the error shows data: %v", err)
				}
			}
		})
	}
}

func TestConnect(t *testing.T) {
	dump := head + "\\restrict a\n\nCREATE DATABASE x;\n\\unrestrict a\n\\connect x\n\\restrict a\n\nSELECT 1;\n" +
		"\\unrestrict a\n\\connect -reuse-previous=on \"dbname='a b'\"\n" + tail
	if facts := factsOf(t, dump); len(facts) != 0 {
		t.Errorf("got %+v", facts)
	}
}

func TestFactsBeforeTheEnd(t *testing.T) {
	r := pgdump.NewReader(strings.NewReader(small(t)))
	if _, err := r.Facts(); err == nil {
		t.Error("facts of a dump that was not read")
	}
	if _, err := r.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Facts(); err == nil {
		t.Error("facts of a dump that was read in part")
	}
}

func TestErrorsOfTheReaderBelow(t *testing.T) {
	cause := errors.New("gone")
	_, _, err := read(io.MultiReader(strings.NewReader(small(t)[:100]), iotest.ErrReader(cause)))
	if !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	// Data that comes together with its end must count.
	if _, facts, err := read(iotest.DataErrReader(strings.NewReader(small(t)))); err != nil || len(facts) != 4 {
		t.Errorf("got %v, %v", facts, err)
	}
}

// wrapped returns the fuzzed bytes as they are and as the middle of a dump.
func wrapped(fuzzed []byte) [][]byte {
	return [][]byte{fuzzed, slices.Concat([]byte(head), fuzzed, []byte("\n"), []byte(tail))}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(small(f)))
	f.Add([]byte("SET standard_conforming_strings = off;\n" + named("ACL", "t") + "GRANT a ON \"b\" TO 'c\\'';"))
	f.Add([]byte("CREATE FUNCTION f() BEGIN ATOMIC CASE $a$;$a$ END; E'\\''; END;\n/* /* */ */ -- x\nCOPY t (a) FROM stdin;\n1\n\\."))
	f.Add([]byte(named("TABLE", "t") + "CREATE TABLE t (\n    a text DEFAULT 'x',\n    CONSTRAINT c CHECK (a)\n);\nSELECT pg_catalog.setval('s', 1, true);"))
	f.Add([]byte("SELECT pg_catalog.lo_open('5', 1);\nSELECT pg_catalog.lowrite(0, '\\x61');\nSELECT pg_catalog.lo_close(0);\nCREATE EXTENSION e;"))
	f.Fuzz(func(t *testing.T, fuzzed []byte) {
		for _, dump := range wrapped(fuzzed) {
			passed, facts, err := read(bytes.NewReader(dump))
			if err == nil && passed != string(dump) {
				t.Error("the bytes that passed are not those that came")
			}
			_, bytewise, bytewiseErr := read(iotest.OneByteReader(bytes.NewReader(dump)))
			if (err == nil) != (bytewiseErr == nil) || err != nil && err.Error() != bytewiseErr.Error() {
				t.Errorf("at once: %v, byte by byte: %v", err, bytewiseErr)
			}
			if !reflect.DeepEqual(facts, bytewise) {
				t.Errorf("at once: %v, byte by byte: %v", facts, bytewise)
			}
			if len(source.Compare(facts, facts)) > 0 {
				t.Error("facts share a name")
			}
		}
	})
}
