package postgres_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
	"holdfast/internal/testbed"
)

// pgbouncer starts a pool before the server and returns the connection string of database app through it.
func pgbouncer(t *testing.T, server *testbed.Server, mode string) string {
	t.Helper()
	path := "/usr/sbin/pgbouncer"
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run testbed/install.sh", err)
	}
	dir, err := os.MkdirTemp("/tmp", "hf-pool-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	config := fmt.Sprintf(`[databases]
* = host=%s port=%d user=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
default_pool_size = 5
logfile = %s
`, server.Socket, server.Port, server.User, port, mode, filepath.Join(dir, "log"))
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-q", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		cmd.Wait() // killed
	})
	eventually(t, "pgbouncer listens", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/app?sslmode=disable", server.User, port)
}

func TestTransactionPoolingProxyIsRefused(t *testing.T) {
	server := reader(t)
	for _, mode := range []string{"transaction", "statement"} {
		t.Run(mode, func(t *testing.T) {
			opt := options(t, pgbouncer(t, server, mode))
			_, err := tryCapture(t.Context(), opt)
			if mode == "transaction" {
				mustSay(t, err, "transaction-pooling proxy", "pool_mode = session")
			} else if err == nil {
				t.Error("a capture through a statement-pooling proxy")
			}
			findings, err := postgres.New(opt).Diagnose(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			fails := 0
			for _, f := range findings {
				if f.Severity == source.Fails {
					fails++
				}
			}
			if fails == 0 {
				t.Errorf("doctor finds nothing: %+v", findings)
			}
		})
	}
}

func TestSessionPoolingProxyWorks(t *testing.T) {
	server := reader(t)
	opt := options(t, pgbouncer(t, server, "session"))
	stored := capture(t, opt)
	if direct := capture(t, options(t, server.URL("app"))); len(failures(direct.Facts, stored.Facts)) > 0 {
		t.Errorf("through the proxy came something else: %q", failures(direct.Facts, stored.Facts))
	}
	findings, err := postgres.New(opt).Diagnose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.Severity == source.Fails {
			t.Errorf("%+v", f)
		}
	}
}

// TestStandby backs a hot standby up, which has no rows of unlogged tables.
func TestStandby(t *testing.T) {
	primary := testbed.Postgres(t, 15, testbed.ServerOptions{Settings: map[string]string{
		"wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on"}})
	primary.Exec(t, "postgres", `CREATE TABLE t AS SELECT generate_series(1, 100) AS n`, `CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS n`)
	dir := filepath.Join(primary.Dir, "standby")
	bin := testbed.BinDir(t, 15)
	info, err := os.Stat(primary.Data)
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := owner(info)
	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, args[0]), args[1:]...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	if out, err := run("pg_basebackup", "-D", dir, "-h", primary.Socket, "-p", fmt.Sprint(primary.Port), "-U", primary.User, "-R", "-c", "fast").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	server := run("postgres", "-D", dir, "-c", "port=5433", "-c", "listen_addresses=", "-c", "unix_socket_directories="+primary.Socket)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Process.Signal(syscall.SIGQUIT); err != nil {
			t.Error(err)
		}
		server.Wait() // told to quit
	})
	url := strings.Replace(primary.URL("postgres"), "port=5432", "port=5433", 1)
	opt := options(t, url)
	eventually(t, "the standby answers", func() bool {
		_, err := postgres.New(opt).Capture(t.Context(), ignore)
		return err == nil
	})
	stored := capture(t, opt)
	if got := fmt.Sprint(stored.Facts.Exclusions); !strings.Contains(got, "standby") {
		t.Errorf("exclusions %s", got)
	}
	bring(t, throwaway(t, stored, ignore), stored)
	findings, err := postgres.New(opt).Diagnose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(findings); !strings.Contains(got, "hot_standby_feedback") {
		t.Errorf("findings %s", got)
	}
	if _, err := postgres.Open(t.Context(), postgres.Target{URL: holdfast.NewSecret(url), BinDirs: binDirs(t)}, ignore); err == nil {
		t.Error("a standby was opened as a target")
	}
}
