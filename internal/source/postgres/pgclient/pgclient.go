// Package pgclient is the client's side of PostgreSQL: connection parameters as libpq knows them, sessions, the
// programs pg_dump, pg_dumpall, psql and initdb, and the [Site] where all of these run.
//
// It hides how a server is spoken to and how a program is found, started, ended and waited for. A session takes one
// statement at a time and returns text, so that a site needs no more than psql to offer one.
//
// Its laws:
//   - A secret travels in the environment of a child, never in its arguments, and never into an error.
//   - Programs are run by argument vectors. A program was good only if [Process.Wait] returned nil.
//   - A refusal of the server is an [*Error] with its SQLSTATE, whichever way it came.
//   - Every session has search_path pinned, speaks UTF-8, and goes to the very server that the first one reached.
//
// It is not its job to know what a backup is, nor what is in a dump. It reads no environment variable: the PG*
// variables that count are handed to it.
package pgclient

import (
	"context"
	"fmt"
	"io"
	"syscall"
)

// Site is where PostgreSQL's programs run, and from where its servers are reached. It is safe for concurrent use.
type Site interface {
	// Dial opens a session, and returns the parameters that lead to the very same server: all sessions of one capture
	// must see one server, whatever a name resolves to next time. Errors say in one sentence which server was meant,
	// and carry a hint.
	Dial(ctx context.Context, p Params) (Session, Params, error)
	// Find lists the programs called name, oldest first.
	Find(ctx context.Context, name string) ([]Program, error)
	// Start runs a program. When ctx ends the program is asked to end, and left behind if it does not within 10 s.
	Start(ctx context.Context, c Command) (*Process, error)
	// String names the site in messages, as in "pg_dump is not on this machine".
	String() string
}

// Command is a program to be run.
type Command struct {
	// Path is where the program is.
	Path string
	Args []string
	// Params lead to a server; nil: the program is not told of any.
	Params Params
	// Env is added to what Params and the site give; as in "NAME=value".
	Env []string
	// Stdin asks for [Process.Stdin]. Without it the program's input is empty.
	Stdin bool
	// Stdout and Stderr take what the program says. Stdout nil: it is read from [Process.Stdout].
	Stdout, Stderr io.Writer
	// End is the signal that ends the program, where signals reach it; default: what suits a client.
	End syscall.Signal
}

// Process is a program that was started. It must be waited for.
type Process struct {
	// Stdin is the program's input. Its end must be told by closing it.
	Stdin io.WriteCloser
	// Stdout ends when the program closed it, which says nothing about how it ended.
	Stdout io.ReadCloser
	wait   func() error
}

// Wait waits for the program's end, once, and returns nil for exit status 0, and an [*ExitError] for another one. What
// was not read of Stdout by then is lost.
func (p *Process) Wait() error { return p.wait() }

// ExitError is the end of a program that did not exit with status 0.
type ExitError struct {
	Code   int    // -1: it did not exit by itself
	Status string // in words
}

func (e *ExitError) Error() string { return e.Status }

// Error is what a server refused.
type Error struct {
	Code    string // SQLSTATE, "" where it is not known
	Message string // the primary message
}

func (e *Error) Error() string {
	if e.Code == "" {
		return e.Message
	}
	return fmt.Sprintf("%s (SQLSTATE %s)", e.Message, e.Code)
}
