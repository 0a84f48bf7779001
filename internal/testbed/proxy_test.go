package testbed_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
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
