package pgdata_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"holdfast"
	"holdfast/internal/source/postgres/pgdata"
	"holdfast/internal/testbed"
)

// TestReadControl reads the control files of real clusters while they run and after a clean stop, and compares with what the servers say.
func TestReadControl(t *testing.T) {
	for _, major := range []int{13, 14, 15, 16, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			server := testbed.Postgres(t, major, testbed.ServerOptions{})
			server.Exec(t, "postgres", "CHECKPOINT")
			running, err := pgdata.ReadControl(server.Data)
			if err != nil {
				t.Fatal(err)
			}
			want := server.Value(t, "postgres", "SELECT system_identifier || ' ' || checkpoint_lsn FROM pg_control_system(), pg_control_checkpoint()")
			if said := fmt.Sprintf("%d %s", running.System, running.Checkpoint); said != want || running.State != "in production" {
				t.Errorf("read %q, state %q; the server says %q", said, running.State, want)
			}
			server.Stop(t)
			stopped, err := pgdata.ReadControl(server.Data)
			if err != nil {
				t.Fatal(err)
			}
			if stopped.State != pgdata.ShutDown || stopped.System != running.System || stopped.Checkpoint == running.Checkpoint {
				t.Errorf("after the stop %+v, before %+v", stopped, running)
			}
		})
	}
}

func TestReadControlDamaged(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	server.Stop(t)
	path := filepath.Join(server.Data, "global", "pg_control")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < 200; at += 7 {
		bad := append([]byte(nil), good...)
		bad[at] ^= 1
		write(t, path, string(bad))
		if c, err := pgdata.ReadControl(server.Data); !errors.Is(err, holdfast.ErrDifference) {
			t.Errorf("byte %d flipped: %+v, %v", at, c, err)
		}
	}
	write(t, path, string(good[:100]))
	if _, err := pgdata.ReadControl(server.Data); !errors.Is(err, holdfast.ErrDifference) || holdfast.Hint(err) == "" {
		t.Errorf("a short file: %v", err)
	}
	if _, err := pgdata.ReadControl(t.TempDir()); !errors.Is(err, os.ErrNotExist) || holdfast.Hint(err) == "" {
		t.Errorf("no file: %v", err)
	}
}
