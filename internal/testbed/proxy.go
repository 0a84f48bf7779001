package testbed

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy stands between a client and an HTTP server, hands on what it gets, and fails where a [Fault] says so. Its methods
// are safe for concurrent use.
type Proxy struct {
	target    string
	server    *httptest.Server
	transport *http.Transport
	closed    chan struct{}

	mu     sync.Mutex // guards all below
	faults []*Fault
	seen   []string
}

// Failure is how a request fails.
type Failure int

// The failures. Zero fails nothing: the request goes through the Fault's functions only.
const (
	// Answer gives Status and Body instead of the server's answer, which is never asked.
	Answer Failure = iota + 1
	// ResetBefore resets the connection before the body is read; the server sees nothing.
	ResetBefore
	// ResetAmid resets it when half of the body has reached the server.
	ResetAmid
	// ResetAfter resets it when the server has done what it was asked: failed but persisted.
	ResetAfter
	// HalfOpen takes the request and never answers.
	HalfOpen
	// Drip sends the body of the answer a byte at a time, with a pause after each.
	Drip
	// CutAnswer resets the connection when half of the answer's body was sent.
	CutAnswer
)

// Fault is a rule for some requests.
type Fault struct {
	// Match picks the requests that count. nil: all.
	Match func(*http.Request) bool
	// Nth is the first one that fails, from 1. 0: the first.
	Nth int
	// Times is how many fail from there on. 0: one; below 0: all.
	Times int

	Failure Failure
	Status  int         // of Answer
	Header  http.Header // of Answer, such as Retry-After
	Body    string      // of Answer

	// Request may change what the server gets; Response what the client gets.
	Request  func(*http.Request)
	Response func(*http.Response)

	matched int
}

// NewProxy starts a proxy to target, which is HOST:PORT or an http URL. It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	p := &Proxy{
		target: strings.TrimSuffix(strings.TrimPrefix(target, "http://"), "/"),
		// Signed headers must arrive as they were sent.
		transport: &http.Transport{DisableCompression: true}, closed: make(chan struct{}),
	}
	p.server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(func() {
		close(p.closed)
		p.server.CloseClientConnections()
		p.server.Close()
		p.transport.CloseIdleConnections()
	})
	return p
}

// Addr is where the proxy listens: HOST:PORT.
func (p *Proxy) Addr() string { return p.server.Listener.Addr().String() }

// URL is Addr as a URL.
func (p *Proxy) URL() string { return p.server.URL }

// Fail adds a rule. The first one that a request falls under is the one that counts.
func (p *Proxy) Fail(fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, &fault)
}

// Heal forgets all rules.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

// Requests are those that came, as "METHOD PATH?QUERY", in order, and forgets them.
func (p *Proxy) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.seen
	p.seen = nil
	return seen
}

// pick counts r and returns the rule that it falls under.
func (p *Proxy) pick(r *http.Request) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, r.Method+" "+r.URL.RequestURI())
	for _, fault := range p.faults {
		if fault.Match != nil && !fault.Match(r) {
			continue
		}
		fault.matched++
		first, times := max(1, fault.Nth), max(1, fault.Times)
		if fault.matched >= first && (fault.Times < 0 || fault.matched < first+times) {
			return *fault
		}
	}
	return Fault{}
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	fault := p.pick(r)
	switch fault.Failure {
	case Answer:
		_, _ = io.Copy(io.Discard, r.Body) // else the client may see a reset instead
		for name, values := range fault.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(fault.Status)
		_, _ = io.WriteString(w, fault.Body) // the client may have gone
		return
	case ResetBefore:
		reset(w)
		return
	case HalfOpen:
		_, _ = io.Copy(io.Discard, r.Body) // the client may have gone
		select {
		case <-p.closed:
		case <-r.Context().Done():
		}
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	out := r.Clone(ctx)
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", p.target, ""
	if r.ContentLength == 0 {
		out.Body = http.NoBody
	}
	if fault.Failure == ResetAmid {
		out.Body = io.NopCloser(io.LimitReader(r.Body, r.ContentLength/2))
	}
	if fault.Request != nil {
		fault.Request(out)
	}
	answer, err := p.transport.RoundTrip(out)
	if err != nil {
		reset(w)
		return
	}
	defer answer.Body.Close()
	if fault.Failure == ResetAfter || fault.Failure == ResetAmid {
		_, _ = io.Copy(io.Discard, answer.Body) // the server has ended now
		reset(w)
		return
	}
	if fault.Response != nil {
		fault.Response(answer)
	}
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	switch fault.Failure {
	case Drip:
		p.drip(w, r, answer.Body)
	case CutAnswer:
		length, _ := strconv.ParseInt(answer.Header.Get("Content-Length"), 10, 64) // 0: cut at once
		_, _ = io.CopyN(w, answer.Body, length/2)                                  // the client may have gone
		_ = http.NewResponseController(w).Flush()                                  // as above
		reset(w)
	default:
		_, _ = io.Copy(w, answer.Body) // the client may have gone
	}
}

const dripPause = 20 * time.Millisecond

func (p *Proxy) drip(w http.ResponseWriter, r *http.Request, body io.Reader) {
	ticks := time.NewTicker(dripPause)
	defer ticks.Stop()
	for {
		if _, err := io.CopyN(w, body, 1); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-ticks.C:
		case <-p.closed:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// reset closes the client's connection in the way that a crash of the server would.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the answer has begun; net/http closes the connection
	}
	resetConn(conn)
}

func resetConn(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a plain close is a lost connection too
	}
	_ = conn.Close() // nothing is left to tell
}
