package store_test

import (
	"testing"

	"holdfast/internal/store"
)

func TestSSHAddress(t *testing.T) {
	for _, c := range []struct {
		user, host string
		port       int
		folder     string
		want       string
	}{
		{"u1", "box.example", 22, "/srv/backups", "sftp://u1@box.example/srv/backups"},
		{"u1", "box.example", 23, "backups", "sftp://u1@box.example:23/./backups"},
		{"", "box.example", 0, "/b", "sftp://box.example/b"},
		{"u1", "::1", 22, "/b", "sftp://u1@[::1]/b"},
		{"u1", "::1", 2222, "/b", "sftp://u1@[::1]:2222/b"},
	} {
		if got := store.SSHAddress("sftp", c.user, c.host, c.port, c.folder); got != c.want {
			t.Errorf("address %q, want %q", got, c.want)
		}
	}
}
