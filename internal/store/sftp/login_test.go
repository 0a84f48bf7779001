package sftp_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	client "github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"holdfast"
	"holdfast/internal/store"
	"holdfast/internal/store/sftp"
	"holdfast/internal/store/storetest"
	"holdfast/internal/testbed"
)

func TestWrongKey(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	opt := options(s, "store")
	opt.KeyFile = s.OtherKey
	if hint := wantRefused(t, opt, "root may not log in with the key SHA256:", s.OtherKey); !strings.Contains(hint, "authorized_keys") {
		t.Errorf("hint %q does not say what to do", hint)
	}
}

func TestUsage(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	noSFTP := testbed.StartSSHD(t, testbed.SSHDOptions{NoSFTP: true})
	for name, change := range map[string]func(*sftp.Options){
		"nothing to log in with": func(o *sftp.Options) { o.KeyFile = "" },
		"no known_hosts":         func(o *sftp.Options) { o.KnownHosts = nil },
		"no user":                func(o *sftp.Options) { o.User = "" },
		"no such key file":       func(o *sftp.Options) { o.KeyFile += "-none" },
		"the public key":         func(o *sftp.Options) { o.KeyFile += ".pub" },
		"no agent":               func(o *sftp.Options) { o.KeyFile, o.AgentSocket = "", filepath.Join(t.TempDir(), "none") },
		"no SFTP":                func(o *sftp.Options) { *o = options(noSFTP, "store") },
	} {
		opt := options(s, "store")
		change(&opt)
		_, err := sftp.Open(t.Context(), opt)
		if !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
			t.Errorf("%s: error %v with hint %q, want a usage error", name, err, holdfast.Hint(err))
		}
	}
	opt := options(s, "store")
	opt.Retrier = nil
	if _, err := sftp.Open(t.Context(), opt); err == nil {
		t.Error("Open without a retrier succeeded")
	}
}

func TestKeyWithPassphrase(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	const passphrase = "correct-horse"
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", s.KeyFile).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	opt := options(s, "store")
	opt.KeyPassphrase = holdfast.NewSecret(passphrase)
	open(t, opt)
	for _, wrong := range []string{"", "battery-staple"} {
		opt.KeyPassphrase = holdfast.NewSecret(wrong)
		_, err := sftp.Open(t.Context(), opt)
		if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(holdfast.Hint(err), "key_passphrase") {
			t.Errorf("passphrase %q: error %v with hint %q", wrong, err, holdfast.Hint(err))
		}
		if wrong != "" && strings.Contains(err.Error(), wrong) {
			t.Errorf("the error has the passphrase: %v", err)
		}
	}
}

func TestAgent(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	text, err := os.ReadFile(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParseRawPrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	opt := options(s, "store")
	opt.KeyFile, opt.AgentSocket = "", startAgent(t, func(conn net.Conn) { agent.ServeAgent(ring, conn) })
	wantRefused(t, opt, "0 keys of the SSH agent")
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	open(t, opt)
}

// startAgent listens on a socket until the test ends, and returns it.
func startAgent(t *testing.T, serve func(net.Conn)) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return socket
}

// TestSilentAgent: an agent that takes the question and never answers holds nothing up beyond the context.
func TestSilentAgent(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	opt := options(s, "store")
	opt.KeyFile, opt.AgentSocket = "", startAgent(t, func(conn net.Conn) {
		defer conn.Close()
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		cancel()
		io.Copy(io.Discard, conn) // until the driver gives up
	})
	d, err := sftp.Open(ctx, opt)
	if err == nil {
		d.Close()
	}
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "ask the SSH agent") {
		t.Errorf("error %v, want context.Canceled while the agent was asked", err)
	}
}

// TestDeadAgent: what the environment says of an agent does not break a store that has something else to log in with.
func TestDeadAgent(t *testing.T) {
	dead := filepath.Join(t.TempDir(), "none")
	s := testbed.StartSSHD(t, testbed.SSHDOptions{})
	opt := options(s, "store")
	opt.AgentSocket = dead
	open(t, opt)

	signer := newSigner(t)
	addr := serve(t, signer, &ssh.ServerConfig{PasswordCallback: func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, nil }})
	opt = passwordOptions(t, addr, knownhosts.Line([]string{addr}, signer.PublicKey()))
	opt.AgentSocket = dead
	open(t, opt)
}

// TestAgentBesideAPassword: its keys are for a server that wants both; of one that the password is enough for it is not asked.
func TestAgentBesideAPassword(t *testing.T) {
	signer := newSigner(t)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: &key}); err != nil {
		t.Fatal(err)
	}
	right := func(_ ssh.ConnMetadata, given []byte) (*ssh.Permissions, error) {
		if string(given) != password {
			return nil, errors.New("wrong")
		}
		return nil, nil
	}
	both := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(offered.Marshal(), mine.PublicKey().Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{PasswordCallback: right}}
	}}
	addr := serve(t, signer, both)
	opt := passwordOptions(t, addr, knownhosts.Line([]string{addr}, signer.PublicKey()))
	opt.AgentSocket = startAgent(t, func(conn net.Conn) { agent.ServeAgent(ring, conn) })
	open(t, opt)

	addr = serve(t, signer, &ssh.ServerConfig{PasswordCallback: right})
	opt = passwordOptions(t, addr, knownhosts.Line([]string{addr}, signer.PublicKey()))
	opt.AgentSocket = startAgent(t, func(conn net.Conn) { conn.Close(); t.Error("the agent was asked") })
	open(t, opt)
}

// serve starts an SSH server of another make, which takes a password: pkg/sftp's own, whose rename writes over what is there.
func serve(t *testing.T, signer ssh.Signer, config *ssh.ServerConfig) (addr string) {
	t.Helper()
	config.AddHostKey(signer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go session(conn, config)
		}
	}()
	return listener.Addr().String()
}

func session(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		go func() {
			for request := range requests {
				request.Reply(request.Type == "subsystem", nil)
			}
		}()
		go func() {
			defer channel.Close()
			if server, err := client.NewServer(channel); err == nil {
				server.Serve()
			}
		}()
	}
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

const password = "open-sesame-42"

func passwordOptions(t *testing.T, addr, line string) sftp.Options {
	t.Helper()
	return sftp.Options{
		Host: "127.0.0.1", Port: port(t, addr), User: "somebody",
		Path: filepath.Join(t.TempDir(), "store"), Password: holdfast.NewSecret(password), KnownHosts: []string{write(t, line+"\n")},
		Retrier: store.NewRetrier(2, 1), Create: true,
	}
}

func TestPassword(t *testing.T) {
	for name, config := range map[string]*ssh.ServerConfig{
		"password": {PasswordCallback: func(_ ssh.ConnMetadata, given []byte) (*ssh.Permissions, error) {
			if string(given) != password {
				return nil, errors.New("no")
			}
			return nil, nil
		}},
		"keyboard-interactive": {KeyboardInteractiveCallback: func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			answers, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil || len(answers) != 1 || answers[0] != password {
				return nil, errors.New("no")
			}
			return nil, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			signer := newSigner(t)
			addr := serve(t, signer, config)
			opt := passwordOptions(t, addr, knownhosts.Line([]string{addr}, signer.PublicKey()))
			open(t, opt)
			opt.Password = holdfast.NewSecret("wrong-" + password)
			_, err := sftp.Open(t.Context(), opt)
			if !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error()+holdfast.Hint(err), password) {
				t.Errorf("error %v, want fs.ErrPermission and no password", err)
			}
		})
	}
}

// TestLawsOnAnotherServer: the laws hold where rename writes over what is there.
func TestLawsOnAnotherServer(t *testing.T) {
	signer := newSigner(t)
	addr := serve(t, signer, &ssh.ServerConfig{NoClientAuth: true})
	storetest.Run(t, func(t *testing.T) (store.Driver, func()) {
		opt := passwordOptions(t, addr, knownhosts.Line([]string{addr}, signer.PublicKey()))
		return open(t, opt), func() { remove(t, opt.Path) }
	})
}

// TestCertificateAuthority: a host certificate is taken when its authority is known for the host, and another is refused.
func TestCertificateAuthority(t *testing.T) {
	authority, host := newSigner(t), newSigner(t)
	certificate := &ssh.Certificate{
		Key: host.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"127.0.0.1"}, ValidBefore: ssh.CertTimeInfinity,
	}
	if err := certificate.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(certificate, host)
	if err != nil {
		t.Fatal(err)
	}
	addr := serve(t, signer, &ssh.ServerConfig{NoClientAuth: true})
	pattern := "@cert-authority " + knownhosts.Normalize(addr) + " "
	open(t, passwordOptions(t, addr, pattern+strings.TrimSpace(string(ssh.MarshalAuthorizedKey(authority.PublicKey())))))
	wrong := passwordOptions(t, addr, pattern+strings.TrimSpace(string(ssh.MarshalAuthorizedKey(newSigner(t).PublicKey()))))
	wantRefused(t, wrong)
}

func port(t *testing.T, addr string) int {
	t.Helper()
	resolved, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return resolved.Port
}
