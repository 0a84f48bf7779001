package source

import (
	"context"
	"fmt"
	"io"
	"strings"

	"holdfast"
)

// ReadFacts reads all of what src is now, in one pinned view, and returns its facts. The bytes that passed are thrown away:
// nothing is stored, and the source is not changed.
func ReadFacts(ctx context.Context, src Source, observe holdfast.Observer) (facts Facts, err error) {
	view, err := src.Capture(ctx, observe)
	if err != nil {
		return Facts{}, err
	}
	defer func() {
		// What was read is of one view only if the view held to the end.
		if closeErr := view.Close(); err == nil {
			err = closeErr
		}
	}()
	for _, item := range view.Items() {
		if err := discard(ctx, item); err != nil {
			return Facts{}, err
		}
	}
	return view.Facts(ctx)
}

func discard(ctx context.Context, item Item) error {
	r, err := item.Open(ctx)
	if err != nil {
		return fmt.Errorf("open %s: %w", item.Name, err)
	}
	_, err = io.Copy(io.Discard, r)
	if closeErr := r.Close(); err == nil {
		err = closeErr // one that was not read to its end says the same again
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", item.Name, err)
	}
	return nil
}

// Drift is one way in which a live source is not what it was when its facts were recorded. It accuses neither side.
type Drift struct {
	Class string `json:"class"`
	Name  string `json:"name"`
	Then  *Fact  `json:"then,omitempty"` // nil: it is new
	Now   *Fact  `json:"now,omitempty"`  // nil: it is gone
	// TextOnly marks a definition of which only the text differs, which another version of a program may write too.
	TextOnly bool `json:"text_only,omitempty"`
}

// Drifts lists what changed between then, which was recorded, and now, which was read from the live source, ordered by class
// and name. Facts with the rule Listed are left out.
func Drifts(then, now []Fact) []Drift {
	var drifts []Drift
	for _, d := range Compare(then, now) {
		drifts = append(drifts, Drift{Class: d.Class, Name: d.Name, Then: d.Stored, Now: d.Restored, TextOnly: d.Rule == Text})
	}
	return drifts
}

// String tells the drift in one line.
func (d Drift) String() string {
	switch {
	case d.Now == nil:
		return fmt.Sprintf("%s %s is gone", d.Class, d.Name)
	case d.Then == nil:
		return fmt.Sprintf("%s %s is new", d.Class, d.Name)
	case d.TextOnly:
		return fmt.Sprintf("%s %s: the text changed", d.Class, d.Name)
	}
	var parts []string
	if a, b := d.Then.Rows, d.Now.Rows; a != b {
		parts = append(parts, fmt.Sprintf("%d rows then, %d now (%+d)", a, b, b-a))
	} else if a, b := d.Then.Bytes, d.Now.Bytes; a != b && a+b > 0 {
		parts = append(parts, fmt.Sprintf("%d bytes then, %d now", a, b))
	}
	if d.Then.Text != d.Now.Text {
		parts = append(parts, fmt.Sprintf("%q then, %q now", d.Then.Text, d.Now.Text))
	}
	if len(parts) == 0 {
		parts = append(parts, "same counts, other content")
	}
	return fmt.Sprintf("%s %s: %s", d.Class, d.Name, strings.Join(parts, ", "))
}
