package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/source/postgres/pgclient"
)

// watch looks after a dump that waits for its server. It asks the server only while a read of ours is blocked, so
// that the time we take to compress and store is never held against it.
type watch struct {
	site    pgclient.Site
	server  pgclient.Params
	stall   time.Duration
	blocked atomic.Bool
	reads   atomic.Int64 // counts reads, so that two blocked ones are told apart
	done    sync.WaitGroup
	stop    context.CancelFunc

	mu       sync.Mutex
	blockers string // the sessions last seen to hold a lock that the dump waits for
}

// newWatch watches the sessions that carry server's application name.
func newWatch(site pgclient.Site, server pgclient.Params, stall time.Duration) *watch {
	return &watch{site: site, server: server, stall: stall}
}

func (w *watch) enter() { w.blocked.Store(true) }

func (w *watch) leave() {
	w.reads.Add(1)
	w.blocked.Store(false)
}

// start watches until end is called; kill is told the reason when the dump has stalled.
func (w *watch) start(ctx context.Context, kill context.CancelCauseFunc) {
	ctx, w.stop = context.WithCancel(ctx)
	w.done.Go(func() { w.run(ctx, kill) })
}

// end stops watching and names the sessions that were seen to block the dump.
func (w *watch) end() string {
	w.stop()
	w.done.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blockers
}

func (w *watch) run(ctx context.Context, kill context.CancelCauseFunc) {
	var conn pgclient.Session
	defer func() {
		if conn != nil {
			conn.Close() // it read nothing but the state of another one
		}
	}()
	ticker := time.NewTicker(min(time.Second, w.stall/4))
	defer ticker.Stop()
	var quiet time.Time // since when the server has been idle or out of reach, zero: it has not
	lastRead, patience := int64(-1), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		reads := w.reads.Load()
		if !w.blocked.Load() || reads != lastRead {
			lastRead, quiet, patience = reads, time.Time{}, 0
			continue
		}
		// A read that was blocked at two ticks in a row is worth a question.
		patience++
		state, reached := w.look(ctx, &conn)
		if ctx.Err() != nil {
			return
		}
		if state == working {
			quiet = time.Time{}
			continue
		}
		if quiet.IsZero() {
			quiet = time.Now()
		}
		if time.Since(quiet) >= w.stall && patience > 1 {
			kill(holdfast.WithHint(fmt.Errorf("the dump stalled: for %s nothing came and %s", w.stall, reached),
				"check the server and the network between, then run again"))
			return
		}
	}
}

type activity int

const (
	silent activity = iota
	working
)

// look asks what the dump's backend does, and says in words what it saw.
func (w *watch) look(ctx context.Context, conn *pgclient.Session) (activity, string) {
	ctx, cancel := context.WithTimeout(ctx, min(10*time.Second, max(w.stall, time.Second)))
	defer cancel()
	if *conn == nil {
		dialled, _, err := w.site.Dial(ctx, w.server)
		if err != nil {
			return silent, "the server could not be reached"
		}
		*conn = dialled
	}
	var state, wait string
	var blockers []string
	err := pgclient.Row(ctx, *conn, `SELECT coalesce(state, ''), coalesce(wait_event_type, ''), pg_catalog.to_jsonb(ARRAY(
			SELECT pg_catalog.format('session %s of role %I (%s, %s)', b.pid, b.usename,
				coalesce(nullif(b.application_name, ''), 'no application name'), coalesce(b.state, 'in an unknown state'))
			FROM pg_catalog.pg_stat_activity b WHERE b.pid = ANY (pg_catalog.pg_blocking_pids(a.pid))))
		FROM pg_catalog.pg_stat_activity a WHERE a.application_name = `+pgclient.QuoteLiteral(w.server["application_name"])+` AND a.pid <> pg_catalog.pg_backend_pid()
		ORDER BY a.backend_start DESC LIMIT 1`, &state, &wait, pgclient.JSON{Into: &blockers})
	switch {
	case errors.Is(err, pgclient.ErrNoRows):
		return silent, "the server knows no session of it"
	case err != nil:
		(*conn).Close() // it is of no use any more
		*conn = nil
		return silent, "the server could not be reached"
	}
	if len(blockers) > 0 {
		w.mu.Lock()
		w.blockers = strings.Join(blockers, ", ")
		w.mu.Unlock()
	}
	if state == "active" && wait != "Client" {
		return working, "the server was working"
	}
	return silent, "the server's session was " + strings.TrimSpace(state+" "+wait)
}
