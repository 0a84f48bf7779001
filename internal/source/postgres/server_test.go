package postgres_test

import (
	"context"
	"strings"
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
	server.Exec(t, "shop", "CREATE TABLE item AS SELECT generate_series(1, 1000) AS id")
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
