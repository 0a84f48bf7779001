// Package journal keeps the audit trail: a record of everything that was done with backups, chained by hashes, signed, and carried to the
// stores. docs/journal-format.md is its specification.
//
// It hides files, segments, locks between processes, the lines of the text log, and how a chain is checked. Its laws: a record exists when
// its line is durable, and is never changed; [Journal.Verify] finds a record that was changed, removed, added or moved, and a tail
// that was cut where a store has it; what is left after a loss is not signed, and no number is given twice; a store that cannot be
// reached is named, never passed over; a lock is waited for as long as the context lasts. It is not its job to decide what is recorded, to
// read the environment, or to keep what root on this host does from being a lie.
package journal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/seal"
)

const (
	maxSegment = 4 << 20
	maxLine    = 64 << 10
	fileMode   = 0o600
	// lockTry is the time between two tries to get a lock that another process holds.
	lockTry = 50 * time.Millisecond
)

// Options say where the journal is and who writes it. The zero values of Signer, TextFile and Syslog leave out what they are for.
type Options struct {
	Dir     string // STATE/journal; made with mode 0700
	Host    string // the configured name of this host
	Version string // of holdfast
	// Signer signs checkpoints and what is pushed. nil: records are chained, and only a later command signs them.
	Signer *seal.Signer
	Now    func() time.Time // required
	// TextFile gets a line for people for each record, mode 0600. It is opened for each line, so that it can be rotated.
	TextFile string
	// Syslog gets the same line.
	Syslog func(line string) error
}

// Journal is the chain of one installation. It is safe for concurrent use, also by several processes on one folder.
type Journal struct {
	opt   Options
	chain string
}

// Open opens the journal in opt.Dir and makes it, with a new chain, when there is none.
func Open(opt Options) (*Journal, error) {
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("make the journal: %w", err), "choose another state folder with --state or HOLDFAST_STATE")
	}
	j := &Journal{opt: opt}
	name := j.path("chain")
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = durable.CreateFile(name, []byte(newChain(opt.Host)+"\n"), fileMode)
		if err == nil || errors.Is(err, fs.ErrExist) {
			data, err = os.ReadFile(name) // another process may have been first
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	j.chain = strings.TrimSpace(string(data))
	if !chainRule.MatchString(j.chain) {
		return nil, fmt.Errorf("%w: the journal's chain %q is not a name", holdfast.ErrDifference, j.chain)
	}
	return j, nil
}

// Chain is the name of the chain.
func (j *Journal) Chain() string { return j.chain }

func (j *Journal) path(name string) string { return filepath.Join(j.opt.Dir, name) }

var chainRule = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,80}-[a-z0-9]{10}$`)

func newChain(host string) string { return chainPrefix(host) + string(holdfast.NewBackupID()) }

func chainPrefix(host string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(host))
	return cmp.Or(strings.Trim(name[:min(len(name), 60)], "-"), "host") + "-"
}

// IsOf reports whether a chain has the name of one that began on this host.
func IsOf(chain, host string) bool {
	return chainRule.MatchString(chain) && chain[:len(chain)-10] == chainPrefix(host)
}

// locked runs do while no other process appends or pushes, as name says. It waits for that as long as ctx lasts.
func (j *Journal) locked(ctx context.Context, name string, do func() error) error {
	for {
		lock, err := j.tryLock(name)
		if err != nil {
			return fmt.Errorf("lock the journal: %w", err)
		}
		if lock != nil {
			defer lock.Close() // and so unlocks
			return errors.Join(do(), j.handOver())
		}
		select {
		case <-ctx.Done():
			return holdfast.WithHint(fmt.Errorf("lock the journal: another process holds %s: %w", j.path(name), context.Cause(ctx)),
				"`fuser -v "+j.path(name)+"` says which; end it if it hangs")
		case <-time.After(lockTry):
		}
	}
}

// handOver gives what root made in the journal to whom the folder around it belongs: the service, which is another user, goes on with it.
func (j *Journal) handOver() error {
	if os.Geteuid() != 0 {
		return nil
	}
	var owner unix.Stat_t
	if err := unix.Stat(filepath.Dir(j.opt.Dir), &owner); err != nil || owner.Uid == 0 {
		return err
	}
	entries, err := os.ReadDir(j.opt.Dir)
	if err != nil {
		return err
	}
	paths := []string{j.opt.Dir}
	for _, entry := range entries {
		paths = append(paths, j.path(entry.Name()))
	}
	if filepath.Dir(j.opt.TextFile) == filepath.Dir(j.opt.Dir) {
		paths = append(paths, j.opt.TextFile)
	}
	for _, path := range paths {
		var at unix.Stat_t
		if err := unix.Lstat(path, &at); errors.Is(err, fs.ErrNotExist) || err == nil && at.Uid == owner.Uid {
			continue
		} else if err != nil {
			return err
		}
		if err := os.Lchown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			return fmt.Errorf("give the journal to whom its folder belongs: %w", err)
		}
	}
	return nil
}

// tryLock takes a lock; nil: another process holds it.
func (j *Journal) tryLock(name string) (*os.File, error) {
	lock, err := os.OpenFile(j.path(name), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && j.isAt(lock, name) {
		return lock, nil
	}
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		err = nil
	}
	return nil, errors.Join(err, lock.Close())
}

// isAt reports whether the file is the one of that name. A rebuild that was waited for has put another folder here, with another lock.
func (j *Journal) isAt(f *os.File, name string) bool {
	held, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(j.path(name))
	return err == nil && os.SameFile(held, there)
}

// Warning is what went wrong beside a record that is durable: the line for people, or syslog.
type Warning struct{ Err error }

func (w *Warning) Error() string { return w.Err.Error() }

// Unwrap is what went wrong.
func (w *Warning) Unwrap() error { return w.Err }

// Append adds a record. Its Seq, Prev, Time, Host and Version are filled in. When it returns, also with a [*Warning], the record is durable;
// any other error means that it may not be. Where the end of the chain is lost, the record comes behind what was signed of it.
func (j *Journal) Append(ctx context.Context, r Record) (Record, error) {
	err := j.locked(ctx, "lock", func() error {
		end, err := j.mend()
		if err == nil {
			end, err = j.behindMarks(end)
		}
		if err != nil {
			return err
		}
		r.Seq, r.Prev = end.seq+1, end.hash
		r.Time = j.opt.Now().UTC().Truncate(time.Second)
		r.Who.Host, r.Version = j.opt.Host, j.opt.Version
		line, err := r.encode()
		if err != nil {
			return err
		}
		return j.write(end, line)
	})
	if err != nil {
		return r, fmt.Errorf("append to the journal: %w", err)
	}
	var problems []error
	if j.opt.TextFile != "" {
		if err := appendText(j.opt.TextFile, r.Text()); err != nil {
			problems = append(problems, err)
		}
	}
	if j.opt.Syslog != nil {
		if err := j.opt.Syslog(r.Text()); err != nil {
			problems = append(problems, fmt.Errorf("syslog: %w", err))
		}
	}
	if len(problems) > 0 {
		return r, &Warning{errors.Join(problems...)}
	}
	return r, nil
}

func appendText(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, fileMode)
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	_, err = f.WriteString(line + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}

// tail is the end of a chain.
type tail struct {
	seq     int64
	hash    string // of the last line
	segment string // path of the last segment; "" when there is none
	size    int64  // of it
	time    time.Time
}

// startsSegment reports whether a record of the time at begins a segment of its own behind the tail. There is one for each month, so
// that old ones can go.
func (t tail) startsSegment(at time.Time) bool {
	return t.segment == "" || t.size >= maxSegment || month(t.time) != month(at)
}

func noHash() string { return strings.Repeat("0", 64) }

// mend finds the end of the chain. What a crash left of a line is moved out of the way. The lock is held.
func (j *Journal) mend() (tail, error) {
	segments, err := j.segments()
	if err != nil {
		return tail{}, err
	}
	for len(segments) > 0 {
		last := segments[len(segments)-1]
		end, torn, err := j.endOf(last)
		if err != nil {
			return tail{}, err
		}
		if torn {
			if err := j.setAside(last, end.size); err != nil {
				return tail{}, err
			}
		}
		if end.seq > 0 {
			return end, nil
		}
		// Nothing whole was in it.
		if err := os.Remove(last.path); err != nil {
			return tail{}, err
		}
		segments = segments[:len(segments)-1]
	}
	return tail{hash: noHash()}, nil
}

// setAside keeps what lies in a segment behind its last whole line in a file of its own, and cuts it off.
func (j *Journal) setAside(s segment, whole int64) error {
	data, err := os.ReadFile(s.path)
	if err != nil {
		return err
	}
	name, err := durable.FreeName(j.path("torn-" + j.opt.Now().UTC().Format("20060102T150405Z")))
	if err != nil {
		return err
	}
	if err := durable.CreateFile(name, data[whole:], fileMode); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path, os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(whole), f.Sync(), f.Close())
}

// write adds a line behind the tail, in a new segment when the last one is full.
func (j *Journal) write(end tail, line []byte) error {
	path, fresh := end.segment, end.startsSegment(j.opt.Now())
	if fresh {
		path = j.path(segmentName(end.seq + 1))
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(append(bytes.Clone(line), '\n'))
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil && fresh {
		err = durable.SyncDir(j.opt.Dir)
	}
	return err
}

// segment is one file of records.
type segment struct {
	path  string
	first int64
}

func segmentName(first int64) string { return fmt.Sprintf("%012d.jsonl", first) }

var segmentRule = regexp.MustCompile(`^([0-9]{12})\.jsonl$`)

func (j *Journal) segments() ([]segment, error) {
	entries, err := os.ReadDir(j.opt.Dir)
	if err != nil {
		return nil, err
	}
	var all []segment
	for _, entry := range entries {
		if m := segmentRule.FindStringSubmatch(entry.Name()); m != nil {
			first, err := strconv.ParseInt(m[1], 10, 64)
			if err != nil {
				return nil, err
			}
			all = append(all, segment{j.path(entry.Name()), first})
		}
	}
	slices.SortFunc(all, func(x, y segment) int { return cmp.Compare(x.first, y.first) })
	return all, nil
}

// endOf finds the last whole line of a segment, from its end. torn says that something follows it.
func (j *Journal) endOf(s segment) (end tail, torn bool, err error) {
	f, err := os.Open(s.path)
	if err != nil {
		return tail{}, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return tail{}, false, err
	}
	from := max(0, info.Size()-2*(maxLine+1))
	data := make([]byte, info.Size()-from)
	if _, err := io.ReadFull(io.NewSectionReader(f, from, int64(len(data))), data); err != nil {
		return tail{}, false, err
	}
	last := bytes.LastIndexByte(data, '\n')
	torn = last != len(data)-1 && len(data) > 0
	if last < 0 {
		return tail{segment: s.path}, torn, nil
	}
	line := data[bytes.LastIndexByte(data[:last], '\n')+1 : last]
	r, err := parseLine(line)
	if err != nil {
		return tail{}, false, holdfast.WithHint(fmt.Errorf("%w: the last record of %s is not readable: %w", holdfast.ErrDifference, filepath.Base(s.path), err),
			"`holdfast audit verify` says more; `holdfast audit rebuild` takes the journal from a store")
	}
	return tail{r.Seq, hashOf(line), s.path, from + int64(last) + 1, r.Time}, torn, nil
}

func month(t time.Time) string { return t.UTC().Format("2006-01") }

// find reads a record here. Its hash is "" when it is not here.
func (j *Journal) find(seq int64) (found Record, hash string, err error) {
	segments, err := j.segments()
	if err != nil {
		return Record{}, "", err
	}
	at := len(segments) - 1
	for at >= 0 && segments[at].first > seq {
		at--
	}
	if at < 0 {
		return Record{}, "", nil
	}
	data, err := os.ReadFile(segments[at].path)
	if err != nil {
		return Record{}, "", err
	}
	_, err = eachLine(data, func(line []byte) error {
		if r, err := parseLine(line); err == nil && r.Seq == seq {
			found, hash = r, hashOf(line)
		}
		return nil
	})
	return found, hash, err
}

// hashAt is the hash of a record that is here, or was the last one to go; "" of all others.
func (j *Journal) hashAt(seq int64) (string, error) {
	_, hash, err := j.find(seq)
	if err != nil || hash != "" {
		return hash, err
	}
	base, err := j.mark(baseKind())
	if err != nil || base == nil || base.Seq != seq {
		return "", err
	}
	return base.Hash, nil
}

// behindMarks is the end that the next record comes behind: that of the chain or, where that is lost, what is signed of it. So no number
// is given twice, and the gap stays to be seen.
func (j *Journal) behindMarks(end tail) (tail, error) {
	for _, k := range []kind{baseKind(), headKind()} {
		m, err := j.mark(k)
		switch {
		case errors.Is(err, holdfast.ErrDifference): // it says nothing, and maySign tells that
		case err != nil:
			return tail{}, err
		case m != nil && m.Seq > end.seq:
			end = tail{seq: m.Seq, hash: m.Hash}
		}
	}
	return end, nil
}

// maySign fails with holdfast.ErrDifference when the chain that ends there has no longer what was signed of it: a signature on what is
// left would hide that. The lock is held.
func (j *Journal) maySign(end tail) error {
	m, err := j.mark(headKind())
	if err == nil && m != nil {
		hash := end.hash
		if m.Seq != end.seq {
			hash, err = j.hashAt(m.Seq)
		}
		if err == nil {
			err = m.fits(end.seq, hash)
		}
	}
	if errors.Is(err, holdfast.ErrDifference) {
		return holdfast.WithHint(err, "find out why with `holdfast audit verify`; `holdfast audit rebuild` takes the journal from a store and keeps this one aside")
	}
	return err
}

// sign writes the head at the end of the chain. The lock is held.
func (j *Journal) sign() error {
	end, err := j.mend()
	if err == nil {
		err = j.maySign(end)
	}
	if err != nil || end.seq == 0 {
		return err
	}
	m, err := newMark(headKind(), j.opt.Signer, j.chain, end, j.opt.Now())
	if err != nil {
		return err
	}
	return j.writeMark(headKind(), m)
}

// Checkpoint signs the end of the chain. Without a signer it does nothing. It fails with holdfast.ErrDifference, and leaves the last
// checkpoint as it is, when the chain has no longer what that one signed.
func (j *Journal) Checkpoint(ctx context.Context) error {
	if j.opt.Signer == nil {
		return nil
	}
	err := j.locked(ctx, "lock", func() error {
		return j.sign()
	})
	if err != nil {
		return fmt.Errorf("sign the journal: %w", err)
	}
	return nil
}
