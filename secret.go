package holdfast

import (
	"fmt"
	"io"
	"log/slog"
)

const mask = "********"

// Secret is a value that must not be shown. It prints, logs and marshals as a mask; Reveal is the one way to its
// text, so that every use can be found by name. Two secrets are compared by what they reveal, never with ==.
type Secret struct {
	// A pointer, because package fmt prints the unexported fields of a struct without asking them how.
	text *string
}

// NewSecret wraps text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the secret itself.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether no secret is set.
func (s Secret) IsZero() bool { return s.text == nil }

// Format writes a mask, whatever the verb.
func (s Secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, mask) }

// String returns a mask.
func (s Secret) String() string { return mask }

// GoString returns a mask.
func (s Secret) GoString() string { return mask }

// MarshalText returns a mask.
func (s Secret) MarshalText() ([]byte, error) { return []byte(mask), nil }

// LogValue returns a mask.
func (s Secret) LogValue() slog.Value { return slog.StringValue(mask) }
