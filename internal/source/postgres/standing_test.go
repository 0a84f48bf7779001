package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
	"holdfast/internal/source/postgres/pgdata"
	"holdfast/internal/testbed"
)

// short makes a folder with a path that a socket's name fits into.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "st")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func ownerOf(t *testing.T, path string) (uid, gid int) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return int(stat.Uid), int(stat.Gid)
}

// TestSnapshot copies a server that is written to, starts another one on the copy, and compares what it has with what stood before.
func TestSnapshot(t *testing.T) {
	for _, major := range []int{13, 17} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			ctx := t.Context()
			server := testbed.Postgres(t, major, testbed.ServerOptions{})
			server.Exec(t, "postgres", "CREATE DATABASE shop")
			server.Exec(t, "shop", "CREATE TABLE item AS SELECT i AS id, md5(i::text) AS text FROM generate_series(1, 20000) i", "CREATE TABLE moving (n int)")
			live := postgres.NewServer(options(t, server.URL("shop")))
			uid, gid := ownerOf(t, server.Data)
			base := short(t)
			dir, work := filepath.Join(base, "copy"), filepath.Join(base, "w")
			if err := os.Mkdir(work, 0o700); err != nil {
				t.Fatal(err)
			}
			copies := 0
			err := live.Snapshot(ctx, dir, func(ctx context.Context, logOnly bool) error {
				copies++
				from, to := server.Data, dir
				if logOnly {
					from, to = filepath.Join(from, "pg_wal"), filepath.Join(to, "pg_wal")
				}
				// Somebody writes while it is copied.
				server.Exec(t, "shop", "INSERT INTO moving SELECT generate_series(1, 1000)")
				// Files vanish while they are copied: status 24.
				err := exec.Command("rsync", "-aI", from+"/", to+"/").Run()
				if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 24 {
					err = nil
				}
				return err
			})
			if err != nil || copies != 2 {
				t.Fatalf("%d copies, %v", copies, err)
			}
			s, err := postgres.StartOn(ctx, postgres.StandingOptions{Dir: dir, Work: work, UID: uid, GID: gid, BinDirs: binDirs(t), Role: server.User})
			if err != nil {
				t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
			}
			t.Cleanup(func() { s.Stop() }) // stopped below; once more harms nothing
			copied := postgres.NewServer(s.Options())
			facts, err := copied.Facts(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			// Only what the test itself wrote during the copy may differ.
			now, err := live.Facts(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range source.Compare(facts.Facts, now.Facts) {
				if d.Fails() && d.Name != "shop: public.moving" && d.Name != "public.moving" {
					t.Errorf("the copy differs: %s (%q)", d, d.Name)
				}
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			control, err := pgdata.ReadControl(dir)
			if err != nil || control.State != pgdata.ShutDown {
				t.Errorf("after the stop: %+v, %v", control, err)
			}
		})
	}
}

// TestSettle restores a backup into a data directory that a server then runs on.
func TestSettle(t *testing.T) {
	ctx := t.Context()
	server := withApplication(t, 15)
	opt := options(t, server.URL("app"))
	opt.AllDatabases = true
	stored := capture(t, opt)
	s, drill, dir := settle(t, server, server.User, stored, postgres.Cluster{}, nil)
	for _, name := range []string{"pg_hba.conf", "postgresql.conf"} {
		want, err := os.ReadFile(filepath.Join(server.Data, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != string(want) {
			t.Errorf("%s was not taken over: %v", name, err)
		}
	}
	if entries, err := os.ReadDir(drill.Scratch); err != nil || len(entries) > 0 {
		t.Errorf("left in the scratch folder: %v, %v", entries, err)
	}
	facts, err := postgres.NewServer(s.Options()).Facts(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range source.Compare(stored.Facts.Facts, facts.Facts) {
		if d.Fails() {
			t.Errorf("%s", d)
		}
	}
	if err := postgres.Settle(ctx, drill, stored, dir, "", postgres.Cluster{}, nil); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("over a directory that is there: %v", err)
	}
}

// settle restores a backup of server into a directory of its own, and starts a server on it that role works on.
func settle(t *testing.T, server *testbed.Server, role string, stored source.Stored, as postgres.Cluster, observe holdfast.Observer) (*postgres.Standing, postgres.DrillOptions, string) {
	t.Helper()
	uid, gid := ownerOf(t, server.Data)
	base := short(t)
	dir, scratch, work := filepath.Join(base, "main"), filepath.Join(base, "x"), filepath.Join(base, "w")
	for _, path := range []string{scratch, work} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	drill := postgres.DrillOptions{Scratch: scratch, UID: uid, GID: gid, BinDirs: binDirs(t)}
	if err := postgres.Settle(t.Context(), drill, stored, dir, server.Data, as, observe); err != nil {
		t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
	}
	s, err := postgres.StartOn(t.Context(), postgres.StandingOptions{Dir: dir, Work: work, UID: uid, GID: gid, BinDirs: binDirs(t), Role: role})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() }) // the end of the test does not need it
	return s, drill, dir
}

// TestSettleAsTheServer has a cluster with nothing but the database postgres, roles that own nothing, and what only initdb and the globals have.
func TestSettleAsTheServer(t *testing.T) {
	for _, test := range []struct {
		major    int
		initArgs []string
		as       func(c postgres.Cluster) postgres.Cluster // what is asked for
		want     postgres.Cluster
		warns    bool
	}{
		{15, []string{"--data-checksums", "--wal-segsize=1"}, nil, postgres.Cluster{Checksums: true, Encoding: "UTF8", Collate: "C.UTF-8", CType: "C.UTF-8", Segment: 1 << 20}, false},
		{13, []string{"--lc-collate=C", "--encoding=SQL_ASCII", "--lc-ctype=C"}, nil, postgres.Cluster{Encoding: "SQL_ASCII", Collate: "C", CType: "C", Segment: 16 << 20}, false},
		{18, []string{"--no-data-checksums"}, nil, postgres.Cluster{Encoding: "UTF8", Collate: "C.UTF-8", CType: "C.UTF-8", Segment: 16 << 20}, false},
		{18, nil, func(c postgres.Cluster) postgres.Cluster { c.Collate = "xx_XX.UTF-8"; return c }, postgres.Cluster{Checksums: true, Encoding: "UTF8", Collate: "C", CType: "C", Segment: 16 << 20}, true},
	} {
		t.Run(fmt.Sprint(test.major, test.initArgs), func(t *testing.T) {
			t.Parallel()
			server := testbed.Postgres(t, test.major, testbed.ServerOptions{InitArgs: test.initArgs})
			server.Exec(t, "postgres", "CREATE ROLE holdfast SUPERUSER LOGIN PASSWORD 'x'", "CREATE ROLE visitor LOGIN; GRANT pg_monitor TO visitor; ALTER ROLE visitor SET lock_timeout TO '3s'",
				"ALTER ROLE "+server.User+" PASSWORD 'y'", "CREATE TABLE item AS SELECT generate_series(1, 100) AS id")
			live := postgres.NewServer(options(t, server.URLAs("holdfast", "postgres")))
			as, err := live.Cluster(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if test.as != nil {
				as = test.as(as)
			}
			// As on the way back: the first role of the cluster is shut out too.
			if err := live.CloseConnections(t.Context()); err != nil {
				t.Fatal(err)
			}
			opt := options(t, server.URLAs("holdfast", "postgres"))
			opt.AllDatabases = true
			stored := capture(t, opt)
			if err := live.OpenConnections(t.Context()); err != nil {
				t.Fatal(err)
			}
			var seen events
			s, _, _ := settle(t, server, "holdfast", stored, as, seen.observe)
			warned := seen.warnings()
			if got := strings.Contains(warned, "xx_XX"); got != test.warns || strings.Contains(warned, "shut out") {
				t.Errorf("warned: %s", warned)
			}
			settled := postgres.NewServer(s.Options())
			got, err := settled.Cluster(t.Context())
			if err != nil || got != test.want {
				t.Errorf("the cluster is %+v, want %+v; error %v", got, test.want, err)
			}
			if err := settled.OpenConnections(t.Context()); err != nil {
				t.Fatal(err)
			}
			facts, err := settled.Facts(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			want, err := live.Facts(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			// Roles and their settings are in the facts too.
			if diffs := source.Compare(want.Facts, facts.Facts); len(diffs) > 0 {
				t.Errorf("facts differ: %v", diffs)
			}
			conn, err := pgx.Connect(t.Context(), s.Options().URL.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background()) // it only read
			var passwords int
			if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_authid WHERE rolpassword IS NOT NULL").Scan(&passwords); err != nil || passwords != 2 {
				t.Errorf("%d roles have a password, %v", passwords, err)
			}
		})
	}
}

// TestRestoreOfWhatWasShutOut names the roles that cannot log in, and a drill of such a backup works whoever was shut out.
func TestRestoreOfWhatWasShutOut(t *testing.T) {
	server := testbed.Postgres(t, 17, testbed.ServerOptions{})
	server.Exec(t, "postgres", "CREATE ROLE holdfast SUPERUSER LOGIN", `CREATE ROLE "shop app" LOGIN`, "CREATE ROLE team", `CREATE DATABASE app OWNER "shop app"`)
	server.Exec(t, "app", "CREATE TABLE item AS SELECT generate_series(1, 100) AS id", `ALTER TABLE item OWNER TO "shop app"`, "GRANT SELECT ON item TO team")
	live := postgres.NewServer(options(t, server.URLAs("holdfast", "app")))
	if err := live.CloseConnections(t.Context()); err != nil {
		t.Fatal(err)
	}
	stored := capture(t, options(t, server.URLAs("holdfast", "app")))
	const statements = `ALTER ROLE "shop app" LOGIN; ALTER ROLE "shop app" RESET holdfast.login;`
	for name, withRoles := range map[string]bool{"made": false, "changed": true} {
		t.Run(name, func(t *testing.T) {
			other := testbed.Postgres(t, 17, testbed.ServerOptions{})
			if withRoles {
				other.Exec(t, "postgres", `CREATE ROLE "shop app" LOGIN; CREATE ROLE team`)
			}
			var seen events
			p := open(t, postgres.Target{URL: holdfast.NewSecret(other.URL("app")), WithRoles: withRoles}, seen.observe)
			bring(t, p, stored)
			if _, err := p.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if warned := seen.warnings(); strings.Count(warned, statements) != 1 || strings.Contains(warned, "team") {
				t.Errorf("warned: %s", warned)
			}
			other.Exec(t, "postgres", statements)
			if got := other.Value(t, "postgres", "SELECT rolcanlogin::text || coalesce(rolconfig::text, '') FROM pg_roles WHERE rolname = 'shop app'"); got != "true" {
				t.Errorf("after what was said the role is %s", got)
			}
		})
	}
	t.Run("drilled", func(t *testing.T) {
		var seen events
		d := throwaway(t, stored, seen.observe)
		if err := d.Restore(t.Context(), stored); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if warned := seen.warnings(); strings.Contains(warned, "shut out") {
			t.Errorf("warned: %s", warned)
		}
	})
}
