package postgres_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
	"holdfast/internal/source/sourcetest"
	"holdfast/internal/testbed"
)

const small = `
CREATE TABLE public.notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL);
INSERT INTO public.notes (body) SELECT 'note ' || n || repeat(' lorem ipsum', 20) FROM generate_series(1, 3000) n;
CREATE ROLE writer LOGIN PASSWORD 'secret-of-writer';
GRANT SELECT ON public.notes TO writer;
SELECT lo_from_bytea(4711, decode(repeat('c0ffee', 1000), 'hex'));`

// spot is in the middle of a row, where a changed letter is other data.
func spot(item string, content []byte) int {
	if at := bytes.Index(content, []byte("note 1500 lorem")); at >= 0 {
		return at + 12
	}
	return len(content) / 2
}

// TestLive passes the suite with a place beside the final one.
func TestLive(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	count := 0
	sourcetest.Run(t, func(t *testing.T) sourcetest.Fixture {
		count++
		database := fmt.Sprintf("live%d", count)
		server.Exec(t, "postgres", "CREATE DATABASE "+database)
		server.Exec(t, database, strings.ReplaceAll(small, "writer", fmt.Sprintf("writer%d", count)))
		opt := options(t, server.URL(database))
		places := 0
		return sourcetest.Fixture{
			Name: opt.Name, Kind: holdfast.KindPostgres, Source: postgres.New(opt), Spot: spot,
			Mutate: func(t *testing.T) {
				server.Exec(t, database,
					`INSERT INTO public.notes (body) VALUES ('mutated'); UPDATE public.notes SET body = body || '.' WHERE id = 7`)
			},
			Place: func(t *testing.T) source.Place {
				places++
				p, err := postgres.Open(t.Context(), postgres.Target{URL: holdfast.NewSecret(server.URL("postgres")),
					Database: fmt.Sprintf("%s_back%d", database, places), BinDirs: binDirs(t)}, ignore)
				if err != nil {
					t.Fatal(err)
				}
				return p
			},
			Leftovers: func(t *testing.T) []string {
				return strings.Fields(server.Value(t, "postgres", `SELECT string_agg(datname, ' ') FROM pg_database`))
			},
		}
	})
}
