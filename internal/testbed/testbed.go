// Package testbed starts real servers for tests, the demo and the benchmarks: throwaway PostgreSQL clusters of every
// supported version and S3 servers, on programs that testbed/install.sh has put into a cache folder; and a proxy that fails on
// demand.
//
// It hides where the programs are, how a cluster is made quickly, and which user runs it. Its laws: nothing listens
// beyond loopback, everything that a test started is gone when the test ends, even by a kill, and what is missing is a
// failure and never a skip.
//
// It is no part of the product: nothing but tests and the commands below it may import it.
package testbed

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// Majors are the PostgreSQL versions that have a server here.
func Majors() []int { return []int{13, 14, 15, 16, 17, 18} }

// cache is the folder that testbed/install.sh fills.
func cache() string {
	if dir := os.Getenv("HOLDFAST_TESTBED"); dir != "" {
		return dir
	}
	return "/var/cache/holdfast-testbed"
}

func binDir(major int, program string) (string, error) {
	dir := filepath.Join(cache(), "pg", strconv.Itoa(major), "bin")
	if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
		return "", fmt.Errorf("%w: run testbed/install.sh", err)
	}
	return dir, nil
}

// BinDir returns the folder with the server programs of a major version: initdb, postgres, pg_ctl. All that they need
// is under the folder's parent or under /usr.
func BinDir(t testing.TB, major int) string {
	t.Helper()
	dir, err := binDir(major, "postgres")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// ClientDir returns the folder with client programs (pg_dump, pg_dumpall, pg_restore, psql) of the lowest major version
// that is at least the given one.
func ClientDir(t testing.TB, major int) string {
	t.Helper()
	for _, have := range []int{15, 17, 18} {
		if have >= major {
			dir, err := binDir(have, "pg_dump")
			if err != nil {
				t.Fatal(err)
			}
			return dir
		}
	}
	t.Fatalf("no client programs of PostgreSQL %d: 18 is the highest", major)
	return ""
}

// Program returns the path of a program that testbed/install.sh built into the cache: age, age-keygen.
func Program(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(cache(), "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run testbed/install.sh", err)
	}
	return path
}
