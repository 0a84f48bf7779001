package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
	"holdfast/internal/source/postgres/pgdump"
)

// dump is a running pg_dump. Reading it to io.EOF means that it exited with status 0 and wrote its trailer.
type dump struct {
	ctx     context.Context // of the open that started it; a dump lives no longer
	name    string
	process *pgclient.Process
	stop    context.CancelCauseFunc
	facts   *pgdump.Reader
	said    *pgclient.Tail
	server  pgclient.Params
	watch   *watch // nil: nobody watches for stalls

	waited  bool  // the process was waited for
	waitErr error // what it came to
	err     error // the first error of Read, io.EOF at a good end
	good    func(facts []source.Fact, warnings []string)
}

// openDump starts pg_dump on a snapshot and watches over it.
func (c *capture) openDump(ctx context.Context, s *snapshot) (io.ReadCloser, error) {
	args := append([]string{
		"--snapshot=" + s.id, "--encoding=" + s.database.Encoding,
		fmt.Sprintf("--lock-wait-timeout=%d", c.opt.LockWait.Milliseconds()),
	}, c.record.filtersOf(s.database)...)
	server := s.server
	if s.escapes {
		server = server.With("bytea_output", "hex")
	}
	if s.quotes {
		server = server.With("quote_all_identifiers", "off")
	}
	server = server.On(s.database.Name)
	server["application_name"] = "holdfast " + strings.ToLower(rand.Text()[:10])
	d, err := startDump(ctx, c.site, c.dump, args, server)
	if err != nil {
		return nil, fmt.Errorf("dump database %q: %w", s.database.Name, err)
	}
	d.name = s.database.Dump
	d.watch = newWatch(c.site, server, c.opt.Stall)
	d.watch.start(d.ctx, d.stop)
	prefix, item := s.database.Prefix, s.database.Dump
	d.good = func(facts []source.Fact, warnings []string) {
		c.finish(item, prefixed(prefix, facts))
		for _, warning := range warnings {
			c.note("pg_dump: " + warning)
		}
	}
	return d, nil
}

// prefixed puts the database's name before the names of facts.
func prefixed(prefix string, facts []source.Fact) []source.Fact {
	for i := range facts {
		facts[i].Name = prefix + facts[i].Name
	}
	return facts
}

// startDump starts pg_dump. What comes of it must be closed.
func startDump(ctx context.Context, site pgclient.Site, program pgclient.Program, args []string, server pgclient.Params) (*dump, error) {
	ctx, stop := context.WithCancelCause(ctx)
	d := &dump{ctx: ctx, stop: stop, said: &pgclient.Tail{}, server: server}
	d.facts = pgdump.NewReader(pipeEnd{d})
	var err error
	d.process, err = site.Start(ctx, pgclient.Command{Path: program.Path, Params: server, Stderr: d.said,
		Args: append([]string{"--format=plain", "--no-password"}, args...)})
	if err != nil {
		stop(nil)
		return nil, err
	}
	return d, nil
}

// pipeEnd is what the reader of facts reads: the pipe, whose end counts only if the program ended well.
type pipeEnd struct{ d *dump }

func (e pipeEnd) Read(p []byte) (int, error) {
	if e.d.watch != nil {
		e.d.watch.enter()
		defer e.d.watch.leave()
	}
	n, err := e.d.process.Stdout.Read(p)
	if err != nil {
		if failed := e.d.wait(); failed != nil {
			err = failed
		}
	}
	return n, err
}

// wait ends the watch and the process, once, and says why it failed.
func (d *dump) wait() error {
	if d.waited {
		return d.waitErr
	}
	d.waited = true
	d.waitErr = d.process.Wait()
	cause := context.Cause(d.ctx)
	d.stop(nil)
	blockers := ""
	if d.watch != nil {
		blockers = d.watch.end()
	}
	switch {
	case d.waitErr == nil:
	case cause != nil:
		d.waitErr = cause
	default:
		d.waitErr = explainDump("pg_dump", d.said.String(), d.waitErr, d.server, blockers)
	}
	return d.waitErr
}

func (d *dump) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.facts.Read(p)
	if err == nil {
		return n, nil
	}
	if failed := d.wait(); failed != nil {
		err = failed
	}
	if err == io.EOF && d.good != nil {
		facts, factsErr := d.facts.Facts()
		if factsErr != nil {
			err = factsErr
		} else {
			d.good(facts, readComplaint(d.said.String()).warnings)
		}
	}
	if err != io.EOF {
		err = fmt.Errorf("dump %s: %w", d.name, err)
	}
	d.err = err
	return n, err
}

// Close returns nil only for a dump that was read to its end.
func (d *dump) Close() error {
	switch {
	case d.err == io.EOF:
		return nil
	case d.err != nil:
		d.abort()
		return d.err
	}
	d.err = fmt.Errorf("item %s was closed before its end", d.name)
	if cause := context.Cause(d.ctx); cause != nil {
		d.err = errors.Join(d.err, cause)
	}
	d.abort()
	return d.err
}

func (d *dump) abort() {
	d.stop(nil)
	_ = d.wait() // killed by us: its status tells nothing
}
