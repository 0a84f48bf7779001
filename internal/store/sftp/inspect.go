package sftp

import (
	"context"
	"fmt"
	"os"

	"holdfast/internal/store"
)

// Inspect tells what the server cannot do, how much room it has and who else can read the store.
func (d *Driver) Inspect(ctx context.Context, about store.Inspection) ([]store.Finding, error) {
	var findings []store.Finding
	add := func(severity store.Severity, message, fix string) {
		findings = append(findings, store.Finding{Severity: severity, Message: message, Fix: fix})
	}
	err := d.do(ctx, func(s *session) error {
		if err := d.check(s); err != nil {
			return err
		}
		info, err := s.sftp.Stat(d.opt.Path)
		if err != nil {
			return err
		}
		add(store.Fine, fmt.Sprintf("%s answers, with the key %s that known_hosts has", d.addr, s.key), "")
		if others := info.Mode().Perm() & 0o077; others != 0 {
			add(store.Warns, fmt.Sprintf("other users of the server can look into the folder of the store: its mode is %04o", info.Mode().Perm()),
				"run chmod 700 on it, through sftp or at the server")
		}
		if !s.has("fsync") {
			add(store.Warns, "the server has no fsync: what it has confirmed can be lost when it loses power in the next half minute",
				"allow the request fsync@openssh.com at the server, or keep a second copy elsewhere")
		}
		if !s.has("hardlink") {
			add(store.Warns, "the server has no hard links for SFTP: that two hosts do not write one name at once is then the server's word",
				"allow the request hardlink@openssh.com at the server, or let one host alone write to this store")
		}
		if !s.has("posix-rename") {
			add(store.Fine, "the server has no posix-rename: that is not used, because it writes over what is stored", "")
		}
		if !s.has("statvfs") {
			add(store.Warns, "the server does not tell how much room is left, nor why a write fails",
				"allow the request statvfs@openssh.com at the server, and watch its disk another way")
			return nil
		}
		disk, err := s.sftp.StatVFS(d.opt.Path)
		if err != nil {
			return err
		}
		add(store.Fine, fmt.Sprintf("%d MB are free at the far side", disk.Bavail*disk.Frsize/1_000_000), "")
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", d.where, classify(err))
	}
	if about.WriteOnly {
		add(store.Warns, "a login with SFTP can delete what it has stored",
			"have the server take snapshots that this login cannot reach, or copy this store elsewhere from another host")
	}
	if d.opt.KeyFile != "" {
		if info, err := os.Stat(d.opt.KeyFile); err == nil && info.Mode().Perm()&0o077 != 0 {
			add(store.Warns, fmt.Sprintf("other users of this host can read the private key %s", d.opt.KeyFile), "run chmod 600 on it")
		}
	}
	return findings, nil
}
