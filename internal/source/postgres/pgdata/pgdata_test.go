package pgdata_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source/postgres/pgdata"
	"holdfast/internal/testbed"
)

// TestOpen looks at a real cluster while it runs, after it was stopped, and as parts of it are lost.
func TestOpen(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	open := func(want bool) pgdata.Folder {
		t.Helper()
		f, err := pgdata.Open(server.Data)
		if err != nil {
			t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
		}
		if f.Running != want {
			t.Errorf("running %v, want %v", f.Running, want)
		}
		return f
	}
	if said := server.Value(t, "postgres", "SELECT pg_read_file('postmaster.pid')"); said != open(true).Postmaster {
		t.Errorf("the server says %q", said)
	}
	stale, err := os.ReadFile(filepath.Join(server.Data, "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	open(false)
	// What a killed server leaves, while another process has its number.
	lines := strings.SplitN(string(stale), "\n", 2)
	write(t, filepath.Join(server.Data, "postmaster.pid"), strconv.Itoa(os.Getpid())+"\n"+lines[1])
	open(false)
	write(t, filepath.Join(server.Data, "postmaster.pid"), "nonsense")
	open(false)
	for _, name := range []string{"global/pg_control", "PG_VERSION"} {
		if err := os.Remove(filepath.Join(server.Data, name)); err != nil {
			t.Fatal(err)
		}
	}
	open(false)
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none"), "/etc/hostname"} {
		if _, err := pgdata.Open(dir); !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(holdfast.Hint(err), "PG_VERSION and base") {
			t.Errorf("%s: %v, hint %q", dir, err, holdfast.Hint(err))
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPaths: tablespaces and a log elsewhere belong to a cluster, and its path may hold what patterns take for their own.
func TestPaths(t *testing.T) {
	base := t.TempDir()
	dir, space, wal := base+"/da[t]a*", base+"/space", base+"/wal"
	for _, name := range []string{"/PG_VERSION", "/base/5/1234", "/base/16384/2", "/global/pg_control", "/pg_xact/0000", "/pg_multixact/x"} {
		write(t, dir+name, "x")
	}
	write(t, space+"/PG_15_202209061/16384/9", "x")
	write(t, space+"/PG_15_202209061/99/9", "x")
	write(t, wal+"/000000010000000000000001", "x")
	for link, target := range map[string]string{dir + "/pg_tblspc/16400": space, dir + "/pg_wal": wal} {
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	link := base + "/link"
	if err := unix.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	f, err := pgdata.Open(link)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{dir, space, wal}
	if got := f.All(); !slices.Equal(got, want) {
		t.Errorf("all of it: %q, want %q", got, want)
	}
	want = []string{dir + "/PG_VERSION", dir + "/base/16384", dir + "/global", dir + "/pg_multixact", dir + "/pg_xact", space + "/PG_15_202209061/16384"}
	if got := f.Database(16384); !slices.Equal(got, want) {
		t.Errorf("one database: %q, want %q", got, want)
	}
	if got := f.Database(77); got != nil {
		t.Errorf("a database that is not there: %q", got)
	}
}
