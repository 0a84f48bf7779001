package files

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/source"
)

// pass is one reading of all trees: a walker lists them in order, loaders read small files ahead, and the stream puts
// together what they bring.
type pass struct {
	trees         []tree
	excludes      Excludes
	oneFilesystem bool
	tolerate      bool
	warn          func(message string)
	wasRead       func(member string)
	whole         func() error // called when the stream was read to its end

	owners  owners
	buffers buffers
	traced  atomic.Bool // reading leaves access times: O_NOATIME is not allowed
	queue   chan *entry // in the order of the stream
	jobs    chan *entry // the same, without what needs no loader
	budget  *budget

	// What follows belongs to the stream.
	taken   time.Time
	records []record
	links   map[inode]int // records of files with several names
	notes   []string
	unsaid  int // notes beyond maxNotes
}

const (
	maxNotes = 200
	// ahead bounds the entries under way, and with them the descriptors: each holds its folder and may hold a file.
	ahead = 128
)

// start sets the pass going and returns its stream. The pass ends with ctx or with the stream's Close.
func (p *pass) start(ctx context.Context) *stream {
	ctx, cancel := context.WithCancel(ctx)
	p.queue = make(chan *entry, ahead)
	p.jobs = make(chan *entry, ahead)
	p.budget = newBudget(memory)
	p.links = map[inode]int{}
	p.taken = time.Now()
	s := &stream{pass: p, ctx: ctx, cancel: cancel, zeros: make([]byte, 64<<10)}
	s.unbudget = context.AfterFunc(ctx, p.budget.close)
	s.running.Go(func() {
		defer close(p.queue)
		defer close(p.jobs)
		w := &walker{pass: p, ctx: ctx, seen: map[inode]bool{}, buffer: make([]byte, 64<<10)}
		w.walk()
	})
	for range max(2, min(4, runtime.GOMAXPROCS(0))) {
		s.running.Go(func() {
			for e := range p.jobs {
				if e.err = ctx.Err(); e.err == nil {
					p.load(e)
				}
				close(e.ready)
			}
		})
	}
	return s
}

// facts tells what the pass read.
func (p *pass) facts() (source.Facts, error) {
	facts, err := makeFacts(p.records, p.taken)
	facts.Notes = p.notes
	if p.unsaid > 0 {
		facts.Notes = append(facts.Notes, fmt.Sprintf("and %d more", p.unsaid))
	}
	return facts, err
}

func (p *pass) note(format string, arguments ...any) {
	if len(p.notes) >= maxNotes {
		p.unsaid++
		return
	}
	message := fmt.Sprintf(format, arguments...)
	p.notes = append(p.notes, message)
	p.warn(message)
}

func (p *pass) drop(e *entry) {
	if e.at != nil {
		e.at.release()
	}
	if e.large != nil {
		unix.Close(e.large.fd)
	}
}

func (p *pass) isRoot(member string) bool {
	for i := range p.trees {
		if p.trees[i].member == member {
			return true
		}
	}
	return false
}
