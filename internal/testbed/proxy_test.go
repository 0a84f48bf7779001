package testbed_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/testbed"
)

// TestProxy: each failure is what it says, for the client and for the server.
func TestProxy(t *testing.T) {
	const body = "0123456789"
	for _, test := range []struct {
		name    string
		fault   testbed.Fault
		status  int    // 0: no answer
		answer  string // what could be read of it
		broken  bool   // reading it fails
		arrived string // at the server
	}{
		{"none", testbed.Fault{Nth: 2}, 200, "got 10", false, body},
		{"answer", testbed.Fault{Failure: testbed.Answer, Status: 503, Body: "busy"}, 503, "busy", false, ""},
		{"before", testbed.Fault{Failure: testbed.ResetBefore}, 0, "", false, ""},
		{"amid", testbed.Fault{Failure: testbed.ResetAmid}, 0, "", false, "01234"},
		{"after", testbed.Fault{Failure: testbed.ResetAfter}, 0, "", false, body},
		{"half open", testbed.Fault{Failure: testbed.HalfOpen}, 0, "", false, ""},
		{"drip", testbed.Fault{Failure: testbed.Drip}, 200, "got 10", false, body},
		{"cut answer", testbed.Fault{Failure: testbed.CutAnswer}, 200, "got", true, body},
		{"response", testbed.Fault{Response: func(r *http.Response) { r.StatusCode = 418 }}, 418, "got 10", false, body},
		{"no match", testbed.Fault{Match: func(*http.Request) bool { return false }, Failure: testbed.ResetBefore}, 200, "got 10", false, body},
	} {
		t.Run(test.name, func(t *testing.T) {
			var arrived atomic.Value
			ended := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(ended)
				data, err := io.ReadAll(r.Body)
				arrived.Store(string(data))
				if err == nil {
					_, _ = io.WriteString(w, "got 10") // the client may have gone
				}
			}))
			t.Cleanup(server.Close)
			proxy := testbed.NewProxy(t, server.URL)
			proxy.Fail(test.fault)
			client := &http.Client{Timeout: 30 * time.Second}
			if test.fault.Failure == testbed.HalfOpen {
				client.Timeout = 200 * time.Millisecond
			}
			answer, err := client.Post(proxy.URL()+"/x?y", "text/plain", strings.NewReader(body))
			if (err == nil) != (test.status != 0) {
				t.Fatalf("error %v, want an answer: %v", err, test.status != 0)
			}
			if err == nil {
				text, err := io.ReadAll(answer.Body)
				if err := errors.Join(err, answer.Body.Close()); answer.StatusCode != test.status || string(text) != test.answer || (err != nil) != test.broken {
					t.Errorf("the answer is %d %q, %v; want %d %q, broken: %v", answer.StatusCode, text, err, test.status, test.answer, test.broken)
				}
			}
			if test.arrived != "" {
				<-ended
			}
			if got, _ := arrived.Load().(string); got != test.arrived {
				t.Errorf("at the server arrived %q, want %q", got, test.arrived)
			}
			if requests := proxy.Requests(); len(requests) != 1 || requests[0] != "POST /x?y" {
				t.Errorf("the proxy saw %q", requests)
			}
		})
	}
}

// TestTCPProxy: each fault is what it says.
func TestTCPProxy(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	arrived := make(chan string, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				data, _ := io.ReadAll(conn) // a reset is what some cases are about
				_, _ = conn.Write([]byte("answer"))
				arrived <- string(data)
			}()
		}
	}()
	proxy := testbed.NewTCPProxy(t, listener.Addr().String())
	for _, test := range []struct {
		name    string
		fault   *testbed.ConnFault
		arrived string
		answer  string
		err     func(error) bool
	}{
		{"none", nil, "request", "answer", nil},
		{"up", &testbed.ConnFault{Up: 3, Down: -1}, "req", "", broken},
		{"down", &testbed.ConnFault{Up: -1, Down: 2}, "request", "an", broken},
		{"hang", &testbed.ConnFault{Up: -1, Down: 2, Hang: true}, "request", "an", func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
		{"drip", &testbed.ConnFault{Up: -1, Down: -1, Drip: true}, "request", "answer", nil},
		{"second", &testbed.ConnFault{Nth: 2}, "request", "answer", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			proxy.Heal()
			if test.fault != nil {
				proxy.Fail(*test.fault)
			}
			conn, err := net.Dial("tcp", proxy.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			patience := 30 * time.Second
			if test.fault != nil && test.fault.Hang {
				patience = 200 * time.Millisecond
			}
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte("request")); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil && test.err == nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn)
			if string(answer) != test.answer || (err != nil) != (test.err != nil) || err != nil && !test.err(err) {
				t.Errorf("the answer is %q, %v; want %q", answer, err, test.answer)
			}
			if got := <-arrived; got != test.arrived {
				t.Errorf("at the server arrived %q, want %q", got, test.arrived)
			}
		})
	}
	if n := proxy.Connections(); n != 6 {
		t.Errorf("the proxy counted %d connections, want 6", n)
	}
}

func broken(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
