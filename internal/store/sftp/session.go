package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"holdfast"
	"holdfast/internal/store"
)

// grace is how long a call may go on after its context ended before its connection is closed under it.
const grace = 3 * time.Second

// session is one connection. When it ends, calls on it fail, and the next call of the driver makes another one.
type session struct {
	sftp *sftp.Client
	conn net.Conn
	key  string // fingerprint of the server's key

	once  sync.Once
	ended chan struct{} // closed when the session is of no more use

	busy atomic.Int64 // calls that run
	last atomic.Int64 // when a call ended, in nanoseconds since 1970
}

func (s *session) close() {
	s.once.Do(func() {
		close(s.ended)
		_ = s.conn.Close() // nothing is on its way that anybody waits for
	})
}

// over reports whether the session has ended, or may end under the next call because nothing has moved on it for long.
func (s *session) over(stall time.Duration) bool {
	select {
	case <-s.ended:
		return true
	default:
	}
	return s.busy.Load() == 0 && time.Since(time.Unix(0, s.last.Load())) > stall*3/4
}

// run calls op. Calls of the SFTP client know no context: when ctx ends and op goes on, the session is closed.
func (s *session) run(ctx context.Context, op func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.busy.Add(1)
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-done:
		case <-timer.C:
			s.close()
		}
	})
	err := op()
	close(done)
	stop()
	s.last.Store(time.Now().UnixNano())
	s.busy.Add(-1)
	if err == nil {
		return nil
	}
	if broken(err) {
		s.close()
	}
	if cut := ctx.Err(); cut != nil {
		return errors.Join(cut, err)
	}
	return err
}

// answers are errors that a living server gave, or that this package made of its answers.
var answers = []error{
	fs.ErrNotExist, fs.ErrPermission, fs.ErrExist, io.EOF, context.Canceled, context.DeadlineExceeded,
	holdfast.ErrDifference, store.ErrExists, store.ErrFull, store.ErrReadOnly, store.ErrNoStore,
}

// broken reports whether err speaks of the connection and not of a file. In doubt it does: connecting again is cheap.
func broken(err error) bool {
	var status *sftp.StatusError
	if errors.As(err, &status) {
		return status.Code == codeNoConnection || status.Code == codeConnectionLost
	}
	return !slices.ContainsFunc(answers, func(answer error) bool { return errors.Is(err, answer) })
}

// private sets the mode of what was just made. A server that refuses to do so is lived with: Inspect tells what others can read.
func (s *session) private(name string, mode fs.FileMode) error {
	err := s.sftp.Chmod(name, mode)
	var status *sftp.StatusError
	if errors.Is(err, fs.ErrPermission) || errors.As(err, &status) {
		return nil
	}
	return err
}

// has reports whether the server names an extension of OpenSSH's in its greeting.
func (s *session) has(extension string) bool {
	_, ok := s.sftp.HasExtension(extension + "@openssh.com")
	return ok
}

// do calls op once on a living session.
func (d *Driver) do(ctx context.Context, op func(s *session) error) error {
	s, err := d.session(ctx)
	if err != nil {
		return err
	}
	return s.run(ctx, func() error { return op(s) })
}

// session returns the connection, and makes it when there is none.
func (d *Driver) session(ctx context.Context) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if d.closed {
		return nil, fmt.Errorf("use %s: %w", d.where, fs.ErrClosed)
	}
	if d.live != nil {
		if !d.live.over(d.opt.Stall) {
			return d.live, nil
		}
		d.live.close()
		d.live = nil
	}
	s, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	d.live = s
	d.background.Go(func() {
		_ = s.sftp.Wait() // why it ended, each call that it cut is told
		s.close()
	})
	return s, nil
}

// connect dials, compares the server's key, logs in and starts SFTP, all within Options.Timeout.
func (d *Driver) connect(ctx context.Context) (*session, error) {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, d.opt.Timeout)
	defer cancel()
	conn, err := store.Dial(ctx, "tcp", d.addr, d.opt.Stall)
	if err != nil {
		return nil, errors.Join(caller.Err(), unreachable(d.addr, err))
	}
	// The handshake knows no context either.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	s, err := d.handshake(ctx, conn)
	if err != nil {
		_ = conn.Close() // the first error tells
		switch {
		case caller.Err() != nil:
			err = errors.Join(caller.Err(), err)
		case ctx.Err() != nil:
			err = fmt.Errorf("no login within %v: %w", d.opt.Timeout, err)
		}
		return nil, fmt.Errorf("connect to %s: %w", d.addr, err)
	}
	return s, nil
}

// unreachable adds what can be done about a name that does not resolve. It stays an error that may be tried again.
func unreachable(addr string, err error) error {
	err = fmt.Errorf("connect to %s: %w", addr, err)
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return holdfast.WithHint(err, "check host: it is no name that this machine can resolve")
	}
	return err
}

func (d *Driver) handshake(ctx context.Context, conn net.Conn) (*session, error) {
	methods, tried, release, err := d.methods(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	hosts, err := readKnown(d.opt.KnownHosts)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, ended: make(chan struct{})}
	s.last.Store(time.Now().UnixNano())
	config := &ssh.ClientConfig{
		User: d.opt.User, Auth: methods,
		HostKeyAlgorithms: hosts.algorithms(d.addr, conn.RemoteAddr()),
		HostKeyCallback: func(addr string, remote net.Addr, key ssh.PublicKey) error {
			s.key = ssh.FingerprintSHA256(key)
			return hosts.verify(addr, remote, key)
		},
	}
	sshConn, channels, requests, err := ssh.NewClientConn(conn, d.addr, config)
	if err != nil {
		return nil, refused(err, d.opt.User, tried, hosts, d.addr, conn.RemoteAddr())
	}
	client := ssh.NewClient(sshConn, channels, requests)
	s.sftp, err = sftp.NewClient(client, sftp.UseConcurrentWrites(true))
	if err != nil {
		err = fmt.Errorf("start SFTP: %w", err)
		if strings.Contains(err.Error(), "subsystem request failed") {
			return nil, holdfast.WithHint(fmt.Errorf("%w: %w", holdfast.ErrUsage, err),
				"the server offers no SFTP to this login: allow it there (Subsystem sftp internal-sftp), or use kind: rsync")
		}
		return nil, err
	}
	return s, nil
}

// refused tells apart why a handshake failed: the server's key, our login, or the network.
func refused(err error, user string, tried []string, hosts *known, addr string, remote net.Addr) error {
	var algorithms *ssh.AlgorithmNegotiationError
	switch {
	case strings.Contains(err.Error(), "unable to authenticate"), strings.Contains(err.Error(), "Too many authentication failures"):
		return holdfast.WithHint(fmt.Errorf("%w: %s may not log in with %s: %w", fs.ErrPermission, user, strings.Join(tried, ", "), err),
			"add the public key to the authorized_keys of that user on the server, and check user: and key_file:")
	case errors.As(err, &algorithms) && len(hosts.wanted(addr, remote)) > 0 && strings.Contains(err.Error(), "host key"):
		return holdfast.WithHint(fmt.Errorf("%w: the server has no key of the kind that known_hosts has: %w", fs.ErrPermission, err),
			"ask the server's owner for the fingerprint of its new key, and put that key into known_hosts if the old one is gone")
	}
	return err
}

// methods returns what to log in with, names of it for messages, and what to call after the handshake.
func (d *Driver) methods(ctx context.Context) (methods []ssh.AuthMethod, tried []string, release func(), err error) {
	closeAgent := func() {}
	var signers []ssh.Signer
	if d.opt.KeyFile != "" {
		signer, err := readKey(d.opt.KeyFile, d.opt.KeyPassphrase)
		if err != nil {
			return nil, nil, nil, err
		}
		signers = append(signers, signer)
		tried = append(tried, "the key "+ssh.FingerprintSHA256(signer.PublicKey())+" of "+d.opt.KeyFile)
	}
	password := !d.opt.Password.IsZero()
	if d.opt.AgentSocket != "" && !password {
		var offered []ssh.Signer
		if offered, closeAgent, err = d.askAgent(ctx); err != nil {
			return nil, nil, nil, err
		}
		signers = append(signers, offered...)
		tried = append(tried, fmt.Sprintf("%d keys of the SSH agent", len(offered)))
	}
	if len(signers) > 0 {
		methods = append(methods, ssh.PublicKeys(signers...))
	}
	if password {
		methods = append(methods, ssh.Password(d.opt.Password.Reveal()),
			ssh.KeyboardInteractive(func(_, _ string, questions []string, echos []bool) ([]string, error) {
				answers := make([]string, len(questions))
				for i := range questions {
					if echos[i] {
						return nil, errors.New("the server asks for more than a password")
					}
					answers[i] = d.opt.Password.Reveal()
				}
				return answers, nil
			}))
		tried = append(tried, "a password")
	}
	if d.opt.AgentSocket != "" && password {
		// Only a server that wants more than the password gets to see its keys, and one that has ended is none.
		methods = append(methods, ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
			offered, end, err := d.askAgent(ctx)
			if err != nil {
				return nil, nil
			}
			closeAgent = end
			return offered, nil
		}))
		tried = append(tried, "the keys of the SSH agent")
	}
	return methods, tried, func() { closeAgent() }, nil
}

// askAgent returns the keys of the agent, and what to call when they are needed no more. One that does not answer is given up with ctx.
func (d *Driver) askAgent(ctx context.Context) (offered []ssh.Signer, release func(), err error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", d.opt.AgentSocket)
	if err != nil {
		return nil, nil, holdfast.WithHint(fmt.Errorf("connect to the SSH agent: %w: %w", holdfast.ErrUsage, err), "start the agent, or set key_file:")
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	release = func() {
		stop()
		_ = conn.Close() // nothing was written that anybody keeps
	}
	if offered, err = agent.NewClient(conn).Signers(); err != nil {
		release()
		return nil, nil, fmt.Errorf("ask the SSH agent for its keys: %w", err)
	}
	return offered, release, nil
}

func readKey(file string, passphrase holdfast.Secret) (ssh.Signer, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("read the private key: %w: %w", holdfast.ErrUsage, err), "check key_file:")
	}
	var signer ssh.Signer
	if passphrase.IsZero() {
		signer, err = ssh.ParsePrivateKey(text)
	} else {
		signer, err = ssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase.Reveal()))
	}
	var missing *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &missing):
		return nil, holdfast.WithHint(fmt.Errorf("read the private key %s: %w: it has a passphrase", file, holdfast.ErrUsage),
			"set key_passphrase:, or make a key without one for this purpose alone")
	case err != nil && !passphrase.IsZero():
		return nil, holdfast.WithHint(fmt.Errorf("read the private key %s: %w: %w", file, holdfast.ErrUsage, err), "check key_passphrase:")
	case err != nil:
		return nil, holdfast.WithHint(fmt.Errorf("read the private key %s: %w: %w", file, holdfast.ErrUsage, err),
			"give the private key (not the .pub file), in the format that ssh-keygen writes")
	}
	return signer, nil
}
