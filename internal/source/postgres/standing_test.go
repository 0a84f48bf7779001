package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

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
	uid, gid := ownerOf(t, server.Data)
	base := short(t)
	dir, scratch, work := filepath.Join(base, "main"), filepath.Join(base, "x"), filepath.Join(base, "w")
	for _, path := range []string{scratch, work} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	drill := postgres.DrillOptions{Scratch: scratch, UID: uid, GID: gid, BinDirs: binDirs(t)}
	if err := postgres.Settle(ctx, drill, stored, dir, server.Data, nil); err != nil {
		t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
	}
	for _, name := range []string{"pg_hba.conf", "postgresql.conf"} {
		want, err := os.ReadFile(filepath.Join(server.Data, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != string(want) {
			t.Errorf("%s was not taken over: %v", name, err)
		}
	}
	if entries, err := os.ReadDir(scratch); err != nil || len(entries) > 0 {
		t.Errorf("left in the scratch folder: %v, %v", entries, err)
	}
	s, err := postgres.StartOn(ctx, postgres.StandingOptions{Dir: dir, Work: work, UID: uid, GID: gid, BinDirs: binDirs(t), Role: server.User})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	facts, err := postgres.NewServer(s.Options()).Facts(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range source.Compare(stored.Facts.Facts, facts.Facts) {
		if d.Fails() {
			t.Errorf("%s", d)
		}
	}
	if err := postgres.Settle(ctx, drill, stored, dir, "", nil); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("over a directory that is there: %v", err)
	}
}
