package migration_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"holdfast/internal/migration"
)

// server runs a program by the name of postgres in a directory, until the test ends it.
func server(t *testing.T, name, dir string) (stop func()) {
	t.Helper()
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Skip("no program to run")
	}
	program := t.TempDir() + "/" + name
	text, err := os.ReadFile(cat)
	must(t, err, os.WriteFile(program, text, 0o700))
	cmd := exec.Command(program)
	cmd.Args[0] = "cat" // a program of many names goes by the first argument
	cmd.Dir = dir
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err, cmd.Start())
	// It has its name and its directory once it answers.
	_, err = io.WriteString(in, "ready\n")
	must(t, err)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return func() { must(t, in.Close(), cmd.Wait()) }
}

func TestServing(t *testing.T) {
	l := ground(t)
	must(t, l.To(t.Context(), migration.Sealed))
	dirs := map[migration.Side]string{migration.Old: l.From + ".before-pg", migration.Sealed: l.Target, migration.Restored: "/does/not/exist"}
	want := func(side migration.Side) {
		t.Helper()
		if got, err := migration.Serving(t.Context(), dirs); err != nil || got != side {
			t.Errorf("serving %q, %v, want %q", got, err, side)
		}
	}
	want(migration.None)
	stop := server(t, "cat", l.Target)
	want(migration.None) // a shell in the directory is no server
	stop()
	stop = server(t, "postgres", l.From)
	want(migration.Sealed) // through the link
	second := server(t, "postmaster", dirs[migration.Old])
	if side, err := migration.Serving(t.Context(), dirs); err == nil || !strings.Contains(err.Error(), "servers run on") {
		t.Errorf("two servers: %q, %v", side, err)
	}
	stop()
	want(migration.Old)
	second()
	want(migration.None)
}

func TestOutside(t *testing.T) {
	l := ground(t)
	elsewhere := t.TempDir()
	must(t, os.MkdirAll(l.From+"/pg_tblspc/in-place", 0o700), os.WriteFile(elsewhere+"/server.crt", nil, 0o600), os.Symlink(elsewhere+"/server.crt", l.From+"/server.crt"))
	found, err := migration.Outside(t.Context(), l.From)
	if err != nil || len(found) != 0 {
		t.Errorf("found %q, %v", found, err)
	}
	must(t, os.Symlink(elsewhere, l.From+"/pg_wal"), os.Symlink("/does/not/exist", l.From+"/pg_tblspc/16400"))
	found, err = migration.Outside(t.Context(), l.From)
	if err != nil || strings.Join(found, ", ") != "pg_wal -> "+elsewhere+", pg_tblspc/16400 -> /does/not/exist" {
		t.Errorf("found %q, %v", found, err)
	}
	if _, err := migration.Outside(t.Context(), l.From+"/none"); err == nil {
		t.Error("nothing was looked at, and nothing said")
	}
}
