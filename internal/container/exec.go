package container

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Command is a program to be run in a container.
type Command struct {
	// Argv is the program, looked for in the PATH of the image, and its arguments.
	Argv []string
	// Env is added to the container's own variables; as in "NAME=value".
	Env []string
	// User runs it; "": the container's own.
	User string
	// Dir is where it runs; "": the container's own.
	Dir string
	// Stdin attaches [Exec.Stdin].
	Stdin bool
	// Stdout and Stderr take what the program says, one write at a time. Stdout nil: the Exec is to be read.
	Stdout, Stderr io.Writer
}

// Exec is a program that runs in a container. Read gives what it writes to its standard output, while its errors go to
// Command.Stderr in between; a program that nobody reads waits.
type Exec struct {
	container *Container
	id        string
	stream    *stream
	command   Command
	left      uint32 // bytes of the present frame
	err       error  // of the stream; io.EOF at its end
	copied    chan struct{}
}

// Start runs a program. ctx bounds the start alone. What comes of it must be waited for.
func (c *Container) Start(ctx context.Context, command Command) (*Exec, error) {
	var created struct {
		ID string `json:"Id"`
	}
	doing := fmt.Sprintf("run %s in container %q", command.Argv[0], c.Name)
	err := c.engine.call(ctx, doing, http.MethodPost, "/containers/"+url.PathEscape(c.ID)+"/exec", nil, map[string]any{
		"Cmd": command.Argv, "Env": command.Env, "User": command.User, "WorkingDir": command.Dir,
		"AttachStdin": command.Stdin, "AttachStdout": true, "AttachStderr": true,
	}, &created)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	s, err := c.engine.hijack(ctx, doing, "/exec/"+url.PathEscape(created.ID)+"/start", nil, map[string]any{"Detach": false, "Tty": false})
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	x := &Exec{container: c, id: created.ID, stream: s, command: command}
	if command.Stdout != nil {
		x.copied = make(chan struct{})
		go func() {
			defer close(x.copied)
			// Nothing but Write: Stdout and Stderr may be one buffer, which must not be read into and written to at once.
			if _, err := io.Copy(struct{ io.Writer }{command.Stdout}, struct{ io.Reader }{x}); err != nil && x.err == nil {
				x.err = err // of the writer: what follows is read for nothing, and nobody waits for ever
				x.drain()
			}
		}()
	}
	return x, nil
}

// lost tells that the container is gone, if that is why err came.
func (c *Container) lost(ctx context.Context, err error) error {
	if ended := c.Ended(ctx, 0); ended != nil && ctx.Err() == nil {
		return ended
	}
	return err
}

// The streams that the frames of the API carry.
const (
	frameStdout = 1
	frameStderr = 2
	frameSystem = 3
)

// Read takes the stream apart: each frame has a head of eight bytes, the stream's number in the first and the payload's
// length in the last four, big-endian.
func (x *Exec) Read(p []byte) (int, error) {
	for x.err == nil && x.left == 0 {
		x.err = x.next()
	}
	if x.err != nil {
		return 0, x.err
	}
	n, err := x.stream.in.Read(p[:min(len(p), int(x.left))])
	x.left -= uint32(n)
	if err != nil {
		x.err = x.cut(err)
	}
	return n, x.err
}

// next goes to the next frame of the standard output.
func (x *Exec) next() error {
	var head [8]byte
	if _, err := io.ReadFull(x.stream.in, head[:]); err != nil {
		if err == io.EOF {
			return err
		}
		return x.cut(err)
	}
	size := binary.BigEndian.Uint32(head[4:])
	switch head[0] {
	case 0, frameStdout:
		x.left = size
		return nil
	case frameStderr:
		to := x.command.Stderr
		if to == nil {
			to = io.Discard
		}
		if _, err := io.CopyN(to, x.stream.in, int64(size)); err != nil {
			return x.cut(err)
		}
		return nil
	case frameSystem:
		said, err := io.ReadAll(io.LimitReader(x.stream.in, int64(min(size, 64<<10))))
		if err != nil {
			return x.cut(err)
		}
		return fmt.Errorf("the engine broke off %s: %s", x.command.Argv[0], strings.TrimSpace(string(said)))
	}
	return fmt.Errorf("the engine sent a frame of the unknown kind %d", head[0])
}

func (x *Exec) cut(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the engine's stream ends within a frame")
	}
	return fmt.Errorf("read the engine's stream: %w", err)
}

// Stdin is the program's input. Closing it tells the program its end; what it says is still read.
func (x *Exec) Stdin() io.WriteCloser { return stdin{x.stream} }

type stdin struct{ *stream }

func (s stdin) Write(p []byte) (int, error) { return s.conn.Write(p) }
func (s stdin) Close() error                { return s.conn.CloseWrite() }

// drain reads what is left, for nothing.
func (x *Exec) drain() {
	broken := x.err
	x.err = nil
	_, _ = io.Copy(io.Discard, struct{ io.Reader }{x}) // its error stays in x.err
	if broken != nil {
		x.err = broken
	}
}

// Abandon cuts the stream. The program runs on until it writes, or for ever.
func (x *Exec) Abandon() { x.stream.conn.Close() }

// Wait reads what is left of the output, and waits until the engine knows the exit code, which is asked for once the
// stream has ended. An error means that there is none, or that not all of the output was seen.
func (x *Exec) Wait(ctx context.Context) (code int, err error) {
	stop := context.AfterFunc(ctx, x.Abandon)
	if x.copied != nil {
		<-x.copied
	}
	if x.err == nil {
		x.drain()
	}
	stop()
	x.stream.conn.Close() // it has ended, or is of no use any more
	if ctx.Err() != nil {
		return -1, context.Cause(ctx)
	}
	code, err = x.exitCode(ctx)
	if err == nil && x.err != io.EOF {
		err = x.err
	}
	return code, err
}

// exitCode asks until the program has ended.
func (x *Exec) exitCode(ctx context.Context) (int, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		var state struct {
			Running  bool
			ExitCode *int
		}
		err := x.container.engine.call(ctx, "tell how a program ended", http.MethodGet, "/exec/"+url.PathEscape(x.id)+"/json", nil, nil, &state)
		if err != nil {
			return -1, x.container.lost(ctx, err)
		}
		if !state.Running {
			if state.ExitCode == nil {
				return -1, x.container.lost(ctx, fmt.Errorf("the engine does not know how %s ended in container %q", x.command.Argv[0], x.container.Name))
			}
			return *state.ExitCode, nil
		}
		if err := x.container.Ended(ctx, 0); err != nil {
			return -1, err
		}
		select {
		case <-ctx.Done():
			return -1, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}
