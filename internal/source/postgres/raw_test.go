package postgres_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source/postgres"
	"holdfast/internal/testbed"
)

// TestRawFiles: the files are those that the server itself uses, or there are none.
func TestRawFiles(t *testing.T) {
	server := withApplication(t, 15)
	at := func(url string) postgres.Target { return postgres.Target{URL: holdfast.NewSecret(url)} }
	raw, err := postgres.RawFiles(t.Context(), at(server.URL("app")), "app")
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
	}
	folder := filepath.Join(server.Data, "base", server.Value(t, "postgres", "SELECT oid FROM pg_database WHERE datname = 'app'"))
	if !raw.Running || !slices.Contains(raw.Paths, folder) || slices.Contains(raw.Paths, server.Data) {
		t.Errorf("raw files %+v, not of %s", raw, folder)
	}
	if raw, err = postgres.RawFiles(t.Context(), at(server.URL("app")), ""); err != nil || !slices.Equal(raw.Paths, []string{server.Data}) {
		t.Errorf("of the cluster: %+v, %v", raw, err)
	}
	if _, err := postgres.RawFiles(t.Context(), at(server.URL("app")), "nosuch"); err == nil {
		t.Error("files of a database that is not there")
	}
	server.Exec(t, "postgres", "CREATE ROLE visitor LOGIN")
	_, err = postgres.RawFiles(t.Context(), at(server.URLAs("visitor", "app")), "app")
	if err == nil || !strings.Contains(err.Error(), "permission denied") || holdfast.Hint(err) != "connect as a superuser" {
		t.Errorf("of a role that may not ask: %v, hint %q", err, holdfast.Hint(err))
	}

	// On this host the path leads to the folder of another server: one that was copied has the same identifier.
	for name, opt := range map[string]testbed.ServerOptions{"another cluster": {Fresh: true}, "a copy": {}} {
		other := testbed.Postgres(t, 15, opt)
		if name == "a copy" {
			other.Stop(t)
		}
		if err := unix.Mount(other.Data, server.Data, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		_, err = postgres.RawFiles(t.Context(), at(server.URL("app")), "app")
		if unmountErr := unix.Unmount(server.Data, unix.MNT_DETACH); unmountErr != nil {
			t.Fatal(unmountErr)
		}
		if err == nil || !strings.Contains(err.Error(), "its files are not on this host: "+server.Data+" is of another server") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOverwrittenTwice: two overwrites of one second keep both, and a staging database of another killed restore is named.
func TestOverwrittenTwice(t *testing.T) {
	server := withApplication(t, 15)
	stored := capture(t, options(t, server.URL("app")))
	server.Exec(t, "postgres", `CREATE DATABASE app_restoring_0123456789`)
	var kept []string
	for range 2 {
		told := &events{}
		p := open(t, postgres.Target{URL: holdfast.NewSecret(server.URL("app")), Database: "app", Overwrite: true, ID: "abcdefghjk",
			Now: time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC)}, told.observe)
		bring(t, p, stored)
		where, err := p.Commit(t.Context())
		if err != nil {
			t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, where)
		if said := told.warnings(); !strings.Contains(said, `database "app_restoring_0123456789" was left by a restore that was killed: DROP DATABASE "app_restoring_0123456789";`) {
			t.Errorf("warned of %q", said)
		}
	}
	if !strings.Contains(kept[0], `"app_before_20261122t030405z"`) || !strings.Contains(kept[1], `"app_before_20261122t030405z_2"`) {
		t.Errorf("kept %q", kept)
	}
}
