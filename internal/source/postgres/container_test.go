package postgres_test

import (
	"fmt"
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

// clients are the programs of PostgreSQL that run in a container besides its server.
func clients(t testing.TB, e *testbed.Engine, name string) []string {
	t.Helper()
	return slices.DeleteFunc(e.Programs(t, name), func(line string) bool { return strings.HasPrefix(line, "postgres") })
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
				return append(left, clients(t, e, "db")...)
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
