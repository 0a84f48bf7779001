package pgdump_test

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"holdfast/internal/source/postgres/pgdump"
)

func globals(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/globals.sql")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestParseGlobals(t *testing.T) {
	want := pgdump.Globals{
		Preamble: []string{"SET default_transaction_read_only = off;", "SET client_encoding = 'UTF8';",
			"SET standard_conforming_strings = on;"},
		Roles: []pgdump.Role{
			{Name: `A "b"`, Create: `CREATE ROLE "A ""b""";`, Alter: []string{
				`ALTER ROLE "A ""b""" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x;' VALID UNTIL 'infinity';`,
				"COMMENT ON ROLE \"A \"\"b\"\"\" IS 'two\nlines; -- so';",
				`SECURITY LABEL FOR x ON ROLE "A ""b""" IS 'y';`}},
			{Name: "app", Create: "CREATE ROLE app;", Alter: []string{"ALTER ROLE app WITH NOLOGIN;"}},
		},
		Memberships: []pgdump.Membership{{Role: "app", Member: `A "b"`,
			SQL: `GRANT app TO "A ""b""" WITH ADMIN OPTION, INHERIT FALSE GRANTED BY postgres;`}},
		Settings: []pgdump.Setting{{Role: "app", SQL: "ALTER ROLE app SET search_path TO 'x';"}},
		Tablespaces: []pgdump.Tablespace{{Name: "fast disk", Create: `CREATE TABLESPACE "fast disk" OWNER app LOCATION '/srv/x';`,
			Alter: []string{`ALTER TABLESPACE "fast disk" SET (seq_page_cost=1);`, `GRANT ALL ON TABLESPACE "fast disk" TO app;`,
				`COMMENT ON TABLESPACE "fast disk" IS 'z';`}}},
		Other: []string{"GRANT SET ON PARAMETER work_mem TO app;"},
	}
	got, err := pgdump.ParseGlobals(iotest.OneByteReader(strings.NewReader(globals(t))))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestParseGlobalsErrors(t *testing.T) {
	text := globals(t)
	for n := range len(text) {
		if _, err := pgdump.ParseGlobals(strings.NewReader(text[:n])); !errors.Is(err, pgdump.ErrTruncated) {
			t.Fatalf("the first %d bytes of %d gave %v", n, len(text), err)
		}
	}
	for _, line := range []string{"\\! id", "COPY t (a) FROM stdin;\n\\.", "SELECT 1 \\g"} {
		_, err := pgdump.ParseGlobals(strings.NewReader(strings.Replace(text, "CREATE ROLE app;", line, 1)))
		if !errors.Is(err, pgdump.ErrMalformed) {
			t.Errorf("%q gave %v", line, err)
		}
	}
	if _, err := pgdump.ParseGlobals(strings.NewReader(small(t))); err == nil {
		t.Error("a database's dump was taken for globals")
	}
}

func TestQuoteIdent(t *testing.T) {
	for name, want := range map[string]string{"a": `"a"`, `A "b"`: `"A ""b"""`, "": `""`} {
		if got := pgdump.QuoteIdent(name); got != want {
			t.Errorf("%q became %s, want %s", name, got, want)
		}
	}
}

func FuzzParseGlobals(f *testing.F) {
	f.Add([]byte(globals(f)))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := pgdump.ParseGlobals(bytes.NewReader(text))
		bytewise, bytewiseErr := pgdump.ParseGlobals(iotest.OneByteReader(bytes.NewReader(text)))
		if (err == nil) != (bytewiseErr == nil) || !reflect.DeepEqual(got, bytewise) {
			t.Errorf("at once: %+v, %v, byte by byte: %+v, %v", got, err, bytewise, bytewiseErr)
		}
	})
}
