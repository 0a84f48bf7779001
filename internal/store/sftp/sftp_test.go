package sftp_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/store"
	"holdfast/internal/store/sftp"
	"holdfast/internal/store/storetest"
	"holdfast/internal/testbed"
)

// options lead to a store in s.Dir/name, and make it.
func options(s *testbed.SSHD, name string) sftp.Options {
	return sftp.Options{
		Host: "127.0.0.1", Port: s.Port, User: s.User, Path: filepath.Join(s.Dir, name),
		KeyFile: s.KeyFile, KnownHosts: []string{s.KnownHosts},
		Retrier: store.NewRetrier(4, time.Millisecond), Create: true,
	}
}

func open(t *testing.T, opt sftp.Options) *sftp.Driver {
	t.Helper()
	d, err := sftp.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func remove(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

// everyExtension are the requests of OpenSSH's that the driver can use, as sftp-server names them.
var everyExtension = []string{"fsync", "hardlink", "posix-rename", "statvfs", "fstatvfs", "lsetstat", "limits", "expand-path", "copy-data"}

func TestLaws(t *testing.T) {
	for _, server := range []struct {
		name string
		opt  testbed.SSHDOptions
	}{
		{"plain", testbed.SSHDOptions{}},
		{"an unprivileged login", testbed.SSHDOptions{User: "nobody"}},
		{"chroot", testbed.SSHDOptions{Chroot: true}},
		{"without fsync", testbed.SSHDOptions{Deny: []string{"fsync"}}},
		{"without extensions", testbed.SSHDOptions{Deny: everyExtension}},
		{"without changes of mode", testbed.SSHDOptions{Deny: []string{"setstat", "fsetstat"}}},
	} {
		t.Run(server.name, func(t *testing.T) {
			s := testbed.StartSSHD(t, server.opt)
			storetest.Run(t, func(t *testing.T) (store.Driver, func()) {
				opt := options(s, filepath.Base(t.Name()))
				dir := opt.Path
				if server.opt.Chroot {
					opt.Path = "/" + filepath.Base(t.Name())
				}
				return open(t, opt), func() { remove(t, dir) }
			})
		})
	}
}
