package testbed

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// TCPProxy stands between a client and any TCP server, hands on what it gets, and fails where a [ConnFault] says so. For HTTP
// there is [Proxy]. Its methods are safe for concurrent use.
type TCPProxy struct {
	target   string
	listener net.Listener
	closed   chan struct{}
	running  sync.WaitGroup

	mu     sync.Mutex // guards all below
	faults []*ConnFault
	conns  map[net.Conn]bool
	count  int
}

// ConnFault is a rule for some connections. Its zero value resets the first one at once.
type ConnFault struct {
	// Nth is the first connection that fails, from 1, counted from when the rule was made. 0: the first.
	Nth int
	// Times is how many fail from there on. 0: one; below 0: all.
	Times int
	// Up is how many bytes reach the server before the connection fails; Down how many reach the client. Below 0: no limit.
	Up, Down int64
	// Hang lets the connection stand and moves nothing more, instead of a reset: half-open.
	Hang bool
	// Drip sends to the client a byte at a time, with a pause after each.
	Drip bool

	counted int
}

// NewTCPProxy starts a proxy to target, which is HOST:PORT. It ends with the test.
func NewTCPProxy(t testing.TB, target string) *TCPProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &TCPProxy{target: target, listener: listener, closed: make(chan struct{}), conns: map[net.Conn]bool{}}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		close(p.closed)
		_ = listener.Close() // accept ends by it
		p.mu.Lock()
		for conn := range p.conns {
			_ = conn.Close() // nobody waits for what was to come
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

// Addr is where the proxy listens: HOST:PORT.
func (p *TCPProxy) Addr() string { return p.listener.Addr().String() }

// Port is the port of Addr.
func (p *TCPProxy) Port() string { return p.Addr()[strings.LastIndexByte(p.Addr(), ':')+1:] }

// Fail adds a rule. The first one that a connection falls under is the one that counts.
func (p *TCPProxy) Fail(fault ConnFault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, &fault)
}

// Heal forgets all rules; connections that have failed stay as they are.
func (p *TCPProxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Connections is how many came so far.
func (p *TCPProxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// pick counts a connection and returns the rule that it falls under.
func (p *TCPProxy) pick(conn net.Conn) ConnFault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	p.conns[conn] = true
	for _, fault := range p.faults {
		fault.counted++
		first, times := max(1, fault.Nth), max(1, fault.Times)
		if fault.counted >= first && (fault.Times < 0 || fault.counted < first+times) {
			return *fault
		}
	}
	return ConnFault{Up: -1, Down: -1}
}

func (p *TCPProxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		fault := p.pick(conn)
		p.running.Go(func() { p.serve(conn, fault) })
	}
}

func (p *TCPProxy) serve(client net.Conn, fault ConnFault) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		resetConn(client)
		return
	}
	p.mu.Lock()
	p.conns[server] = true
	p.mu.Unlock()
	// fail ends both sides, once one of them has let through what it may.
	fail := func() {
		if fault.Hang {
			<-p.closed
		}
		resetConn(client)
		_ = server.Close() // it sees its client go
	}
	p.running.Go(func() {
		if p.pass(server, client, fault.Up, false) {
			fail()
			return
		}
		if tcp, ok := server.(*net.TCPConn); ok {
			_ = tcp.CloseWrite() // the client has said all
		}
	})
	if p.pass(client, server, fault.Down, fault.Drip) {
		fail()
		return
	}
	_ = client.Close() // the server has said all
}

// pass copies up to limit bytes (below 0: all), and reports whether the limit was reached.
func (p *TCPProxy) pass(to, from net.Conn, limit int64, drip bool) bool {
	var r io.Reader = from
	if limit >= 0 {
		r = io.LimitReader(from, limit)
	}
	var n int64
	if drip {
		n = p.drip(to, r)
	} else {
		n, _ = io.Copy(to, r) // one of both may go at any time
	}
	return limit >= 0 && n == limit
}

func (p *TCPProxy) drip(to io.Writer, from io.Reader) (n int64) {
	ticks := time.NewTicker(dripPause)
	defer ticks.Stop()
	for {
		if _, err := io.CopyN(to, from, 1); err != nil {
			return n
		}
		n++
		select {
		case <-ticks.C:
		case <-p.closed:
			return n
		}
	}
}
