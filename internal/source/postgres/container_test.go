package postgres_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/sample"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
	"holdfast/internal/source/sourcetest"
	"holdfast/internal/testbed"
)

// inside are the options for a source in a container. No program of the host is to be found.
func inside(e *testbed.Engine, url string) postgres.Options {
	return postgres.Options{Name: "app", URL: holdfast.NewSecret(url), Engine: e.Socket,
		Env: map[string]string{"PGHOST": "/nowhere", "PGUSER": "nobody", "PGPASSWORD": "wrong", "PGDATABASE": "nothing"}}
}

// TestContainerLive passes the suite with a source and a place in a container.
func TestContainerLive(t *testing.T) {
	e := testbed.Docker(t)
	e.Postgres(t, "db", "--env", "POSTGRES_USER=boss")
	count := 0
	sourcetest.Run(t, func(t *testing.T) sourcetest.Fixture {
		count++
		database := fmt.Sprintf("live%d", count)
		e.SQL(t, "db", "postgres", "CREATE DATABASE "+database)
		e.SQL(t, "db", database, strings.ReplaceAll(small, "writer", fmt.Sprintf("writer%d", count)))
		opt := inside(e, "docker://db/"+database)
		places := 0
		return sourcetest.Fixture{
			Name: opt.Name, Kind: holdfast.KindPostgres, Source: postgres.New(opt), Spot: spot,
			Mutate: func(t *testing.T) {
				e.SQL(t, "db", database,
					`INSERT INTO public.notes (body) VALUES ('mutated'); UPDATE public.notes SET body = body || '.' WHERE id = 7`)
			},
			Place: func(t *testing.T) source.Place {
				places++
				p, err := postgres.Open(t.Context(), postgres.Target{URL: holdfast.NewSecret("docker://db"), Engine: e.Socket,
					Database: fmt.Sprintf("%s_back%d", database, places)}, ignore)
				if err != nil {
					t.Fatal(err)
				}
				return p
			},
			Leftovers: func(t *testing.T) []string {
				left := strings.Fields(e.SQL(t, "db", "postgres", `SELECT string_agg(datname, ' ') FROM pg_database`))
				return append(left, e.Others(t, "db")...)
			},
		}
	})
}

// TestContainerSample backs the sample application up from a container, and restores it there and into a throwaway.
func TestContainerSample(t *testing.T) {
	e := testbed.Docker(t)
	e.Postgres(t, "db", "--label", "tier=data")
	e.SQL(t, "db", "postgres", `CREATE DATABASE app`)
	if err := sample.CreateDatabase(t.Context(), e.URL("db", "postgres", "app"), sample.Options{Seed: 1}); err != nil {
		t.Fatal(err)
	}
	opt := inside(e, "docker://db/app")
	stored := capture(t, opt)
	direct := capture(t, options(t, e.URL("db", "postgres", "app")))
	if lines := append(failures(direct.Facts, stored.Facts), texts(direct.Facts, stored.Facts)...); len(lines) > 0 {
		t.Errorf("from inside came something else than from outside:\n%s", strings.Join(lines, "\n"))
	}
	p := open(t, postgres.Target{URL: opt.URL, Engine: e.Socket, Database: "back"}, ignore)
	bring(t, p, stored)
	where, err := p.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := `database "back" on container "db"`; where != want {
		t.Errorf("committed to %s, want %s", where, want)
	}
	back := opt
	back.URL = holdfast.NewSecret("docker:///back?user=postgres&engine=" + e.Socket + "&label=tier")
	if lines := failures(stored.Facts, capture(t, back).Facts); len(lines) > 0 {
		t.Errorf("what came back differs:\n%s", strings.Join(lines, "\n"))
	}
	bring(t, throwaway(t, stored, ignore), stored)
}

// TestContainerStops lets a container end while it is dumped.
func TestContainerStops(t *testing.T) {
	e := testbed.Docker(t)
	e.Postgres(t, "db")
	e.SQL(t, "db", "postgres", `CREATE TABLE t AS SELECT n, repeat(md5(n::text), 200) AS x FROM generate_series(1, 4000) n`)
	for _, test := range []struct {
		name string
		end  []string
		want string
	}{
		{"killed", []string{"kill", "db"}, `container "db" stopped (exit code 137)`},
		{"stopped", []string{"stop", "--time", "1", "db"}, `container "db" stopped`},
		{"restarted", []string{"restart", "--time", "1", "db"}, `container "db" `}, // stopped, or restarted: as soon as it is seen
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := postgres.New(inside(e, "docker://db/postgres")).Capture(t.Context(), ignore)
			if err != nil {
				t.Fatal(err)
			}
			items := c.Items()
			r, err := items[len(items)-1].Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(r, make([]byte, 100_000)); err != nil {
				t.Fatal(err)
			}
			e.Run(t, test.end...)
			_, err = io.Copy(io.Discard, r)
			mustSay(t, err, "pg_dump: the container ended: "+test.want, "docker logs")
			if err := r.Close(); err == nil {
				t.Error("the item of a container that ended closed well")
			}
			if err := c.Close(); err == nil {
				t.Error("the snapshot of a container that ended closed well")
			}
			e.Run(t, "start", "db")
			e.Await(t, "db")
		})
	}
}

// TestContainerIsRenamed renames a container in the middle: the run goes on, the next one finds no such name.
func TestContainerIsRenamed(t *testing.T) {
	e := testbed.Docker(t)
	e.Postgres(t, "db")
	e.SQL(t, "db", "postgres", `CREATE TABLE t AS SELECT generate_series(1, 1000) AS n`)
	opt := inside(e, "docker://db/postgres")
	c, err := postgres.New(opt).Capture(t.Context(), ignore)
	if err != nil {
		t.Fatal(err)
	}
	e.Run(t, "rename", "db", "other")
	for _, item := range c.Items() {
		if _, err := readAll(t.Context(), item); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Facts(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	_, err = tryCapture(t.Context(), opt)
	mustSay(t, err, `has no container "db"`, "running are other: was it renamed?")
	findings, err := postgres.New(opt).Diagnose(t.Context())
	if err != nil || len(findings) != 1 || findings[0].Severity != source.Fails {
		t.Errorf("doctor finds %+v, %v", findings, err)
	}
}

// TestContainerWithoutPrograms has neither psql nor pg_dump.
func TestContainerWithoutPrograms(t *testing.T) {
	e := testbed.Docker(t)
	e.Run(t, "run", "--detach", "--network", "none", "--name", "bare", "--tmpfs", "/usr/lib/postgresql", "--entrypoint", "sleep", testbed.Image, "1000000")
	_, err := tryCapture(t.Context(), inside(e, "docker://bare/app"))
	mustSay(t, err, `container "bare" has no psql`, "use an image that holds PostgreSQL's client programs")
}

// TestContainerWithoutDump has a server and psql, and no pg_dump.
func TestContainerWithoutDump(t *testing.T) {
	e := testbed.Docker(t)
	e.Run(t, "create", "--name", "model", testbed.Image)
	bin := filepath.Join(t.TempDir(), "bin")
	e.Run(t, "cp", "model:/usr/lib/postgresql/17/bin", bin)
	if err := os.Remove(filepath.Join(bin, "pg_dump")); err != nil {
		t.Fatal(err)
	}
	e.Postgres(t, "db", "--volume", bin+":/usr/lib/postgresql/17/bin:ro")
	opt := inside(e, "docker://db/postgres")
	_, err := tryCapture(t.Context(), opt)
	mustSay(t, err, `container "db" has no pg_dump`, "use an image that holds PostgreSQL's client programs, or back the server up from outside by its address")
	findings, err := postgres.New(opt).Diagnose(t.Context())
	if err != nil || !slices.ContainsFunc(findings, func(f source.Finding) bool {
		return f.Severity == source.Fails && strings.Contains(f.Message, `container "db" has no pg_dump`)
	}) {
		t.Errorf("doctor finds %+v, %v", findings, err)
	}
	if others := e.Others(t, "db"); len(others) > 0 {
		t.Errorf("left in the container: %q", others)
	}
}

// TestContainerAsksForPassword has a server that trusts nobody, not even at its own socket.
func TestContainerAsksForPassword(t *testing.T) {
	e := testbed.Docker(t)
	const right, wrong = "the right password", "the wrong password"
	e.Postgres(t, "db", "--env", "POSTGRES_USER=boss", "--env", "POSTGRES_PASSWORD=of another day")
	e.SQL(t, "db", "postgres", `ALTER ROLE boss PASSWORD '`+right+`'`, `CREATE TABLE t AS SELECT 1 AS n`)
	e.Run(t, "exec", "db", "sh", "-c", `echo "local all all scram-sha-256" > "$(psql -U boss -d postgres -XAtc 'SHOW hba_file')"`)
	e.SQL(t, "db", "postgres", `SELECT pg_reload_conf()`)

	for _, test := range []struct {
		name     string
		password holdfast.Secret
		said     string // "": it works
	}{
		{"right", holdfast.NewSecret(right), ""},
		{"wrong", holdfast.NewSecret(wrong), `password authentication failed for user "boss"`},
		{"none: the container's own, which is not true any more", holdfast.Secret{}, `password authentication failed for user "boss"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			opt := inside(e, "docker://db/postgres")
			opt.Password = test.password
			stored, err := tryCapture(t.Context(), opt)
			if test.said == "" {
				if err != nil {
					t.Fatal(err)
				}
				place := open(t, postgres.Target{URL: opt.URL, Password: opt.Password, Engine: e.Socket, Database: "back"}, ignore)
				bring(t, place, stored)
				return
			}
			mustSay(t, err, test.said, fmt.Sprintf("the password of role %q is wrong", "boss"))
			for _, secret := range []string{right, wrong, "of another day"} {
				if strings.Contains(fmt.Sprint(err, holdfast.Hint(err)), secret) {
					t.Errorf("%v holds a password", err)
				}
			}
		})
	}
	opt := inside(e, "docker://stranger@db/postgres")
	_, err := tryCapture(t.Context(), opt)
	mustSay(t, err, `connect to container "db": the server asks for a password, and there is none`, `the password of role "stranger" is wrong, or missing: give it as password: of the source`)
	if others := e.Others(t, "db"); len(others) > 0 {
		t.Errorf("left in the container: %q", others)
	}
}

// TestContainerRestartsDuringRestore loses the server under a restore. What carries the final name stays.
func TestContainerRestartsDuringRestore(t *testing.T) {
	e := testbed.Docker(t)
	e.Postgres(t, "db")
	e.SQL(t, "db", "postgres", `CREATE DATABASE app`)
	e.SQL(t, "db", "app", `CREATE TABLE t AS SELECT n, repeat(md5(n::text), 200) AS x FROM generate_series(1, 3000) n`)
	opt := inside(e, "docker://db/app")
	stored := capture(t, opt)
	for i, item := range stored.Items {
		if !strings.HasSuffix(item.Name, "app.sql") {
			continue
		}
		whole := item.Open
		stored.Items[i].Open = func(ctx context.Context) (io.ReadCloser, error) {
			r, err := whole(ctx)
			if err != nil {
				return nil, err
			}
			return &struct {
				io.Reader
				io.Closer
			}{io.MultiReader(io.LimitReader(r, 300_000), hook(func() { e.Run(t, "restart", "--time", "0", "db"); e.Await(t, "db") }), r), r}, nil
		}
	}
	p, err := postgres.Open(t.Context(), postgres.Target{URL: opt.URL, Engine: e.Socket, Database: "app", Overwrite: true}, ignore)
	if err != nil {
		t.Fatal(err)
	}
	mustSay(t, p.Restore(t.Context(), stored), `restore app.sql: the container ended: container "db" was restarted`, "docker logs")
	if _, err := p.Commit(t.Context()); err == nil {
		t.Error("half a restore was committed")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if got := e.SQL(t, "db", "app", `SELECT count(*), (SELECT count(*) FROM pg_database WHERE datname LIKE 'app%') FROM t`); got != "3000|1" {
		t.Errorf("rows and databases are %s", got)
	}
}

// hook is a reader that is empty and does something first.
type hook func()

func (h hook) Read([]byte) (int, error) {
	h()
	return 0, io.EOF
}

// TestContainerDrill restores all databases of a container's cluster into a throwaway container of the same image.
func TestContainerDrill(t *testing.T) {
	e := testbed.Docker(t)
	e.Postgres(t, "db")
	e.SQL(t, "db", "postgres", `CREATE DATABASE one`, `CREATE DATABASE "Two ""2"""`)
	e.SQL(t, "db", `Two "2"`, small) // the first by name, which assertions ask
	opt := inside(e, "docker://db/postgres")
	opt.AllDatabases = true
	stored := capture(t, opt)
	if needs, err := postgres.NeedsContainer(t.Context(), postgres.DrillOptions{BinDirs: binDirs(t)}, stored); err != nil || needs {
		t.Errorf("a host with every version needs a container: %v, %v", needs, err)
	}
	d, err := postgres.ThrowawayContainer(t.Context(), postgres.DrillOptions{Engine: e.Socket}, 64<<20, stored, ignore)
	if err != nil {
		t.Fatal(err)
	}
	bring(t, d, stored)
	facts, err := d.Check(t.Context())
	if err != nil || !strings.Contains(fmt.Sprint(facts.Notes), "restored in a container of image "+testbed.Image) {
		t.Errorf("notes are %q, %v", facts.Notes, err)
	}
	for query, want := range map[string]bool{`SELECT count(*) = 3000 FROM public.notes`: true, `SELECT false`: false, `SELECT NULL::boolean`: false} {
		if got, err := d.Assert(t.Context(), query); err != nil || got != want {
			t.Errorf("%s: %v, %v", query, got, err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if names := e.Run(t, "ps", "--all", "--format", "{{.Names}}"); names != "db" {
		t.Errorf("containers are %q", names)
	}
}
