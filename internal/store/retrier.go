package store

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"holdfast"
)

// Retrier is the one place where something is tried again. A [Store] has one; a driver that takes a stream in pieces
// shares it, so that a lost piece does not lose the stream. It is safe for concurrent use.
type Retrier struct {
	attempts int
	wait     time.Duration
	retries  atomic.Int64
}

// NewRetrier returns one that makes attempts in all (0: 4), with a pause of wait (0: 500 ms) before the second one.
func NewRetrier(attempts int, wait time.Duration) *Retrier {
	if attempts <= 0 {
		attempts = 4
	}
	if wait <= 0 {
		wait = 500 * time.Millisecond
	}
	return &Retrier{attempts: attempts, wait: wait}
}

// Retries counts the attempts beyond the first ones.
func (r *Retrier) Retries() int64 { return r.retries.Load() }

// Do calls op until it succeeds, says that another attempt is of no use, fails for good, or ctx ends. Pauses double up to
// 30 s, and are drawn between half and all of that; a [LaterError] asks for a longer one, up to 2 minutes. What was tried
// often enough is not tried again by a Do around this one, so that attempts do not multiply.
func (r *Retrier) Do(ctx context.Context, op func() (again bool, err error)) error {
	wait := r.wait
	for attempt := 1; ; attempt++ {
		again, err := op()
		if err == nil || !again || final(err) || ctx.Err() != nil {
			return err
		}
		if attempt >= r.attempts {
			return &exhausted{err}
		}
		pause := wait/2 + rand.N(wait/2+1)
		var later *LaterError
		if errors.As(err, &later) {
			pause = max(pause, min(later.After, longestAsk))
		}
		if cut := sleep(ctx, pause); cut != nil {
			return errors.Join(cut, err)
		}
		wait = min(2*wait, longestWait)
		r.retries.Add(1)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// exhausted is an error after the last attempt. It says what the error says.
type exhausted struct{ error }

func (e *exhausted) Unwrap() error { return e.error }

// final reports whether err stays what it is however often one asks, or was asked for often enough.
func final(err error) bool {
	var done *exhausted
	if errors.As(err, &done) {
		return true
	}
	for _, sentinel := range []error{
		ErrExists, ErrFull, ErrReadOnly, ErrRetained, ErrNoStore, fs.ErrNotExist, fs.ErrPermission, fs.ErrClosed,
		holdfast.ErrUsage, holdfast.ErrDifference,
	} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

// pacer spreads bytes over time. Its zero rate lets everything pass.
type pacer struct {
	rate int64 // bytes per second

	mu   sync.Mutex // guards next
	next time.Time  // when what was let pass so far is paid for
}

func newPacer(rate int64) *pacer { return &pacer{rate: rate} }

// wait returns when n bytes more may have passed.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.rate <= 0 || n == 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(p.rate) * float64(time.Second)))
	pause := p.next.Sub(now)
	p.mu.Unlock()
	return sleep(ctx, pause)
}
