package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"holdfast"
)

// lockPause is how long SQLite itself waits for a lock before control comes back to look at the context.
const lockPause = 100 * time.Millisecond

// batch is how many rows are read under one hold of a view's mutex.
const batch = 256

// errReleased answers whoever reads from a view that has served.
var errReleased = errors.New("the view is closed")

// view is one connection inside one read transaction, shared by the cursors that read from it.
//
// It uses the driver's connection without database/sql: a view is exactly one connection, and reading rows through the
// pool's conversions costs more than SQLite does.
type view struct {
	wal  bool         // the database is in WAL mode
	tidy func() error // after closing; nil: nothing to do

	mu      sync.Mutex // guards what follows, and every call into conn
	conn    driver.Conn
	cursors map[*cursor]struct{}
	err     error // why the view no longer holds
	broken  bool  // err is a failure, not an orderly end
}

// dial opens path as a URI, so that no character in it is read as an option.
func dial(ctx context.Context, path, options string) (driver.Conn, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	uri := url.URL{Scheme: "file", Path: absolute, RawQuery: options}
	connector, err := sqlite.NewConnector(uri.String())
	if err != nil {
		return nil, err
	}
	return connector.Connect(ctx)
}

// imageURI names a file that nobody changes, for ATTACH.
func imageURI(path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return (&url.URL{Scheme: "file", Path: absolute, RawQuery: "mode=ro&immutable=1"}).String(), nil
}

// exec runs a statement whose rows are of no interest.
func exec(conn driver.Conn, statement string) error {
	rows, err := conn.(driver.QueryerContext).QueryContext(context.Background(), statement, nil)
	if err != nil {
		return err
	}
	return rows.Close()
}

// openView pins a view of a live database, waiting at most patience for its lock.
func openView(ctx context.Context, file databaseFile, patience time.Duration) (*view, error) {
	v, err := connect(ctx, file.path, "mode=ro")
	if err != nil {
		return nil, explain(err, file.path)
	}
	v.tidy = file.tidy
	deadline := time.Now().Add(patience)
	for {
		err := ctx.Err()
		if err == nil {
			err = v.pin()
		}
		if err == nil {
			err = v.readMode()
		}
		if err == nil {
			return v, nil
		}
		if !hasCode(err, lib.SQLITE_BUSY) || time.Now().After(deadline) {
			return nil, errors.Join(explain(err, file.path), v.close())
		}
	}
}

// openStaged opens a restored image that nothing else knows of. No lock is taken and no file created.
func openStaged(ctx context.Context, path string) (*view, error) {
	v, err := connect(ctx, path, "mode=ro&immutable=1")
	if err != nil {
		return nil, err
	}
	if err := v.pin(); err != nil {
		return nil, errors.Join(err, v.close())
	}
	return v, nil
}

func connect(ctx context.Context, path, options string) (*view, error) {
	conn, err := dial(ctx, path, options)
	if err != nil {
		return nil, err
	}
	for _, pragma := range []string{
		fmt.Sprintf("PRAGMA busy_timeout=%d", lockPause.Milliseconds()),
		"PRAGMA query_only=1",
		"PRAGMA temp_store=MEMORY", // a sort must not spill plaintext to a disk
		"PRAGMA trusted_schema=0",  // a schema that came out of a backup runs nothing with side effects
	} {
		if err := exec(conn, pragma); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return &view{conn: conn, cursors: map[*cursor]struct{}{}}, nil
}

// pin begins the transaction and makes SQLite take its lock, which a bare BEGIN does not.
func (v *view) pin() error {
	if err := exec(v.conn, "BEGIN"); err != nil {
		return err
	}
	err := exec(v.conn, "SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return errors.Join(err, exec(v.conn, "ROLLBACK"))
	}
	return nil
}

// readMode asks for the journal mode inside the transaction, where nobody can change it.
func (v *view) readMode() error {
	mode, err := v.one("PRAGMA journal_mode")
	v.wal = mode == "wal"
	return err
}

func (v *view) journal() string {
	if v.wal {
		return "wal"
	}
	return "rollback"
}

// size returns the size of a page and the number of pages.
func (v *view) size() (pageSize, pageCount int64, err error) {
	// The file's own size plays no part: in WAL mode it may be short of pages that only the log has yet.
	if pageSize, err = v.number("PRAGMA page_size"); err != nil {
		return 0, 0, err
	}
	pageCount, err = v.number("PRAGMA page_count")
	return pageSize, pageCount, err
}

// query begins to read rows.
func (v *view) query(statement string, args ...string) (*cursor, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err != nil {
		return nil, v.err
	}
	values := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		values[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
	}
	// Not the caller's context: SQLite would be interrupted for all cursors of this view.
	rows, err := v.conn.(driver.QueryerContext).QueryContext(context.Background(), statement, values)
	if err != nil {
		return nil, err
	}
	c := &cursor{view: v, rows: rows}
	v.cursors[c] = struct{}{}
	return c, nil
}

// each calls fn with every row of a statement. The row is valid during the call.
func (v *view) each(ctx context.Context, statement string, fn func(row []driver.Value) error, args ...string) error {
	c, err := v.query(statement, args...)
	if err != nil {
		return err
	}
	row := make([]driver.Value, len(c.rows.Columns()))
	for err == nil {
		if err = ctx.Err(); err == nil {
			err = c.batch(row, fn)
		}
	}
	if err == io.EOF {
		return c.close()
	}
	c.close() // repeats the error that ended the reading
	return err
}

// one returns the first column of the first row, nil when there is none.
func (v *view) one(statement string) (driver.Value, error) {
	c, err := v.query(statement)
	if err != nil {
		return nil, err
	}
	row := make([]driver.Value, len(c.rows.Columns()))
	if len(row) == 0 {
		return nil, c.close()
	}
	if err = c.next(row); err != nil && err != io.EOF {
		c.close() // repeats the error
		return nil, err
	}
	return row[0], c.close()
}

func (v *view) number(statement string) (int64, error) {
	value, err := v.one(statement)
	if err != nil {
		return 0, err
	}
	n, ok := value.(int64)
	if !ok {
		return 0, fmt.Errorf("%s gave %v instead of a number", statement, value)
	}
	return n, nil
}

// fail ends the transaction at once: whoever still reads gets err.
func (v *view) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err == nil {
		v.err, v.broken = errors.Join(err, v.rollback()), true
	}
}

// release ends the transaction in good order.
func (v *view) release() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err != nil {
		return v.err
	}
	v.err = errReleased
	return v.rollback()
}

// rollback gives the lock back, which SQLite does only when no cursor is left. The caller holds mu.
func (v *view) rollback() error {
	var failures []error
	for c := range v.cursors {
		failures = append(failures, c.rows.Close())
	}
	clear(v.cursors)
	return errors.Join(append(failures, exec(v.conn, "ROLLBACK"))...)
}

// close ends the connection and says whether the view held until its orderly end. Closing twice is harmless.
func (v *view) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.conn == nil {
		return nil
	}
	var failures []error
	if v.broken {
		failures = append(failures, v.err)
	}
	for c := range v.cursors {
		failures = append(failures, c.rows.Close())
	}
	clear(v.cursors)
	failures = append(failures, v.conn.Close())
	v.conn, v.err = nil, errReleased
	if v.tidy != nil {
		failures = append(failures, v.tidy())
	}
	return errors.Join(failures...)
}

// cursor reads the rows of one statement.
type cursor struct {
	view *view
	rows driver.Rows
}

// next reads one row, or returns io.EOF.
func (c *cursor) next(row []driver.Value) error {
	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	if c.view.err != nil {
		return c.view.err
	}
	return c.rows.Next(row)
}

// batch reads some rows under one hold of the mutex.
func (c *cursor) batch(row []driver.Value, fn func([]driver.Value) error) error {
	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	for range batch {
		if c.view.err != nil {
			return c.view.err
		}
		if err := c.rows.Next(row); err != nil {
			return err
		}
		if err := fn(row); err != nil {
			return err
		}
	}
	return nil
}

func (c *cursor) close() error {
	c.view.mu.Lock()
	defer c.view.mu.Unlock()
	if _, open := c.view.cursors[c]; !open {
		return nil
	}
	delete(c.view.cursors, c)
	return c.rows.Close()
}

// hasCode reports whether err is SQLite's, with this primary or extended code.
func hasCode(err error, code int) bool {
	var failure *sqlite.Error
	return errors.As(err, &failure) && (failure.Code() == code || failure.Code()&0xff == code)
}

// lacksExtension reports whether a statement could not be compiled because it needs what only the application adds
// to SQLite.
func lacksExtension(err error) bool {
	if !hasCode(err, lib.SQLITE_ERROR) {
		return false
	}
	for _, what := range []string{
		"no such collation sequence", "no such function", "unknown function", "no such module", "no such tokenizer",
		"no query solution", // a WITHOUT ROWID table whose primary key has an unknown collation
	} {
		if strings.Contains(err.Error(), what) {
			return true
		}
	}
	return false
}

// explain puts SQLite's terse errors into a sentence and says what to do.
func explain(err error, path string) error {
	for _, known := range []struct {
		code           int
		sentence, hint string
	}{
		{lib.SQLITE_READONLY_ROLLBACK, "a transaction was cut short and has to be rolled back first (hot journal)",
			"start the application once, so that it recovers its database, then try again"},
		{lib.SQLITE_NOTADB, "not a SQLite database, or an encrypted one",
			"check the path; a database encrypted by the application has to be backed up as a file"},
		{lib.SQLITE_BUSY, "locked by the application all the time",
			"look for a long write transaction or locking_mode=EXCLUSIVE in the application, switch it to WAL " +
				"(PRAGMA journal_mode=WAL), or raise max_lock"},
		{lib.SQLITE_CORRUPT, "the database is damaged",
			"keep the older backups, and see: sqlite3 " + path + " 'PRAGMA integrity_check'"},
		{lib.SQLITE_CANTOPEN, "cannot be opened",
			"run as root or as the file's owner, and look whether -wal and -shm beside it belong to the same owner"},
		{lib.SQLITE_READONLY, "cannot be read in WAL mode without its -wal and -shm files",
			"run as root or as the file's owner, and let the directory be writable for it"},
		{lib.SQLITE_IOERR, "reading failed", "look for disk errors in the system's log"},
	} {
		if hasCode(err, known.code) {
			return holdfast.WithHint(fmt.Errorf("%s: %w", known.sentence, err), known.hint)
		}
	}
	return err
}
