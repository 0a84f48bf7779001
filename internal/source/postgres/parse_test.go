package postgres

import (
	"reflect"
	"strings"
	"testing"

	"holdfast/internal/source"
)

func TestSettingValue(t *testing.T) {
	for _, test := range [][3]string{
		{"work_mem", "7MB", "'7MB'"},
		{"myapp.text", `it's a \ thing`, ` E'it''s a \\ thing'`},
		{"search_path", `"$user", public`, "'$user', 'public'"},
		{"search_path", `"odd, ""schema"`, `'odd, "schema'`},
		{"search_path", "", "''"},
		{"search_path", `"unfinished`, `'"unfinished'`},
		{"search_path", `""`, "''"},
		{"temp_tablespaces", "a,b", "'a', 'b'"},
	} {
		if got := settingValue(test[0], test[1]); got != test[2] {
			t.Errorf("%s = %s: %s, want %s", test[0], test[1], got, test[2])
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, test := range []struct {
		pattern, schema, name string
		want                  bool
	}{
		{"users", "public", "users", true}, {"Users", "public", "users", true}, {`"Users"`, "public", "users", false},
		{`"Users"`, "any", "Users", true}, {"app.u*", "app", "users", true}, {"app.u*", "public", "users", false},
		{"*.log_?", "a", "log_1", true}, {"*.log_?", "a", "log_12", false}, {`"a.b"`, "x", "a.b", true}, {`a."b*"`, "a", "b*", true},
		{`a."b*"`, "a", "bc", false}, {`"q""q"`, "a", `q"q`, true}, {"a$b", "x", "a$b", true}, {"(a|b)", "x", "b", true},
		{"GRÖSSE", "x", "größe", false}, {"größe", "x", "größe", true}, {"db.app.t", "app", "t", true},
	} {
		f, err := Options{ExcludeTables: []string{test.pattern}}.filter()
		if err != nil {
			t.Fatal(err)
		}
		if got := !f.table(test.schema, test.name); got != test.want {
			t.Errorf("%s matches %s.%s: %v", test.pattern, test.schema, test.name, got)
		}
	}
	if _, err := (Options{IncludeTables: []string{"("}}).filter(); err == nil {
		t.Error("a pattern that is none was taken")
	}
}

func TestComplaint(t *testing.T) {
	c := readComplaint(`pg_dump: warning: there are circular foreign-key constraints on this table:
pg_dump: detail: t
pg_dump: hint: You might not be able to restore the dump without using --disable-triggers
pg_dump: error: query failed: ERROR:  permission denied for table x
pg_dump: detail: Query was: LOCK TABLE a, b IN ACCESS
SHARE MODE
`)
	want := complaint{"query failed: ERROR:  permission denied for table x", []string{
		"there are circular foreign-key constraints on this table: t You might not be able to restore the dump without using --disable-triggers"}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, want %+v", c, want)
	}
}

func TestWithSuffix(t *testing.T) {
	for _, test := range [][2]string{{"app", "app_restoring_x"}, {strings.Repeat("ä", 40), strings.Repeat("ä", 25) + "_restoring_x"}} {
		if got := withSuffix(test[0], "_restoring_x"); got != test[1] {
			t.Errorf("%q, want %q", got, test[1])
		}
	}
}

func FuzzReadRecord(f *testing.F) {
	f.Add([]byte(`{"layout":1,"server":150004,"databases":[{"name":"app","settings":[{"name":"search_path","value":"\"a"}]}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := readRecord(source.Stored{Facts: source.Facts{Driver: data}})
		if err != nil {
			return
		}
		for _, d := range r.Databases {
			if d.script(r.major()) == "" || len(d.facts()) < 2 {
				t.Error("a database without statements or facts")
			}
		}
	})
}
