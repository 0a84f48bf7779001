// Package sftp keeps a store in a folder of an SSH server, through the SFTP protocol, version 3 with OpenSSH's extensions
// (draft-ietf-secsh-filexfer-02; OpenSSH's PROTOCOL file).
//
// It hides the connection, which may be lost at any time and is made again by itself, host keys, temporary files, and what
// one server can do and another cannot. Beside the laws of store.Driver it has three of its own: it talks to a server only
// whose key is in known_hosts; only the owner can read anything (folders 0700, files 0600); and a folder without the marker
// file is never written to, so that a backup does not land in the empty mount point of a disk that is not there.
//
// An object is written under a temporary name, in pieces, made durable as far as the server can, and then linked to its own
// name, which fails when that name is taken. A piece that is lost with the connection is written again at its place: the
// old connection may still deliver it late, which does no harm because the bytes are the same.
//
// It is not its job to know what a backup is, or to read the configuration of OpenSSH's client.
package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/store"
)

const (
	// marker is the file that makes a folder a store. Its name begins with a dot, so that it is no object.
	marker     = ".holdfast-store"
	markerText = "This directory is a holdfast store. Without this file holdfast does not write here.\n"

	// temporary begins the names of files that are being written. What a killed run left is found by it.
	temporary = ".tmp-holdfast-"

	dirMode  = 0o700
	fileMode = 0o600
)

// Options says where the store is and how to get there. Host, User, KnownHosts, Retrier and one of KeyFile, AgentSocket and
// Password are required.
type Options struct {
	Host string
	Port int // 0: 22
	User string
	// Path is the folder of the store, absolute or relative to the folder in which the login lands. "": that folder.
	Path string

	KeyFile       string          // private key, in any format that OpenSSH writes
	KeyPassphrase holdfast.Secret // of KeyFile
	Password      holdfast.Secret // asked for when no key was taken; also answers a keyboard-interactive question
	AgentSocket   string          // of an SSH agent, used when neither KeyFile nor Password is given

	// KnownHosts are files in OpenSSH's format. A server whose key is in none of them is refused. Missing files are empty.
	KnownHosts []string

	Timeout time.Duration // of a connect, the login included. 0: 30 s
	Stall   time.Duration // how long a connection may move no byte while an answer is due. 0: store.DefaultStall
	// Retrier tries a piece of an object again. Share it with the store.Store around the driver.
	Retrier *store.Retrier
	// Create makes the folder and the marker when they are missing. The folder above must exist.
	Create bool
}

// Driver is a store on an SSH server. It is safe for concurrent use.
type Driver struct {
	opt   Options
	addr  string // host:port
	where string // for messages

	// turn is held by whoever looks at or makes the connection. A channel, because waiting for it must end with a context.
	turn   chan struct{}
	live   *session // guarded by turn; nil before the first connect
	closed bool     // guarded by turn

	background sync.WaitGroup // watchers of connections and reads ahead
}

var (
	_ store.Driver    = (*Driver)(nil)
	_ store.Inspector = (*Driver)(nil)
	_ store.Janitor   = (*Driver)(nil)
)

// Open connects and looks for the store. Errors: store.ErrNoStore when there is no folder or no marker; fs.ErrPermission
// when the server's key is not the known one, or the login is refused. All of these carry a hint.
func Open(ctx context.Context, opt Options) (*Driver, error) {
	if opt.Port == 0 {
		opt.Port = 22
	}
	if opt.Path == "" {
		opt.Path = "."
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 30 * time.Second
	}
	if opt.Stall <= 0 {
		opt.Stall = store.DefaultStall
	}
	if opt.KeyFile != "" {
		opt.AgentSocket = "" // that key is the one to offer
	}
	if err := opt.check(); err != nil {
		return nil, fmt.Errorf("open SFTP store: %w: %w", holdfast.ErrUsage, err)
	}
	d := &Driver{
		opt: opt, addr: net.JoinHostPort(opt.Host, strconv.Itoa(opt.Port)), where: store.SSHAddress("sftp", opt.User, opt.Host, opt.Port, opt.Path), turn: make(chan struct{}, 1),
	}
	err := opt.Retrier.Do(ctx, func() (bool, error) {
		return true, d.do(ctx, func(s *session) error {
			if opt.Create {
				if err := d.create(s); err != nil {
					return err
				}
			}
			return d.check(s)
		})
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", d.where, classify(err)), d.Close())
	}
	return d, nil
}

func (opt Options) check() error {
	switch {
	case opt.Retrier == nil:
		return errors.New("no retrier is given")
	case opt.Host == "" || opt.User == "":
		return holdfast.WithHint(errors.New("a host and a user are needed"), "write sftp://USER@HOST/PATH")
	case strings.ContainsAny(opt.Host+opt.User, "\n\r\x00 "):
		return errors.New("the host and the user must not contain spaces or control characters")
	case len(opt.KnownHosts) == 0:
		return holdfast.WithHint(errors.New("no known_hosts file is given"), "set known_hosts: to the file with the server's key")
	case opt.KeyFile == "" && opt.AgentSocket == "" && opt.Password.IsZero():
		return holdfast.WithHint(errors.New("there is nothing to log in with"), "set key_file: to a private key")
	}
	return nil
}

// Close ends the connection and waits for what still ran on it.
func (d *Driver) Close() error {
	d.turn <- struct{}{}
	d.closed = true
	if d.live != nil {
		d.live.close()
	}
	<-d.turn
	d.background.Wait()
	return nil
}

// at is where the object or folder of that name is at the far side; "." is the store itself.
func (d *Driver) at(name string) string { return path.Join(d.opt.Path, name) }

// create makes the folder and the marker. It may be called again after it was cut.
func (d *Driver) create(s *session) error {
	if _, err := s.sftp.Lstat(d.at(marker)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.sftp.Mkdir(d.opt.Path); err == nil {
		if err := s.private(d.opt.Path, dirMode); err != nil {
			return err
		}
	} else if info, statErr := s.sftp.Stat(d.opt.Path); statErr != nil || !info.IsDir() {
		err := d.diagnose(s, err)
		if errors.Is(err, fs.ErrNotExist) {
			return holdfast.WithHint(fmt.Errorf("make the folder: %w: the folder above it is missing", store.ErrNoStore),
				"mount the disk there, or make the folder "+path.Dir(d.opt.Path)+" on the server")
		}
		return fmt.Errorf("make the folder: %w", err)
	}
	if err := d.writeMarker(s); err != nil {
		return fmt.Errorf("write %s: %w", marker, d.diagnose(s, err))
	}
	return nil
}

// check looks for the marker, before every call: a disk can go while its store is open.
func (d *Driver) check(s *session) error {
	_, err := s.sftp.Lstat(d.at(marker))
	if errors.Is(err, fs.ErrNotExist) {
		// The cause is not wrapped: fs.ErrNotExist speaks of objects.
		return holdfast.WithHint(fmt.Errorf("%w: %s has no file %s", store.ErrNoStore, d.where, marker),
			"mount the disk at the far side, correct the path, or make a new store there with `holdfast backup --create-store`")
	}
	return err
}
