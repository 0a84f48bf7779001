// Package sqlite backs up a SQLite database while the application writes to it, and brings it back.
//
// It hides SQLite's locking. A capture is one read transaction: the image is streamed page by page through the
// sqlite_dbpage table inside it, and the facts are read inside it too, so that both are of one moment. A writer cannot
// starve it, as it can starve the stepwise backup API, and memory does not grow with the file.
//
// Laws:
//   - The database file is never written, not even by recovery or a checkpoint: it is opened read-only.
//   - Nothing is left beside it that was not there and that no running application uses. What SQLite has to create
//     meanwhile (-wal, -shm) belongs to the file's owner, or the capture is refused.
//   - No plaintext goes to a disk: no copy of the image, and temporary structures stay in memory.
//   - In rollback-journal mode the application cannot write during the capture, so it fails after MaxLock. In WAL mode
//     the application writes on, and its log cannot be reused until the capture is done: growth is noted.
//
// Facts hold, all compared exactly: the image's size and SHA-256, every ordinary table's rows (see [encodeRow]), and
// every entry of the schema. Virtual tables are entries of the schema, and their content is that of the ordinary
// tables that shadow them. A table that cannot be read without a collation or function of the application's own is
// listed, and covered by the image's digest alone.
//
// It is not its job to seal, to store, or to repair a damaged database.
//
// BUG: POSIX drops a process's locks on a file when the process closes any descriptor of it. The package switches
// SQLite to locks without that defect, but for a database's -shm file SQLite has no such switch: nothing else in the
// process may open and close that file during a capture.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"modernc.org/sqlite"

	"holdfast"
	"holdfast/internal/source"
)

// defaultMaxLock is what an application that is not in WAL mode is made to wait at most.
const defaultMaxLock = 30 * time.Second

// Options describes one database.
type Options struct {
	Name holdfast.SourceName
	Path string
	// MaxLock limits how long a capture waits for its lock and, in rollback-journal mode, how long it keeps the
	// application from writing. 0: 30 s.
	MaxLock time.Duration
}

// Source is one SQLite database.
type Source struct{ options Options }

var _ source.Source = (*Source)(nil)

// New returns the source that options describe.
func New(options Options) *Source {
	if options.MaxLock <= 0 {
		options.MaxLock = defaultMaxLock
	}
	return &Source{options}
}

// Capture implements source.Source.
func (s *Source) Capture(ctx context.Context, _ holdfast.Observer) (source.Capture, error) {
	c, err := s.capture(ctx)
	if err != nil {
		return nil, fmt.Errorf("capture %s: %w", s.options.Path, err)
	}
	return c, nil
}

func (s *Source) capture(ctx context.Context) (*capture, error) {
	file, err := inspect(ctx, s.options.Path)
	if err != nil {
		return nil, err
	}
	v, err := openView(ctx, file, s.options.MaxLock)
	if err != nil {
		return nil, err
	}
	c := &capture{name: s.options.Name, file: file, view: v, taken: time.Now().UTC(), walBefore: file.walSize()}
	c.pageSize, c.pageCount, err = v.size()
	if err != nil {
		return nil, errors.Join(explain(err, file.path), v.close())
	}
	c.ended = make(chan struct{})
	if !v.wal {
		c.watch(s.options.MaxLock)
	}
	return c, nil
}

// capture is one read transaction.
type capture struct {
	name      holdfast.SourceName
	file      databaseFile
	view      *view
	taken     time.Time
	pageSize  int64
	pageCount int64
	walBefore int64

	ended    chan struct{} // closed when the view is no longer needed
	watching sync.WaitGroup

	mu    sync.Mutex // guards what follows; taken before the view's mutex, never after
	image *source.Fact
	facts *source.Facts
	over  bool
}

var _ source.Capture = (*capture)(nil)

// watch gives the lock back after limit, whoever still reads.
func (c *capture) watch(limit time.Duration) {
	timer := time.NewTimer(limit)
	c.watching.Go(func() {
		defer timer.Stop()
		select {
		case <-c.ended:
		case <-timer.C:
			c.view.fail(holdfast.WithHint(
				fmt.Errorf("%s was locked for %v, the most allowed, and is not read to its end", c.file.path, limit),
				"switch the database to WAL (PRAGMA journal_mode=WAL), where a backup does not stop writers, or raise max_lock"))
		}
	})
}

// Items implements source.Capture.
func (c *capture) Items() []source.Item {
	return []source.Item{{
		Name: string(c.name) + ".sqlite",
		Hint: source.Pages,
		Size: c.pageSize * c.pageCount,
		Open: c.open,
	}}
}

// Facts implements source.Capture. It ends the transaction: afterwards the item cannot be opened again.
func (c *capture) Facts(ctx context.Context) (source.Facts, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.facts != nil {
		return *c.facts, nil
	}
	if c.image == nil {
		return source.Facts{}, fmt.Errorf("facts of %s: the image has not been read to its end", c.file.path)
	}
	facts, err := readFacts(ctx, c.view)
	if err != nil {
		return source.Facts{}, fmt.Errorf("facts of %s: %w", c.file.path, explain(err, c.file.path))
	}
	facts.Taken = c.taken
	facts.Facts = append(facts.Facts, *c.image)
	facts.Properties["journal_mode"] = c.view.journal()
	if grown := c.file.walSize() - c.walBefore; c.view.wal && grown > 0 {
		facts.Notes = append(facts.Notes, fmt.Sprintf(
			"the write-ahead log grew by %d bytes, to %d, because it could not be reused during the capture",
			grown, c.walBefore+grown))
	}
	if facts.Driver, err = c.file.owner().encode(); err != nil {
		return source.Facts{}, err
	}
	// The view has served. Whoever holds the capture open for longer shall not make the application wait for it.
	if err := c.view.release(); err != nil {
		return source.Facts{}, fmt.Errorf("facts of %s: %w", c.file.path, explain(err, c.file.path))
	}
	c.end()
	c.facts = &facts
	return facts, nil
}

// end stops the watch. The caller holds mu.
func (c *capture) end() {
	if !c.over {
		c.over = true
		close(c.ended)
	}
}

// Close implements source.Capture.
func (c *capture) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
	c.watching.Wait()
	if err := c.view.close(); err != nil {
		return fmt.Errorf("capture %s: %w", c.file.path, explain(err, c.file.path))
	}
	return nil
}

// guardLocks asks for locks that survive the closing of other descriptors. It cannot be done once any database was
// opened in this process without, and does not exist everywhere: then the BUG of the package's doc holds for the
// database file too.
func guardLocks() { _, _ = sqlite.OFDLocking(true) }
