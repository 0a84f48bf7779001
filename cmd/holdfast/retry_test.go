package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast/internal/testbed"
)

// TestBusyServer: a server that is busy now and then costs time and no backup, and the person hears of it.
func TestBusyServer(t *testing.T) {
	t.Parallel()
	server := testbed.StartS3(t)
	to, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(to) // it leaves the Host alone, which is signed
	var puts atomic.Int64
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && puts.Add(1)%3 == 0 {
			http.Error(w, "<Error><Code>SlowDown</Code></Error>", http.StatusServiceUnavailable)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(busy.Close)
	w := newWorkplace(t)
	w.env = append(w.env, "AWS_ACCESS_KEY_ID="+server.AccessKey, "AWS_SECRET_ACCESS_KEY="+server.SecretKey, "AWS_REGION="+server.Region)
	w.write(t, "data/a.txt", "one")
	recipient := strings.TrimSpace(w.good(t, "key", "new", "-o", "key.txt").out)
	config := w.write(t, "holdfast.yaml", `version: 1
keys: {ops: {recipient: `+recipient+`}}
stores: {main: {kind: s3, endpoint: "`+busy.URL+`", bucket: acme, path_style: true}}
sources: {one: {kind: files, paths: [`+w.path("data")+`]}}
jobs: {app: {sources: [one], store: main, recipients: [ops]}}
`)
	w.good(t, "backup", "--config", config, "--create-store").expect(t, 0, "committed", "store main: what failed was tried again ")
	w.good(t, "verify", "--config", config, "--level", "L1").expect(t, 0, "L1 good")
	w.good(t, "backup", "--config", config, "--json").expect(t, 0, `"event":"retries"`)
}
