package holdfast

import (
	"errors"
	"strings"
)

// The sentinels that decide an exit code. Wrap them where the fact is known; cli maps them once.
var (
	// ErrUsage marks a mistake in arguments or configuration: exit code 2.
	ErrUsage = errors.New("bad usage")
	// ErrIncomplete marks a backup that was committed without all of its sources or copies: exit code 3.
	ErrIncomplete = errors.New("incomplete")
	// ErrDifference marks stored or restored data that is not what was recorded: exit code 4.
	ErrDifference = errors.New("difference found")
	// ErrBusy marks a job that another run holds: exit code 5.
	ErrBusy = errors.New("another run holds the job")
	// ErrCannotTest marks a drill or verification that could not be made: exit code 6.
	ErrCannotTest = errors.New("cannot test")
	// ErrInterrupted marks a run ended by a signal: exit code 130.
	ErrInterrupted = errors.New("interrupted")
)

// hinted carries what to do about an error apart from what happened.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// WithHint attaches to err one sentence that says what to do. The hint is not part of the error's text.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hint}
}

// Hint returns the outermost hint attached to err, or "".
func Hint(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}

// Sentence is the text of err for a person. What marks the kind of an error is said once, whatever number of layers added
// it, and not at all for bad usage, which needs no name.
func Sentence(err error) string {
	text := strings.ReplaceAll(err.Error(), ErrUsage.Error()+": ", "")
	for _, mark := range []error{ErrDifference, ErrCannotTest, ErrIncomplete} {
		said := mark.Error() + ": "
		if first := strings.Index(text, said); first >= 0 {
			rest := first + len(said)
			text = text[:rest] + strings.ReplaceAll(text[rest:], said, "")
		}
	}
	return text
}
