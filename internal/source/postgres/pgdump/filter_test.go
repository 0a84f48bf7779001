package pgdump_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"holdfast/internal/source/postgres/pgdump"
)

func TestFilter(t *testing.T) {
	dropAll := pgdump.Rules{DropSettings: []string{"transaction_timeout"}, DropTablespaces: true, DropRestrict: true}
	for _, c := range []struct {
		name     string
		rules    pgdump.Rules
		in, want string
		removed  []string
	}{
		{"no rules", pgdump.Rules{}, "\\restrict a\nSET transaction_timeout = 0;\n\\unrestrict a\n",
			"\\restrict a\nSET transaction_timeout = 0;\n\\unrestrict a\n", nil},
		{"settings", dropAll, "SET lock_timeout = 0;\nSET transaction_timeout = 0;\nSET xmloption = content;\n",
			"SET lock_timeout = 0;\nSET xmloption = content;\n", []string{"SET transaction_timeout (1)"}},
		{"restrict", dropAll, "\n\\restrict a\n\nSELECT 1;\n\\unrestrict a\n", "\n\nSELECT 1;\n",
			[]string{`\restrict (1)`, `\unrestrict (1)`}},
		{"tablespaces", dropAll, "SET default_tablespace = \"a b\";\n\nSELECT 1;\nSET default_tablespace = '';\nSET default_tablespace = c;\n",
			"SET default_tablespace = '';\n\nSELECT 1;\nSET default_tablespace = '';\nSET default_tablespace = '';\n",
			[]string{"SET default_tablespace (2)"}},
		{"not at top level", dropAll, "CREATE FUNCTION f() AS $$\nSET transaction_timeout = 0;\n$$ SET transaction_timeout = 0;\n" +
			"COPY t (a) FROM stdin;\nSET transaction_timeout = 0;\n\\.\n-- SET transaction_timeout = 0;\n",
			"CREATE FUNCTION f() AS $$\nSET transaction_timeout = 0;\n$$ SET transaction_timeout = 0;\n" +
				"COPY t (a) FROM stdin;\nSET transaction_timeout = 0;\n\\.\n-- SET transaction_timeout = 0;\n", nil},
		{"big", dropAll, "COMMENT ON t IS '" + strings.Repeat("x", 1<<20) + "';\n-- " + strings.Repeat("y", 500_000) + "\nSET transaction_timeout = 0;\n",
			"COMMENT ON t IS '" + strings.Repeat("x", 1<<20) + "';\n-- " + strings.Repeat("y", 500_000) + "\n", []string{"SET transaction_timeout (1)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(head + c.in + tail), iotest.OneByteReader(strings.NewReader(head + c.in + tail))} {
				f := pgdump.NewFilter(r, c.rules)
				got, err := io.ReadAll(f)
				if err != nil {
					t.Fatal(err)
				}
				want := head + c.want + tail
				if string(got) != want {
					t.Errorf("got\n%.300s\nwant\n%.300s", got, want)
				}
				if !reflect.DeepEqual(f.Removed(), c.removed) {
					t.Errorf("removed %q, want %q", f.Removed(), c.removed)
				}
			}
		})
	}
}

func TestFilterRefusesCommands(t *testing.T) {
	got, err := io.ReadAll(pgdump.NewFilter(strings.NewReader(head+"SELECT 1;\n\\! id\nSELECT 2;\n"+tail), pgdump.Rules{}))
	if !errors.Is(err, pgdump.ErrMalformed) || bytes.Contains(got, []byte(`\!`)) {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzFilter(f *testing.F) {
	f.Add([]byte(small(f)))
	f.Add([]byte("SET transaction_timeout TO 0; SET default_tablespace = x;\n\\restrict a\n\n\\unrestrict a\n"))
	f.Add([]byte("/* a */ SET transaction_timeout = 0;\nCOPY t (a) FROM stdin;\nSET\n\\.\nSET transaction_timeout = 0;"))
	f.Fuzz(func(t *testing.T, fuzzed []byte) {
		for _, dump := range wrapped(fuzzed) {
			checkFilter(t, dump)
		}
	})
}

// checkFilter states what holds for every dump, good or bad.
func checkFilter(t *testing.T, dump []byte) {
	t.Helper()
	rules := pgdump.Rules{DropSettings: []string{"transaction_timeout"}, DropTablespaces: true, DropRestrict: true}
	_, _, readErr := read(bytes.NewReader(dump))
	same, err := io.ReadAll(pgdump.NewFilter(bytes.NewReader(dump), pgdump.Rules{}))
	if err == nil && !bytes.Equal(same, dump) {
		t.Error("a filter without rules changed the dump")
	}
	if readErr == nil && err != nil {
		t.Errorf("the reader took what the filter did not: %v", err)
	}
	filter := pgdump.NewFilter(bytes.NewReader(dump), rules)
	got, err := io.ReadAll(filter)
	bytewise := pgdump.NewFilter(iotest.OneByteReader(bytes.NewReader(dump)), rules)
	gotBytewise, bytewiseErr := io.ReadAll(bytewise)
	if (err == nil) != (bytewiseErr == nil) {
		t.Fatalf("at once: %v, byte by byte: %v", err, bytewiseErr)
	}
	if err != nil {
		return
	}
	if !bytes.Equal(got, gotBytewise) || !reflect.DeepEqual(filter.Removed(), bytewise.Removed()) {
		t.Errorf("at once: %q, byte by byte: %q", got, gotBytewise)
	}
	again := pgdump.NewFilter(bytes.NewReader(got), rules)
	if _, err := io.ReadAll(again); err != nil || len(again.Removed()) > 0 {
		t.Errorf("filtering again removed %q, %v", again.Removed(), err)
	}
}
