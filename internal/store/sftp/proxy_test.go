package sftp_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/internal/store/sftp"
	"holdfast/internal/testbed"
)

// limits is what one connection through a proxy may carry. 0: all.
type limits struct {
	up, down int64 // bytes to and from the server, after which the connection is reset
	stall    bool  // at a limit nothing is carried any more, and nothing is closed
}

// proxy stands before a server and loses connections.
type proxy struct {
	listener net.Listener
	target   string
	up, down atomic.Int64 // bytes carried
	accepted atomic.Int64

	mu    sync.Mutex // guards plan and conns
	plan  func(nth int64) limits
	conns []net.Conn
	group sync.WaitGroup
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target}
	p.lose(func(int64) limits { return limits{} })
	p.group.Go(p.serve)
	t.Cleanup(func() {
		listener.Close()
		p.cut()
		p.group.Wait()
	})
	return p
}

// lose says what connections may carry from now on; nth counts from 0 since this call.
func (p *proxy) lose(plan func(nth int64) limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.accepted.Load()
	p.plan = func(nth int64) limits { return plan(nth - first) }
}

// cut resets all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		reset(conn)
	}
	p.conns = nil
}

func reset(conn net.Conn) {
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

func (p *proxy) serve() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.target)
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		may := p.plan(p.accepted.Add(1) - 1)
		p.conns = append(p.conns, near, far)
		p.mu.Unlock()
		p.group.Go(func() { carry(far, near, may.up, may.stall, &p.up) })
		p.group.Go(func() { carry(near, far, may.down, may.stall, &p.down) })
	}
}

// carry copies until the limit.
func carry(to, from net.Conn, limit int64, stall bool, count *atomic.Int64) {
	buffer := make([]byte, 32<<10)
	for carried := int64(0); ; {
		piece := buffer
		if limit > 0 {
			piece = buffer[:min(int64(len(buffer)), limit-carried)]
		}
		if len(piece) == 0 {
			if !stall {
				reset(to)
				reset(from)
			}
			return
		}
		n, err := from.Read(piece)
		carried += int64(n)
		count.Add(int64(n))
		if _, writeErr := to.Write(piece[:n]); writeErr != nil || err != nil {
			to.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

// through are options that lead to the server through the proxy.
func (p *proxy) through(t *testing.T, s *testbed.SSHD, opt sftp.Options) sftp.Options {
	t.Helper()
	opt.Port = p.listener.Addr().(*net.TCPAddr).Port
	known, err := os.ReadFile(s.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "known_hosts")
	text := strings.ReplaceAll(string(known), fmt.Sprintf(":%d ", s.Port), fmt.Sprintf(":%d ", opt.Port))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	opt.KnownHosts = []string{file}
	return opt
}

// stream hides that a reader can seek, as the output of a program cannot.
type stream struct{ io.Reader }
