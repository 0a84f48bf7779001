package postgres_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
	"holdfast/internal/testbed"
)

// TestServerCloses shuts everybody out of a real server, over a restart, and lets them in again.
func TestServerCloses(t *testing.T) {
	ctx := context.Background()
	server := testbed.Postgres(t, 17, testbed.ServerOptions{})
	server.Exec(t, "postgres", "CREATE ROLE app LOGIN; CREATE ROLE boss SUPERUSER LOGIN; CREATE ROLE team NOLOGIN")
	server.Exec(t, "postgres", "CREATE DATABASE shop")
	server.Exec(t, "shop", "CREATE TABLE item AS SELECT generate_series(1, 1000) AS id", "ALTER TABLE item OWNER TO app")
	as := func(role string) *postgres.Server { return postgres.NewServer(options(t, server.URLAs(role, "shop"))) }
	own, app, boss := as(server.User), as("app"), as("boss")

	if obstacles, err := own.Ready(ctx); err != nil || len(obstacles) > 0 {
		t.Fatalf("obstacles %q, %v", obstacles, err)
	}
	if obstacles, err := app.Ready(ctx); err != nil || len(obstacles) != 1 || !strings.Contains(obstacles[0], "no superuser") {
		t.Errorf("as an application: %q, %v", obstacles, err)
	}
	before, err := own.Facts(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	session, err := pgconn.Connect(ctx, server.URLAs("app", "shop"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close(context.Background()) }) // it was ended by then
	for range 2 {                                             // twice is once
		if err := own.CloseConnections(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := session.Ping(ctx); err == nil {
		t.Error("the application's session lives on")
	}
	server.Stop(t)
	server.Start(t)
	for name, who := range map[string]*postgres.Server{"application": app, "superuser": boss} {
		if err := who.Health(ctx); err == nil || !strings.Contains(err.Error(), "not permitted to log in") {
			t.Errorf("the %s gets in: %v", name, err)
		}
	}
	if err := own.Checkpoint(ctx); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := own.OpenConnections(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Health(ctx); err != nil {
		t.Errorf("the application does not get in again: %v", err)
	}
	if got := server.Value(t, "postgres", "SELECT string_agg(rolname || rolcanlogin::text || coalesce(rolconfig::text, ''), ' ' ORDER BY rolname) FROM pg_roles WHERE rolname IN ('app', 'boss', 'team')"); got != "apptrue bosstrue teamfalse" {
		t.Errorf("the roles are %s", got)
	}
	after, err := own.Facts(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diffs := source.Compare(before.Facts, after.Facts); len(diffs) > 0 || len(before.Facts) == 0 {
		t.Errorf("facts differ, of %d: %v", len(before.Facts), diffs)
	}
}

func TestServerObstacles(t *testing.T) {
	ctx := context.Background()
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	own := postgres.NewServer(options(t, server.URL("postgres")))
	session := server.Connect(t, "postgres")
	if err := session.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	obstacles, err := own.Ready(ctx)
	if err != nil || len(obstacles) != 1 || !strings.Contains(obstacles[0], "superuser of its own") {
		t.Errorf("with a session of the same role: %q, %v", obstacles, err)
	}
	server.Exec(t, "postgres", "CREATE TABLE big AS SELECT repeat('x', 500) AS filler FROM generate_series(1, 20000)")
	first, err := own.Probe(ctx)
	if err != nil || first <= 0 || first > time.Minute {
		t.Errorf("queries took %s, %v", first, err)
	}
	server.Stop(t)
	if err := own.Health(ctx); err == nil || holdfast.Hint(err) == "" {
		t.Errorf("a server that is down: %v, hint %q", err, holdfast.Hint(err))
	}
}

// TestServerReady names what keeps applications in, or data out of facts and backups; each sentence says what to do, which then helps.
func TestServerReady(t *testing.T) {
	server := testbed.Postgres(t, 16, testbed.ServerOptions{})
	server.Exec(t, "postgres", "CREATE ROLE own SUPERUSER LOGIN", "CREATE ROLE app LOGIN", "CREATE DATABASE shop OWNER app", "CREATE DATABASE other")
	server.Exec(t, "shop", "CREATE TABLE item (id int)", "ALTER TABLE item OWNER TO app", "CREATE EXTENSION pg_stat_statements", "CREATE TABLE part (id int)", "ALTER EXTENSION pg_stat_statements ADD TABLE part")
	for _, test := range []struct {
		name, role string
		make, mend func()
		want       string // "": no obstacle
	}{
		{"nothing", "own", func() {}, func() {}, ""},
		{"databases made by the first role", server.User, func() {}, func() {}, ""},
		{"closed database", "own", func() { server.Exec(t, "postgres", "ALTER DATABASE other WITH ALLOW_CONNECTIONS false") },
			func() { server.Exec(t, "postgres", `ALTER DATABASE "other" WITH ALLOW_CONNECTIONS true`) }, `database "other" takes no connections, so that neither facts nor backups have it: open it (ALTER DATABASE "other" WITH ALLOW_CONNECTIONS true)`},
		{"template", "own", func() { server.Exec(t, "postgres", "ALTER DATABASE other WITH IS_TEMPLATE true") },
			func() { server.Exec(t, "postgres", `ALTER DATABASE "other" WITH IS_TEMPLATE false`) }, `database "other" is a template, so that neither facts nor backups have it: make it none (ALTER DATABASE "other" WITH IS_TEMPLATE false)`},
		{"half dropped", "own", func() {
			server.Exec(t, "postgres", "CREATE DATABASE half", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half'")
		},
			func() { server.Exec(t, "postgres", `DROP DATABASE "half"`) }, `drop it (DROP DATABASE "half")`},
		{"subscription", "own", func() {
			server.Exec(t, "shop", "CREATE SUBSCRIPTION feed CONNECTION 'host=/nowhere' PUBLICATION p WITH (connect = false, slot_name = 's')")
			server.Exec(t, "shop", "ALTER SUBSCRIPTION feed ENABLE")
		}, func() { server.Exec(t, "shop", `ALTER SUBSCRIPTION "feed" DISABLE`) }, `subscription "feed" in database "shop" is enabled`},
		{"own database", "own", func() { server.Exec(t, "postgres", "ALTER DATABASE other OWNER TO own") },
			func() { server.Exec(t, "postgres", "ALTER DATABASE other OWNER TO app") }, `role "own", which must stay open for Holdfast, owns database other`},
		{"own table in another database", "own", func() { server.Exec(t, "other", "CREATE TABLE mine (id int)", "ALTER TABLE mine OWNER TO own") },
			func() { server.Exec(t, "other", "ALTER TABLE mine OWNER TO app") }, `owns 1 table(s) in database "other"`},
		{"table of the first role", server.User, func() { server.Exec(t, "shop", "ALTER TABLE item OWNER TO "+server.User) },
			func() { server.Exec(t, "shop", "ALTER TABLE item OWNER TO app") }, "superuser of its own (CREATE ROLE holdfast SUPERUSER LOGIN)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := postgres.NewServer(options(t, server.URLAs(test.role, "postgres")))
			test.make()
			obstacles, err := asked.Ready(t.Context())
			if err != nil || (len(obstacles) == 0) != (test.want == "") || len(obstacles) > 1 || !strings.Contains(strings.Join(obstacles, ""), test.want) {
				t.Errorf("obstacles %q, %v", obstacles, err)
			}
			test.mend()
			if obstacles, err := asked.Ready(t.Context()); err != nil || len(obstacles) > 0 {
				t.Errorf("mended: obstacles %q, %v", obstacles, err)
			}
		})
	}
}

// TestServerClosesOnAnApplicationOfItsRole, which connects again at once, however often its sessions are ended.
func TestServerClosesOnAnApplicationOfItsRole(t *testing.T) {
	server := testbed.Postgres(t, 14, testbed.ServerOptions{})
	own := postgres.NewServer(options(t, server.URL("postgres")))
	ctx, cancel := context.WithCancel(t.Context())
	var application sync.WaitGroup
	for range 3 {
		application.Go(func() {
			for ctx.Err() == nil {
				if conn, err := pgconn.Connect(ctx, server.URL("postgres")); err == nil {
					_, _ = conn.Exec(ctx, "SELECT pg_sleep(60)").ReadAll() // it is ended
					conn.Close(context.Background())
				}
			}
		})
	}
	defer application.Wait()
	defer cancel()
	var err error
	for tries := 0; err == nil && tries < 20; tries++ { // between two sessions of an application none is seen
		err = own.CloseConnections(t.Context())
	}
	if err == nil || !strings.Contains(err.Error(), "came while applications were shut out") || !strings.Contains(holdfast.Hint(err), "superuser of its own") {
		t.Errorf("%v, hint %q", err, holdfast.Hint(err))
	}
}

// TestProbeNamesNoTable: what it says is kept where no data may be.
func TestProbeNamesNoTable(t *testing.T) {
	server := testbed.Postgres(t, 17, testbed.ServerOptions{})
	server.Exec(t, "postgres", "CREATE ROLE app LOGIN", "CREATE TABLE patients_of_ward_3 AS SELECT generate_series(1, 100) AS id")
	_, err := postgres.NewServer(options(t, server.URLAs("app", "postgres"))).Probe(t.Context())
	if err == nil || strings.Contains(err.Error(), "patients") || !strings.Contains(err.Error(), "42501") || holdfast.Hint(err) == "" {
		t.Errorf("%v, hint %q", err, holdfast.Hint(err))
	}
}
