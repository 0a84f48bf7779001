package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/sample"
	"holdfast/internal/testbed"
)

// TestSampleComesBack backs the sample application up on every version, restores it into a throwaway and on the live
// server, and compares.
func TestSampleComesBack(t *testing.T) {
	for _, major := range testbed.Majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			server := testbed.Postgres(t, major, testbed.ServerOptions{})
			server.Exec(t, "postgres", `CREATE DATABASE app`)
			if err := sample.CreateDatabase(t.Context(), server.URL("app"), sample.Options{Seed: 1}); err != nil {
				t.Fatal(err)
			}
			opt := options(t, server.URL("app"))
			stored := capture(t, opt)
			seen := &events{}
			d := throwaway(t, stored, seen.observe)
			bring(t, d, stored)
			restored, err := d.Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if lines := texts(stored.Facts, restored); len(lines) > 0 {
				t.Errorf("text differs:\n%s", strings.Join(lines, "\n"))
			}
		})
	}
}
