package testbed_test

import (
	"os"
	"strings"
	"testing"

	"holdfast/internal/testbed"
)

func TestDocker(t *testing.T) {
	e := testbed.Docker(t)
	e.Postgres(t, "db", "--env", "POSTGRES_USER=postgres")
	if got := e.SQL(t, "db", "postgres", `CREATE TABLE t AS SELECT 1 AS n`, `SELECT n, current_setting('server_version_num')::int / 10000 FROM t`); got != "1|17" {
		t.Errorf("the server says %q", got)
	}
	if programs := e.Programs(t, "db"); !strings.HasPrefix(programs[0], "postgres -D") {
		t.Errorf("%q runs", programs)
	}
	if _, err := e.Try(t.Context(), "exec", "db", "nothing"); err == nil {
		t.Error("a program that is not there was run")
	}
	if err := e.Remove(); err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), strings.TrimSuffix(e.Socket, "docker.sock")) {
		t.Error("the engine left a mount")
	}
	for _, process := range processes(t) {
		if strings.Contains(process, strings.TrimSuffix(e.Socket, "/docker.sock")) {
			t.Errorf("left running: %q", process)
		}
	}
}

// processes are the command lines of all that runs.
func processes(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, entry := range entries {
		if line, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline"); err == nil {
			list = append(list, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	if len(list) == 0 {
		t.Fatal("no process is seen")
	}
	return list
}
