package testbed_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"holdfast/internal/testbed"
)

func TestEveryMajor(t *testing.T) {
	for _, major := range testbed.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			s := testbed.Postgres(t, major, testbed.ServerOptions{Settings: map[string]string{"application_name": "it's"}})
			if got := s.Value(t, "postgres", "SHOW server_version_num"); !strings.HasPrefix(got, fmt.Sprint(major)) {
				t.Errorf("server version %s", got)
			}
			for sql, want := range map[string]string{
				"SHOW server_encoding": "UTF8", "SHOW listen_addresses": "", "SHOW application_name": "it's",
				"SELECT datcollate FROM pg_database WHERE datname = 'postgres'": "C.UTF-8",
			} {
				if got := s.Value(t, "postgres", sql); got != want {
					t.Errorf("%s: %q, want %q", sql, got, want)
				}
			}
			s.Exec(t, "postgres", "CREATE DATABASE other")
			s.Exec(t, "other", "CREATE EXTENSION pgcrypto; CREATE EXTENSION hstore", "CREATE TABLE t AS SELECT 1 AS n")
			dump := filepath.Join(testbed.ClientDir(t, major), "pg_dump")
			output, err := exec.Command(dump, "--dbname="+s.URL("other")).CombinedOutput()
			if err != nil || !strings.Contains(string(output), "CREATE TABLE public.t") {
				t.Errorf("pg_dump: %v\n%s", err, output)
			}
		})
	}
}

func TestClientsOfEveryKind(t *testing.T) {
	for _, major := range []int{15, 17, 18} {
		dir := testbed.ClientDir(t, major)
		for _, program := range []string{"pg_dump", "pg_dumpall", "pg_restore", "psql", "pg_basebackup", "pg_verifybackup"} {
			output, err := exec.Command(filepath.Join(dir, program), "--version").CombinedOutput()
			if err != nil || !strings.Contains(string(output), fmt.Sprintf("(PostgreSQL) %d.", major)) {
				t.Errorf("%s of %d: %s, %v", program, major, output, err)
			}
		}
	}
}

func TestStopKillStart(t *testing.T) {
	s := testbed.Postgres(t, 15, testbed.ServerOptions{})
	s.Exec(t, "postgres", "CREATE TABLE t (n int)")
	s.Stop(t)
	if _, err := pgx.Connect(t.Context(), s.URL("postgres")); err == nil {
		t.Error("a stopped server answers")
	}
	s.Start(t)
	s.Exec(t, "postgres", "INSERT INTO t VALUES (7)", "CHECKPOINT")
	conn := s.Connect(t, "postgres")
	s.Kill(t)
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a killed server answers")
	}
	s.Start(t)
	if got := s.Value(t, "postgres", "SELECT n FROM t"); got != "7" {
		t.Errorf("row after a crash: %q", got)
	}
}

func TestPasswordAndTLS(t *testing.T) {
	s := testbed.Postgres(t, 17, testbed.ServerOptions{TLS: true, Password: `it's "secret"`, SuperUser: "Boss"})
	conn, err := pgx.Connect(t.Context(), s.TCPURL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var role string
	var tls bool
	err = conn.QueryRow(t.Context(), "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&role, &tls)
	if err != nil || role != "Boss" || !tls {
		t.Errorf("role %q, TLS %t, %v", role, tls, err)
	}
	for name, url := range map[string]string{
		"without TLS":           fmt.Sprintf("postgres://Boss:it's%%20%%22secret%%22@127.0.0.1:%d/postgres?sslmode=disable", s.Port),
		"with a wrong password": fmt.Sprintf("postgres://Boss:wrong@127.0.0.1:%d/postgres?sslmode=require", s.Port),
	} {
		if conn, err := pgx.Connect(t.Context(), url); err == nil {
			conn.Close(t.Context())
			t.Errorf("connected %s", name)
		}
	}
}

func TestFreshClustersDiffer(t *testing.T) {
	const sql = "SELECT system_identifier FROM pg_control_system()"
	first := testbed.Postgres(t, 15, testbed.ServerOptions{InitArgs: []string{"--data-checksums"}}).Value(t, "postgres", sql)
	fresh := testbed.Postgres(t, 15, testbed.ServerOptions{Fresh: true, InitArgs: []string{"--data-checksums"}})
	if second := fresh.Value(t, "postgres", sql); first == second {
		t.Errorf("both clusters are %s", first)
	}
	if got := fresh.Value(t, "postgres", "SHOW data_checksums"); got != "on" {
		t.Errorf("data_checksums is %s", got)
	}
}

func TestNothingIsLeft(t *testing.T) {
	var s *testbed.Server
	t.Run("a test", func(t *testing.T) {
		s = testbed.Postgres(t, 16, testbed.ServerOptions{TCP: true})
		conn, err := pgx.Connect(t.Context(), s.TCPURL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close(t.Context())
	})
	if _, err := os.Stat(s.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
	if _, err := pgx.Connect(t.Context(), s.TCPURL("postgres")); err == nil {
		t.Error("the server answers")
	}
}

func TestThrowaway(t *testing.T) {
	program := filepath.Join(t.TempDir(), "throwaway")
	if output, err := exec.Command("go", "build", "-o", program, "./cmd/throwaway").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	parent, err := os.MkdirTemp("/tmp", "hf-throwaway-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "pg")
	cmd := exec.Command(program, "-major=15", "-dir="+dir, "-tcp", "-set=work_mem=1MB")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var socket, tcp string
	if _, err := fmt.Fscan(stdout, &socket, &tcp); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{socket, tcp} {
		conn, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		var memory string
		if err := conn.QueryRow(t.Context(), "SHOW work_mem").Scan(&memory); err != nil || memory != "1MB" {
			t.Errorf("work_mem %q, %v", memory, err)
		}
		conn.Close(t.Context())
	}
	stdin.Close()
	if rest, err := io.ReadAll(stdout); err != nil || len(rest) != 0 {
		t.Errorf("more output: %q, %v", rest, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
}
