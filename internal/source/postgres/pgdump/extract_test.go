package pgdump_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"holdfast/internal/source/postgres/pgdump"
)

// two is the middle of a dump of two tables, one of them partitioned, with all that may concern them.
var two = "SET default_tablespace = '';\n" +
	named("TYPE", "state") + "CREATE TYPE public.state AS ENUM ('a');\nALTER TYPE public.state OWNER TO app;\n" +
	named("TABLE", "a") + "CREATE TABLE public.a (\n    id integer,\n    s public.state\n);\nALTER TABLE ONLY public.a FORCE ROW LEVEL SECURITY;\nALTER TABLE public.a OWNER TO app;\n" +
	named("COMMENT", "TABLE a") + "COMMENT ON TABLE public.a IS 'x';\n" +
	named("TABLE", "p") + "CREATE TABLE public.p (\n    id integer\n)\nPARTITION BY RANGE (id);\n" +
	named("TABLE", "p 1") + "CREATE TABLE public.\"p 1\" (\n    id integer\n);\n" +
	named("TABLE ATTACH", "p 1") + "ALTER TABLE ONLY public.p ATTACH PARTITION public.\"p 1\" FOR VALUES FROM (1) TO (2);\n" +
	named("DEFAULT", "a id") + "ALTER TABLE ONLY public.a ALTER COLUMN id SET DEFAULT 7;\n" +
	"--\n-- Data for Name: a; Type: TABLE DATA; Schema: public; Owner: app\n--\n\nCOPY public.a (id, s) FROM stdin;\n1\ta\n2\ta\n\\.\n\n" +
	"--\n-- Data for Name: p 1; Type: TABLE DATA; Schema: public; Owner: app\n--\n\nCOPY public.\"p 1\" (id) FROM stdin;\n1\n\\.\n\n" +
	named("SEQUENCE SET", "s") + "SELECT pg_catalog.setval('public.s', 42, true);\n" +
	named("BLOB", "7") + "SELECT pg_catalog.lo_create('7');\nALTER LARGE OBJECT 7 OWNER TO app;\n" +
	"SELECT pg_catalog.lo_open('7', 131072);\nSELECT pg_catalog.lowrite(0, '\\x61');\nSELECT pg_catalog.lo_close(0);\n" +
	named("CONSTRAINT", "a a_pkey") + "ALTER TABLE ONLY public.a\n    ADD CONSTRAINT a_pkey PRIMARY KEY (id);\n" +
	named("INDEX", "by_s") + "CREATE INDEX by_s ON public.a USING btree (s);\n" +
	named("TRIGGER", "a t") + "CREATE TRIGGER t AFTER INSERT OR UPDATE OF id ON public.a FOR EACH ROW EXECUTE FUNCTION public.f();\nALTER TABLE public.a DISABLE TRIGGER t;\n" +
	named("FK CONSTRAINT", "p fk") + "ALTER TABLE public.p\n    ADD CONSTRAINT fk FOREIGN KEY (id) REFERENCES public.a(id);\n" +
	named("COMMENT", "CONSTRAINT fk ON p") + "COMMENT ON CONSTRAINT fk ON public.p IS 'x';\n" +
	named("COMMENT", "CONSTRAINT a_pkey ON a") + "COMMENT ON CONSTRAINT a_pkey ON public.a IS 'x';\n" +
	named("POLICY", "a own") + "CREATE POLICY own ON public.a USING (true);\n" +
	named("ROW SECURITY", "a") + "ALTER TABLE public.a ENABLE ROW LEVEL SECURITY;\n" +
	named("RULE", "a r") + "CREATE RULE r AS\n    ON DELETE TO public.a DO INSTEAD NOTHING;\n" +
	named("RULE", "v _RETURN") + "CREATE OR REPLACE VIEW public.v AS\n SELECT 1;\n" +
	named("EVENT TRIGGER", "e") + "CREATE EVENT TRIGGER e ON ddl_command_end\n   EXECUTE FUNCTION public.f();\n" +
	named("PUBLICATION TABLE", "c a") + "ALTER PUBLICATION c ADD TABLE ONLY public.a;\n" +
	named("ACL", "TABLE a") + "SET SESSION AUTHORIZATION app;\nGRANT SELECT ON TABLE public.a TO b;\nRESET SESSION AUTHORIZATION;\n" +
	named("DEFAULT ACL", "DEFAULT PRIVILEGES FOR TABLES") + "ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT SELECT ON TABLES TO b;\n"

func extract(t *testing.T, in string, tables ...pgdump.Table) (string, *pgdump.Extract) {
	t.Helper()
	e := pgdump.NewExtract(strings.NewReader(head+in+tail), tables)
	got, err := io.ReadAll(e)
	if err != nil {
		t.Fatal(err)
	}
	bytewise, err := io.ReadAll(pgdump.NewExtract(iotest.OneByteReader(strings.NewReader(head+in+tail)), tables))
	if err != nil || !bytes.Equal(got, bytewise) {
		t.Fatalf("byte by byte: %v\n%s\nat once:\n%s", err, bytewise, got)
	}
	return string(got), e
}

func TestExtract(t *testing.T) {
	a, p := pgdump.Table{Schema: "public", Name: "a"}, pgdump.Table{Schema: "public", Name: "p"}
	part := pgdump.Table{Schema: "public", Name: "p 1"}
	for _, c := range []struct {
		name           string
		tables, all    []pgdump.Table
		rows           []string // tables whose rows are there
		titles         []string
		left, leftFrom string
	}{
		{"an ordinary one", []pgdump.Table{a}, []pgdump.Table{a}, []string{"a"},
			[]string{"COMMENT public.CONSTRAINT a_pkey ON a", "COMMENT public.TABLE a", "CONSTRAINT public.a a_pkey", "DEFAULT public.a id", "INDEX public.by_s", "TABLE public.a"},
			"foreign key|policy|privilege|publication|row-level security|row-level security|rule|trigger|trigger", "a"},
		{"a partitioned one", []pgdump.Table{p}, []pgdump.Table{part, p}, []string{"p 1"}, []string{"TABLE ATTACH public.p 1", "TABLE public.p", "TABLE public.p 1"},
			"foreign key", "p"},
		{"a partition", []pgdump.Table{part}, []pgdump.Table{part}, []string{"p 1"}, []string{"TABLE ATTACH public.p 1", "TABLE public.p 1"}, "", ""},
		{"one that is not there", []pgdump.Table{{Schema: "public", Name: "b"}}, []pgdump.Table{{Schema: "public", Name: "b"}}, nil, nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, e := extract(t, two, c.tables...)
			for _, want := range []string{"CREATE TYPE public.state", "CREATE TABLE public.a", "CREATE TABLE public.p ", `ATTACH PARTITION public."p 1"`, "SET DEFAULT 7", "ADD CONSTRAINT a_pkey", "CREATE INDEX by_s",
				"CREATE OR REPLACE VIEW public.v", "setval", "COMMENT ON CONSTRAINT a_pkey", "SET default_tablespace"} {
				if !strings.Contains(got, want) {
					t.Errorf("it lacks %q", want)
				}
			}
			for _, unwanted := range []string{"OWNER TO", "FORCE ROW", "ENABLE ROW", "FOREIGN KEY", "TRIGGER t", "EVENT TRIGGER e", "POLICY own", "RULE r", "GRANT", "SESSION AUTHORIZATION", "PUBLICATION c", "DEFAULT PRIVILEGES FOR ROLE",
				"lo_create", "lowrite", "COMMENT ON CONSTRAINT fk"} {
				for line := range strings.Lines(got) {
					if strings.Contains(line, unwanted) && !strings.HasPrefix(line, "--") {
						t.Errorf("it has %q", line)
					}
				}
			}
			for table, rows := range map[string]string{"a": "\nCOPY public.a (id, s) FROM stdin;\n1\ta\n2\ta\n\\.\n", "p 1": "\nCOPY public.\"p 1\" (id) FROM stdin;\n1\n\\.\n"} {
				if want := slices.Contains(c.rows, table); strings.Contains(got, rows) != want || strings.Contains(got, strings.Split(rows, "\n")[1]) != want {
					t.Errorf("rows of %s: want them %v:\n%s", table, want, got)
				}
			}
			if tables := e.Tables(); !reflect.DeepEqual(tables, c.all) {
				t.Errorf("tables %v, want %v", tables, c.all)
			}
			titles, plain := e.Titles()
			if !reflect.DeepEqual(titles, c.titles) {
				t.Errorf("titles %q, want %q", titles, c.titles)
			}
			if plain["TABLE public.a"] || slices.Contains(titles, "INDEX public.by_s") && !plain["INDEX public.by_s"] {
				t.Errorf("entries without an owner: %v", plain)
			}
			var kinds []string
			for _, line := range e.Left() {
				kind, statement, _ := strings.Cut(line, ": ")
				kinds = append(kinds, kind)
				if !strings.Contains(statement, "public."+c.leftFrom) || strings.HasSuffix(statement, ";") {
					t.Errorf("left out %q", line)
				}
			}
			if got := strings.Join(kinds, "|"); got != c.left {
				t.Errorf("left out %q, want %q", got, c.left)
			}
			if has := e.Has(c.tables[0]); has != (c.titles != nil) {
				t.Errorf("it has the table: %v", has)
			}
		})
	}
}

func TestExtractErrors(t *testing.T) {
	wanted := []pgdump.Table{{Schema: "public", Name: "a"}}
	if _, err := io.ReadAll(pgdump.NewExtract(strings.NewReader(head+two), wanted)); !errors.Is(err, pgdump.ErrTruncated) {
		t.Errorf("without its trailer: %v", err)
	}
	got, err := io.ReadAll(pgdump.NewExtract(strings.NewReader(head+"SELECT 1;\n\\! id\nSELECT 2;\n"+tail), wanted))
	if !errors.Is(err, pgdump.ErrMalformed) || bytes.Contains(got, []byte(`\!`)) {
		t.Errorf("got %q, %v", got, err)
	}
	broken := errors.New("broken")
	if _, err := io.ReadAll(pgdump.NewExtract(io.MultiReader(strings.NewReader(head), iotest.ErrReader(broken)), wanted)); !errors.Is(err, broken) {
		t.Errorf("a reader below that fails: %v", err)
	}
}

func TestSplitName(t *testing.T) {
	for text, want := range map[string][]string{
		"a": {"a"}, "a.b": {"a", "b"}, `"a.b".c`: {"a.b", "c"}, `a."b""c"`: {"a", `b"c`}, `"ä x"`: {"ä x"}, "A.b.C": {"A", "b", "C"},
		"": nil, ".": nil, "a.": nil, ".a": nil, `"a`: nil, `""`: nil, `"a"b`: nil, `a"b"`: nil, `a..b`: nil,
	} {
		parts, ok := pgdump.SplitName(text)
		if ok != (want != nil) || ok && !slices.Equal(parts, want) {
			t.Errorf("%s: %q, %v, want %q", text, parts, ok, want)
		}
	}
}

func FuzzExtract(f *testing.F) {
	f.Add([]byte(small(f)))
	f.Add([]byte(two))
	f.Add([]byte(named("FK CONSTRAINT", "x") + "ALTER TABLE ONLY public.a ADD CONSTRAINT; COMMENT ON COLUMN a; COPY public.t (a) FROM stdin;\n\\.\n"))
	f.Fuzz(func(t *testing.T, fuzzed []byte) {
		tables := []pgdump.Table{{Schema: "public", Name: "a"}, {Schema: "public", Name: "t"}}
		for _, dump := range wrapped(fuzzed) {
			_, _, readErr := read(bytes.NewReader(dump))
			e := pgdump.NewExtract(bytes.NewReader(dump), tables)
			got, err := io.ReadAll(e)
			bytewise, bytewiseErr := io.ReadAll(pgdump.NewExtract(iotest.OneByteReader(bytes.NewReader(dump)), tables))
			if (err == nil) != (bytewiseErr == nil) {
				t.Fatalf("at once: %v, byte by byte: %v", err, bytewiseErr)
			}
			if readErr == nil && err != nil {
				t.Errorf("the reader took what the extract did not: %v", err)
			}
			if err != nil {
				continue
			}
			if !bytes.Equal(got, bytewise) {
				t.Errorf("at once: %q, byte by byte: %q", got, bytewise)
			}
			e.Left()
			// What comes out is a dump that the filter takes, and nothing more is left out of it.
			if _, err := io.ReadAll(pgdump.NewFilter(bytes.NewReader(got), pgdump.Rules{})); err != nil {
				t.Errorf("what comes out is no dump: %v", err)
			}
		}
	})
}
