package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/container"
	"holdfast/internal/unit"
)

// backups is what making, copying, verifying and pruning backups needs.
func (p *plan) backups(ctx context.Context) (unit.Options, error) {
	o := p.base()
	if err := p.common(&o); err != nil {
		return o, err
	}
	who, err := accountNamed(p.flags.user)
	if err != nil {
		return o, err
	}
	if textfile := p.cfg.Service.Textfile; textfile != "" && !p.flags.timers {
		o.Write = append(o.Write, filepath.Dir(textfile))
	}
	for _, place := range p.stores() {
		if _, err := os.Stat(place.Path); place.IsLocal() && errors.Is(err, fs.ErrNotExist) {
			p.remark("store %s is not there yet, and what runs by itself makes none: first run `holdfast backup JOB --create-store` as root", place.Name)
		}
	}
	for _, key := range p.cfg.Keys {
		if key.File != "" {
			o.Read = append(o.Read, key.File)
		}
	}
	if !within(p.cfg.Signer, p.cfg.State) {
		o.Read = append(o.Read, p.cfg.Signer)
	}
	for _, job := range p.cfg.Jobs {
		for _, h := range slices.Concat(job.Hooks.Backup.Before, job.Hooks.Backup.After) {
			o.Hooks = true
			o.Read = append(o.Read, absolute(h.Run[0], h.Dir)...)
			if h.User != "" && h.User != p.flags.user {
				p.remark("job %s: a hook is to run as user %s, which takes root; the service has no right to it: let a service of its own do that, which the hook starts", job.Name, h.User)
			}
		}
		for _, src := range job.Sources {
			needs, err := p.source(ctx, &o, src, who)
			if err != nil {
				return o, err
			}
			o.ReadAll = o.ReadAll || needs
		}
	}
	return o, nil
}

// drills is what proving backups needs.
func (p *plan) drills() (unit.Options, error) {
	o := p.base()
	o.Identity = p.cfg.Identity
	if p.flags.drill && p.app.flags.state != "" {
		// Of the two services this is the one that is written.
		o.State, o.DrillState = "", o.State
	}
	if err := p.common(&o); err != nil {
		return o, err
	}
	// allowed_signers is beside the identity.
	o.Read = append(o.Read, filepath.Dir(p.cfg.Identity))
	socket, err := container.ParseEngine(p.cfg.Engine)
	if err != nil {
		return o, err
	}
	_, err = os.Stat(socket)
	for _, job := range p.cfg.Jobs {
		if p.origins["jobs."+string(job.Name)+".drill.scratch"] != "default" {
			o.Write = append(o.Write, job.Drill.Scratch)
		}
		o.Read = append(o.Read, job.Drill.BinDirs...)
		if job.Drill.Container == config.ContainerAlways || job.Drill.Container == config.ContainerAuto && err == nil {
			o.Docker = socket
		}
	}
	return o, nil
}

// common adds what backups and drills need alike: stores, secrets, logs.
func (p *plan) common(o *unit.Options) error {
	for _, path := range p.logs() {
		o.Write = append(o.Write, filepath.Dir(path))
	}
	for _, ref := range p.secrets() {
		if path, is := strings.CutPrefix(ref.String(), "file:"); is {
			o.Read = append(o.Read, path)
		}
		if name, is := strings.CutPrefix(ref.String(), "env:"); is {
			p.remark("what runs by itself does not see the variable %s, which holds a secret: refer to a file, {file: PATH}", name)
		}
	}
	for _, place := range p.stores() {
		switch {
		case place.IsLocal():
			o.Write = append(o.Write, place.Path)
		case place.Kind == config.StoreS3:
			o.Read = append(o.Read, absolute(place.S3.CAFile)...)
		default:
			o.Read = append(o.Read, absolute(place.SSH.KeyFile)...)
			if p.inFile("stores." + place.Name + ".known_hosts") {
				o.Read = append(o.Read, place.SSH.KnownHosts...)
			} else {
				p.remark("store %s: its host's key is looked for in the home of the user that runs holdfast, and in /etc/ssh/ssh_known_hosts; name a file with known_hosts", place.Name)
			}
			if place.SSH.KeyFile == "" && place.SSH.Password.IsZero() {
				p.remark("store %s: what runs by itself has no SSH agent: name a key with key_file", place.Name)
			}
		}
	}
	return nil
}

// logs are the files of the log and of the audit trail that somebody named.
func (p *plan) logs() []string {
	var all []string
	for setting, path := range map[string]string{"log.file": p.cfg.LogFile, "audit.file": p.cfg.Audit.File} {
		if path != "" && p.origins[setting] != "default" {
			all = append(all, path)
		}
	}
	slices.Sort(all)
	return all
}

// absolute returns those of paths that begin at the root.
func absolute(paths ...string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(path string) bool { return !filepath.IsAbs(path) })
}

// within reports whether a path is a folder or in it.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}

// stores are those of all jobs, each once.
func (p *plan) stores() []config.Store {
	var all []config.Store
	for _, job := range p.cfg.Jobs {
		for _, place := range storesOf(job) {
			if storeAt(all, place.Name) < 0 {
				all = append(all, place)
			}
		}
	}
	return all
}

// secrets are all that a run may have to look up.
func (p *plan) secrets() []config.SecretRef {
	var all []config.SecretRef
	for _, key := range p.cfg.Keys {
		all = append(all, key.Passphrase)
	}
	for _, place := range p.stores() {
		all = append(all, place.S3.AccessKey, place.S3.SecretKey, place.S3.SessionToken, place.SSH.Passphrase, place.SSH.Password)
	}
	for _, c := range p.cfg.Channels {
		all = append(all, c.URL, c.Password, c.Token, c.Topic, c.Sign, c.Authorization)
	}
	for _, job := range p.cfg.Jobs {
		for _, src := range job.Sources {
			all = append(all, src.Postgres.Password)
		}
		for _, h := range slices.Concat(job.Hooks.Backup.Before, job.Hooks.Backup.After) {
			for _, v := range h.Env {
				all = append(all, v.Secret)
			}
		}
	}
	if !p.flags.timers {
		all = append(all, p.cfg.Service.Queue.Password) // timers know of no queue
	}
	return slices.DeleteFunc(all, config.SecretRef.IsZero)
}

// source adds what reading a source needs. It reports whether that takes the right to read files of any owner.
func (p *plan) source(ctx context.Context, o *unit.Options, src config.Source, who account) (readAll bool, err error) {
	switch src.Kind {
	case holdfast.KindPostgres:
		if config.InContainer(src.Postgres.Conn) {
			o.Docker, err = container.ParseEngine(p.cfg.Engine)
		}
		return false, err
	case holdfast.KindSQLite:
		folder := filepath.Dir(src.SQLite.Path)
		o.Read = append(o.Read, folder)
		if info, err := os.Stat(folder); err == nil && who.owns(info) {
			// Files that SQLite needs beside a database that is not in use.
			o.Write = append(o.Write, folder)
		}
	case holdfast.KindFiles:
		for _, path := range src.Files.Paths {
			o.Read = append(o.Read, path.Path)
		}
	}
	closed, err := p.app.closedTo(ctx, p.cfg, src, who)
	if errors.Is(err, errNotRoot) {
		return true, nil // as a rule files belong to somebody else
	}
	return len(closed) > 0, err
}
