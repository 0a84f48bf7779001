package testbed_test

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/internal/sandbox"
	"holdfast/internal/testbed"
)

func TestMain(m *testing.M) {
	sandbox.Child()
	os.Exit(m.Run())
}

// TestServersRunInASandbox shows that what BinDir's parent holds is all that a server needs, and that a server works
// as the first process of its namespace.
func TestServersRunInASandbox(t *testing.T) {
	for _, major := range testbed.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			const uid, gid = 64321, 64321
			bin := testbed.BinDir(t, major)
			scratch, err := os.MkdirTemp("/tmp", "hf-sb-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(scratch) })
			if err := os.Chown(scratch, uid, gid); err != nil {
				t.Fatal(err)
			}
			opt := sandbox.Options{
				Scratch: scratch, UID: uid, GID: gid, ReadOnly: []string{filepath.Dir(bin)},
				Env: []string{"LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin"},
			}
			data := filepath.Join(scratch, "data")
			output, err := sandbox.Command(t.Context(), opt, filepath.Join(bin, "initdb"), "--no-sync", "--auth=trust",
				"--username=postgres", "--pgdata="+data).CombinedOutput()
			if err != nil {
				t.Fatalf("initdb: %v\n%s", err, output)
			}

			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			var log bytes.Buffer
			server := sandbox.Command(ctx, opt, filepath.Join(bin, "postgres"), "-D", data,
				"-c", "listen_addresses=", "-c", "unix_socket_directories="+scratch, "-c", "fsync=off")
			server.Stdout, server.Stderr = &log, &log
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			address := "postgres://postgres@/postgres?host=" + url.QueryEscape(scratch)
			var conn *pgx.Conn
			for conn == nil {
				if conn, err = pgx.Connect(ctx, address); err != nil && ctx.Err() != nil {
					server.Wait()
					t.Fatalf("%v\n%s", err, log.String())
				}
				time.Sleep(10 * time.Millisecond)
			}
			var user string
			err = conn.QueryRow(ctx, "SELECT pg_catalog.pg_read_file('/etc/passwd')").Scan(&user)
			if want := fmt.Sprintf("root:x:0:0::/:/usr/sbin/nologin\nholdfast-drill:x:%d:%d::/:/usr/sbin/nologin\n", uid, gid); err != nil || user != want {
				t.Errorf("the server reads %q, %v", user, err)
			}
			conn.Close(ctx)
			if err := server.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if err := server.Wait(); err != nil {
				t.Errorf("fast shutdown: %v\n%s", err, log.String())
			}
		})
	}
}
