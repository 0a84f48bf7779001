// Package metrics shows the last known state of all jobs as series that Prometheus reads: on a page, and in a file for node_exporter.
//
// It hides the names of the series, their labels, the text format and what is rendered when. Its laws:
//   - Every series is there from the first state on, for every job, task, store, volume and alarm, so that a rule needs no absent(). What never
//     happened has the timestamp 0, which is older than any limit; what cannot be known is NaN or +Inf, as its help says, and never good.
//   - Labels are names of the configuration and words of fixed sets. No identity of a backup and no name of an item is among them.
//   - It computes no age: a series has the time at which something happened, and stays true while nobody looks.
//   - A scrape waits for nothing but the rendering: it shows the last state, and holdfast_survey_timestamp_seconds says of when that is.
//
// It is not its job to find out the state (survey does), to judge it (health does), or to listen.
//
// The format is the text format 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/. Names follow
// https://prometheus.io/docs/practices/naming/. The label of a job is backup_job, because Prometheus has a job label of its own and
// would rename another one to exported_job.
package metrics

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/health"
)

// Build is what program this is.
type Build struct{ Version, GoVersion string }

// Set holds the series of the last state. It is safe for concurrent use.
type Set struct {
	build Build
	page  atomic.Pointer[page]
}

// page is one state rendered, once and when it is first asked for: updates may come more often than scrapes.
type page struct {
	text   func() []byte
	packed func() []byte // with gzip
}

// New returns a Set that knows no job yet: it shows the build, and that nothing was surveyed.
func New(build Build) *Set {
	s := &Set{build: build}
	s.Update(health.State{}, health.Limits{}, nil)
	return s
}

// Update replaces what is shown. findings are those of the state under the limits, as [health.Judge] tells them. It returns at once; the
// state and the findings must not be changed afterwards.
func (s *Set) Update(state health.State, limits health.Limits, findings []health.Finding) {
	p := &page{}
	p.text = sync.OnceValue(func() []byte { return render(state, limits, findings, s.build) })
	p.packed = sync.OnceValue(func() []byte { return pack(p.text()) })
	s.page.Store(p)
}

// Handler answers GET and HEAD with all series.
func (s *Set) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Set) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "metrics are only read", http.StatusMethodNotAllowed)
		return
	}
	p := s.page.Load()
	header := w.Header()
	header.Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	header.Set("Vary", "Accept-Encoding")
	body := p.text
	if takesGzip(r.Header.Values("Accept-Encoding")) {
		header.Set("Content-Encoding", "gzip")
		body = p.packed
	}
	data := body()
	header.Set("Content-Length", strconv.Itoa(len(data)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(data) // whoever asked is gone
	}
}

// takesGzip reads Accept-Encoding as far as Prometheus and browsers use it: a coding, with a weight that may refuse it.
func takesGzip(values []string) bool {
	for _, coding := range strings.Split(strings.Join(values, ","), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		number, given := strings.CutPrefix(strings.TrimSpace(weight), "q=")
		q, err := strconv.ParseFloat(number, 64)
		return !given || err == nil && q > 0
	}
	return false
}

// pack favours speed: the names repeat so much that the fastest level leaves a twentieth.
func pack(text []byte) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic("metrics: a level that gzip has, and a buffer in memory: " + err.Error())
	}
	return out.Bytes()
}

// WriteTextfile writes all series to a file for node_exporter's textfile collector, which may read it at any time: it is there whole or as
// it was, with mode 0644. The collector reads no file of another ending than .prom: that is an error that wraps holdfast.ErrUsage.
// See https://github.com/prometheus/node_exporter#textfile-collector.
func (s *Set) WriteTextfile(path string) error {
	if filepath.Ext(path) != ".prom" {
		return holdfast.WithHint(fmt.Errorf("%w: node_exporter reads no metrics from %s", holdfast.ErrUsage, path), "let the name of the file end with .prom")
	}
	if err := durable.WriteFile(path, s.page.Load().text(), 0o644); err != nil {
		return fmt.Errorf("metrics for node_exporter: %w", err)
	}
	return nil
}
