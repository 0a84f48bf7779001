package pgclient

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"holdfast"
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
		want                Params
	}{
		{"url", "postgres://u:p%40ss%2F:x@h:5433/d%20b?sslmode=require&connect_timeout=3", "", env(),
			Params{"user": "u", "password": "p@ss/:x", "host": "h", "port": "5433", "dbname": "d b", "sslmode": "require", "connect_timeout": "3"}},
		{"url with sign in the password", "postgresql://u:a@b@h/d", "", env(), Params{"user": "u", "password": "a@b", "host": "h", "dbname": "d"}},
		{"several hosts", "postgres://u@h1:1,[::1]:2,h3/d", "", env(), Params{"host": "h1,::1,h3", "port": "1,2,", "dbname": "d"}},
		{"socket", "postgres:///d?host=/var/run/x&user=u", "", env(), Params{"host": "/var/run/x", "dbname": "d", "user": "u"}},
		{"ssl=true", "postgres://u@h/d?ssl=true", "", env(), Params{"sslmode": "require"}},
		{"keywords", ` host = h  user='it''s' password='a\'b\\c d' dbname=x\ y `, "", env(), nil},
		{"keywords with escapes", ` host = h  user='it\'s' password='a b\\c' dbname=x\ y `, "", env(),
			Params{"host": "h", "user": "it's", "password": `a b\c`, "dbname": "x y"}},
		{"environment", "", "", env("PGHOST", "eh", "PGUSER", "eu", "PGPASSWORD", "ep", "PGDATABASE", "ed", "PGSSLMODE", "disable"),
			Params{"host": "eh", "user": "eu", "password": "ep", "dbname": "ed", "sslmode": "disable", "passfile": filepath.Join(home, ".pgpass")}},
		{"url over environment", "postgres://u@h/d", "", env("PGHOST", "eh", "PGPORT", "99"), Params{"host": "h", "port": "99", "dbname": "d"}},
		{"service between them", "postgres://u@/?service=mine&port=7", "", env("PGHOST", "eh", "PGSERVICEFILE", service, "PGDATABASE", "ed"),
			Params{"host": "service-host", "port": "7", "dbname": "service-db"}},
		{"database of the user", "postgres://u@h", "", env(), Params{"dbname": "u"}},
		{"password apart", "postgres://u:p@h/d", "other", env(), Params{"password": "other"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Resolve(holdfast.NewSecret(test.url), holdfast.NewSecret(test.password), test.env)
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
	if _, err := Resolve(holdfast.NewSecret("service=nowhere"), holdfast.Secret{}, env()); err == nil {
		t.Error("a service that is not defined was taken")
	}
}

func FuzzResolve(f *testing.F) {
	for _, seed := range []string{"postgres://u:p@h:1,[::1]:2/d?sslmode=x", "host='a\\'b' user = x", "postgres://%zz", "='"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Resolve(holdfast.NewSecret(text), holdfast.Secret{}, map[string]string{"HOME": "/"})
		if err != nil {
			return
		}
		if p["dbname"] == "" && p["user"] != "" {
			t.Errorf("%q: no database", text)
		}
		for _, one := range p.hosts() {
			one.Where()
		}
	})
}

func TestEnvironmentOfChildren(t *testing.T) {
	p := Params{"host": "h", "user": "u", "password": "secret", "dbname": "d", "keepalives_idle": "7", "tcp_user_timeout": "it's", "home": "/home/x"}
	env, args := p.env()
	if got := strings.Join(env, " "); !strings.Contains(got, "PGPASSWORD=secret") || !strings.Contains(got, "PGDATABASE=d") || !strings.Contains(got, "HOME=/home/x") {
		t.Errorf("environment %q", got)
	}
	if want := []string{`--dbname=keepalives_idle='7' tcp_user_timeout='it\'s'`}; !reflect.DeepEqual(args, want) {
		t.Errorf("arguments %q, want %q", args, want)
	}
}

func TestRestrict(t *testing.T) {
	for _, test := range []struct {
		p    Program
		want bool
	}{{Program{"", 13, 21}, false}, {Program{"", 13, 22}, true}, {Program{"", 15, 13}, false}, {Program{"", 15, 20}, true},
		{Program{"", 17, 6}, true}, {Program{"", 18, 0}, true}, {Program{"", 12, 99}, false}} {
		if got := test.p.Restricts(); got != test.want {
			t.Errorf("%d.%d: %v", test.p.Major, test.p.Minor, got)
		}
	}
}
