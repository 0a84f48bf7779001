package seal

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"filippo.io/age"
)

// ErrAborted is the error of a [Writer] after Abort.
var ErrAborted = errors.New("sealing was aborted")

// outputBuffer gathers what goes to the underlying writer, so that neither a header nor each 64 KiB of age costs a
// hand-over.
const outputBuffer = 256 << 10

// Writer seals what is written to it. The caller's goroutine fills chunks; workers compress them; one goroutine takes
// them in order, hashes, encrypts and writes. A Writer must be ended by Close or Abort, also after an error, and is
// not safe for concurrent use.
//
// The first error sticks, that of a reader given to ReadFrom included: after it Close does not finish the stream, so
// that what was written so far does not open as if it were whole.
type Writer struct {
	output *output
	cipher io.WriteCloser // encrypts into output; nil when plain
	how    Opening
	plain  hash.Hash
	count  int64 // plain bytes

	current *chunk
	free    chan *chunk // chunks nobody works on
	work    chan *chunk // to the workers; nil when there is nothing to compress
	ordered chan *chunk // to the goroutine that writes
	workers sync.WaitGroup
	ended   chan struct{} // closed when the goroutine that writes has returned
	begun   bool          // whether a chunk was dispatched
	closed  bool
	sums    Sums

	mu  sync.Mutex // guards err
	err error
}

// chunk is one part of the plaintext on its way.
type chunk struct {
	plain  []byte
	sealed []byte        // the compressed frame
	ready  chan struct{} // receives when sealed is made
}

// NewWriter begins a sealed stream on w. The caller keeps ownership of w.
func NewWriter(w io.Writer, opt Options) (*Writer, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	compressors, err := opt.compressors()
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	s := &Writer{
		output: &output{w: bufio.NewWriterSize(w, outputBuffer), sum: sha256.New()},
		plain:  sha256.New(),
		ended:  make(chan struct{}),
	}
	if !opt.Plain {
		if s.cipher, s.how, err = encrypt(s.output, opt); err != nil {
			return nil, fmt.Errorf("seal: %w", err)
		}
	}
	// One chunk being filled, one being written, one in each worker's hands and one waiting for each.
	chunks := 2 + 2*len(compressors)
	s.free = make(chan *chunk, chunks)
	s.ordered = make(chan *chunk, chunks)
	for range chunks {
		s.free <- &chunk{ready: make(chan struct{}, 1)}
	}
	if len(compressors) > 0 {
		s.work = make(chan *chunk, chunks)
	}
	for _, compress := range compressors {
		s.workers.Go(func() { s.compress(compress) })
	}
	go s.write()
	return s, nil
}

// encrypt begins an encrypted stream on w, in the format of the recipients.
func encrypt(w io.Writer, opt Options) (io.WriteCloser, Opening, error) {
	recipients := opt.Recipients
	switch format := opt.Format(); format {
	case OpenPGP:
		s, err := newPGPWriter(w, recipients, opt.ToExpired)
		return s, Opening{Format: format}, err
	case OpenSSL:
		passphrase, ok := recipients[0].(*Passphrase)
		if !ok {
			return nil, Opening{}, fmt.Errorf("a recipient of type %T", recipients[0])
		}
		return newOpenSSLWriter(w, passphrase)
	default:
		var keys []age.Recipient
		for _, r := range recipients {
			key, ok := r.(age.Recipient)
			if !ok {
				return nil, Opening{}, fmt.Errorf("a recipient of type %T", r)
			}
			keys = append(keys, key)
		}
		s, err := age.Encrypt(w, keys...)
		return s, Opening{Format: format}, err
	}
}

// Opening tells how the stream is encrypted; zero when Plain.
func (s *Writer) Opening() Opening { return s.how }

// Write seals p.
func (s *Writer) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		space, err := s.space()
		if err != nil {
			return written, err
		}
		n := copy(space, p)
		s.filled(n)
		p = p[n:]
		written += n
	}
	return written, s.failure()
}

// ReadFrom seals everything r has, reading straight into the chunks.
func (s *Writer) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	for idle := 0; ; {
		space, err := s.space()
		if err != nil {
			return total, err
		}
		n, err := r.Read(space)
		s.filled(n)
		total += int64(n)
		switch {
		case err == io.EOF:
			return total, s.failure()
		case err != nil:
			s.fail(err)
			return total, err
		case n > 0:
			idle = 0
		case idle == 100:
			s.fail(io.ErrNoProgress)
			return total, io.ErrNoProgress
		default:
			idle++
		}
	}
}

// space returns the free end of the current chunk, which is never empty.
func (s *Writer) space() ([]byte, error) {
	if s.closed {
		return nil, errors.New("seal: write after Close")
	}
	if err := s.failure(); err != nil {
		return nil, err
	}
	if s.current == nil {
		s.current = <-s.free
		if s.current.plain == nil {
			s.current.plain = make([]byte, 0, chunkSize)
		}
	}
	return s.current.plain[len(s.current.plain):chunkSize], nil
}

// filled takes over n bytes that were put into space.
func (s *Writer) filled(n int) {
	s.current.plain = s.current.plain[:len(s.current.plain)+n]
	if len(s.current.plain) == chunkSize {
		s.dispatch()
	}
}

func (s *Writer) dispatch() {
	c := s.current
	s.current = nil
	s.begun = true
	if s.work != nil {
		s.work <- c
	}
	s.ordered <- c
}

func (s *Writer) compress(compress compressor) {
	for c := range s.work {
		sealed, err := compress(c.sealed[:0], c.plain)
		if err != nil {
			s.fail(err)
		}
		c.sealed = sealed
		c.ready <- struct{}{}
	}
}

// write takes the chunks in order. After a failure it goes on to give them back, so that nobody waits for ever.
func (s *Writer) write() {
	defer close(s.ended)
	for c := range s.ordered {
		// Hashing happens while a worker still compresses the same chunk.
		s.plain.Write(c.plain)
		s.count += int64(len(c.plain))
		data := c.plain
		if s.work != nil {
			<-c.ready
			data = c.sealed
		}
		if s.failure() == nil {
			if _, err := s.encrypted().Write(data); err != nil {
				s.fail(err)
			}
		}
		c.plain = c.plain[:0]
		s.free <- c
	}
}

func (s *Writer) encrypted() io.Writer {
	if s.cipher != nil {
		return s.cipher
	}
	return s.output
}

// Close seals what is left, ends the stream and flushes it.
func (s *Writer) Close() error {
	if s.closed {
		return s.failure()
	}
	if s.current == nil && !s.begun {
		s.current = <-s.free
	}
	// An empty stream still has one frame, or stock tools refuse it.
	if s.current != nil && (len(s.current.plain) > 0 || !s.begun) {
		s.dispatch()
	}
	s.join()
	if err := s.failure(); err != nil {
		return err
	}
	if s.cipher != nil {
		if err := s.cipher.Close(); err != nil {
			s.fail(err)
			return err
		}
	}
	if err := s.output.w.Flush(); err != nil {
		s.fail(err)
		return err
	}
	s.sums = Sums{
		PlainBytes: s.count, PlainSHA256: hex.EncodeToString(s.plain.Sum(nil)),
		SealedBytes: s.output.count, SealedSHA256: hex.EncodeToString(s.output.sum.Sum(nil)),
	}
	return nil
}

// Abort ends the Writer without finishing the stream: what was written does not open as if it were whole. After
// Close it does nothing.
func (s *Writer) Abort() {
	if s.closed {
		return
	}
	s.fail(ErrAborted)
	s.join()
}

// join waits until nothing works for s any more.
func (s *Writer) join() {
	s.closed = true
	if s.work != nil {
		close(s.work)
	}
	close(s.ordered)
	s.workers.Wait()
	<-s.ended
}

// Sums returns what was sealed. It is zero until Close has succeeded.
func (s *Writer) Sums() Sums { return s.sums }

func (s *Writer) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *Writer) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// output hashes and counts the sealed bytes.
type output struct {
	w     *bufio.Writer
	sum   hash.Hash
	count int64
}

func (o *output) Write(p []byte) (int, error) {
	o.sum.Write(p)
	o.count += int64(len(p))
	return o.w.Write(p)
}
