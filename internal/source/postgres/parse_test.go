package postgres

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/source"
)

func TestResolve(t *testing.T) {
	home := t.TempDir()
	service := filepath.Join(home, "services")
	if err := os.WriteFile(service, []byte("# services\n[other]\nhost=wrong\n[mine]\nhost=service-host\nport = 1111\ndbname=service-db\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(pairs ...string) map[string]string {
		m := map[string]string{"HOME": home}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	for _, test := range []struct {
		name, url, password string
		env                 map[string]string
		want                params
	}{
		{"url", "postgres://u:p%40ss%2F:x@h:5433/d%20b?sslmode=require&connect_timeout=3", "", env(),
			params{"user": "u", "password": "p@ss/:x", "host": "h", "port": "5433", "dbname": "d b", "sslmode": "require", "connect_timeout": "3"}},
		{"url with sign in the password", "postgresql://u:a@b@h/d", "", env(), params{"user": "u", "password": "a@b", "host": "h", "dbname": "d"}},
		{"several hosts", "postgres://u@h1:1,[::1]:2,h3/d", "", env(), params{"host": "h1,::1,h3", "port": "1,2,", "dbname": "d"}},
		{"socket", "postgres:///d?host=/var/run/x&user=u", "", env(), params{"host": "/var/run/x", "dbname": "d", "user": "u"}},
		{"ssl=true", "postgres://u@h/d?ssl=true", "", env(), params{"sslmode": "require"}},
		{"keywords", ` host = h  user='it''s' password='a\'b\\c d' dbname=x\ y `, "", env(), nil},
		{"keywords with escapes", ` host = h  user='it\'s' password='a b\\c' dbname=x\ y `, "", env(),
			params{"host": "h", "user": "it's", "password": `a b\c`, "dbname": "x y"}},
		{"environment", "", "", env("PGHOST", "eh", "PGUSER", "eu", "PGPASSWORD", "ep", "PGDATABASE", "ed", "PGSSLMODE", "disable"),
			params{"host": "eh", "user": "eu", "password": "ep", "dbname": "ed", "sslmode": "disable", "passfile": filepath.Join(home, ".pgpass")}},
		{"url over environment", "postgres://u@h/d", "", env("PGHOST", "eh", "PGPORT", "99"), params{"host": "h", "port": "99", "dbname": "d"}},
		{"service between them", "postgres://u@/?service=mine&port=7", "", env("PGHOST", "eh", "PGSERVICEFILE", service, "PGDATABASE", "ed"),
			params{"host": "service-host", "port": "7", "dbname": "service-db"}},
		{"database of the user", "postgres://u@h", "", env(), params{"dbname": "u"}},
		{"password apart", "postgres://u:p@h/d", "other", env(), params{"password": "other"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := resolve(holdfast.NewSecret(test.url), holdfast.NewSecret(test.password), test.env)
			if test.want == nil {
				if err == nil {
					t.Fatalf("no error: %v", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for key, want := range test.want {
				if got[key] != want {
					t.Errorf("%s is %q, want %q", key, got[key], want)
				}
			}
		})
	}
	if _, err := resolve(holdfast.NewSecret("service=nowhere"), holdfast.Secret{}, env()); err == nil {
		t.Error("a service that is not defined was taken")
	}
}

func FuzzResolve(f *testing.F) {
	for _, seed := range []string{"postgres://u:p@h:1,[::1]:2/d?sslmode=x", "host='a\\'b' user = x", "postgres://%zz", "='"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := resolve(holdfast.NewSecret(text), holdfast.Secret{}, map[string]string{"HOME": "/"})
		if err != nil {
			return
		}
		if p["dbname"] == "" && p["user"] != "" {
			t.Errorf("%q: no database", text)
		}
		for _, one := range p.hosts() {
			one.where()
		}
	})
}

func TestEnvironmentOfChildren(t *testing.T) {
	p := params{"host": "h", "user": "u", "password": "secret", "dbname": "d", "keepalives_idle": "7", "tcp_user_timeout": "it's", "home": "/home/x"}
	env, args := p.env()
	if got := strings.Join(env, " "); !strings.Contains(got, "PGPASSWORD=secret") || !strings.Contains(got, "PGDATABASE=d") || !strings.Contains(got, "HOME=/home/x") {
		t.Errorf("environment %q", got)
	}
	if want := []string{`--dbname=keepalives_idle='7' tcp_user_timeout='it\'s'`}; !reflect.DeepEqual(args, want) {
		t.Errorf("arguments %q, want %q", args, want)
	}
}

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

func TestRestrict(t *testing.T) {
	for _, test := range []struct {
		p    program
		want bool
	}{{program{"", 13, 21}, false}, {program{"", 13, 22}, true}, {program{"", 15, 13}, false}, {program{"", 15, 20}, true},
		{program{"", 17, 6}, true}, {program{"", 18, 0}, true}, {program{"", 12, 99}, false}} {
		if got := test.p.restricts(); got != test.want {
			t.Errorf("%d.%d: %v", test.p.major, test.p.minor, got)
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
