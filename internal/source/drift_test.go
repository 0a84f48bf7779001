package source_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/source"
)

func TestDrifts(t *testing.T) {
	sequence := source.Fact{Class: "sequence", Name: "s", Rule: source.Exact, Text: "7, true"}
	later := sequence
	later.Text = "9, true"
	file := source.Fact{Class: "file", Name: "a", Rule: source.Exact, Bytes: 5, Digest: "x", Text: "file 0644"}
	longer := file
	longer.Bytes, longer.Digest = 6, "y"
	definition := source.Fact{Class: "definition", Name: "VIEW v", Rule: source.Text, Digest: "aa"}
	rewritten := definition
	rewritten.Digest = "bb"
	for _, c := range []struct {
		name      string
		then, now []source.Fact
		want      []string
	}{
		{"nothing changed", []source.Fact{table("a", 1, "x"), sequence}, []source.Fact{sequence, table("a", 1, "x")}, nil},
		{"rows came", []source.Fact{table("a", 3, "x")}, []source.Fact{table("a", 5, "y")}, []string{"table a: 3 rows then, 5 now (+2)"}},
		{"rows went", []source.Fact{table("a", 3, "x")}, []source.Fact{table("a", 0, "y")}, []string{"table a: 3 rows then, 0 now (-3)"}},
		{"rows changed", []source.Fact{table("a", 3, "x")}, []source.Fact{table("a", 3, "y")}, []string{"table a: same counts, other content"}},
		{"a file grew", []source.Fact{file}, []source.Fact{longer}, []string{"file a: 5 bytes then, 6 now"}},
		{"gone and new", []source.Fact{table("a", 1, "x")}, []source.Fact{table("b", 1, "x")}, []string{"table a is gone", "table b is new"}},
		{"a counter went on", []source.Fact{sequence}, []source.Fact{later}, []string{`sequence s: "7, true" then, "9, true" now`}},
		{"a definition", []source.Fact{definition}, []source.Fact{rewritten}, []string{"definition VIEW v: the text changed"}},
		{"what is listed is not compared", []source.Fact{{Class: "view", Name: "m", Rule: source.Listed}}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, d := range source.Drifts(c.then, c.now) {
				got = append(got, d.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// live is a source of one item that ends as told.
type live struct {
	content  string
	readErr  error
	closeErr error // of the item
	viewErr  error // of the view
	closed   bool
	ended    bool
}

func (l *live) Capture(context.Context, holdfast.Observer) (source.Capture, error) { return l, nil }
func (l *live) Diagnose(context.Context) ([]source.Finding, error)                 { return nil, nil }
func (l *live) Items() []source.Item {
	return []source.Item{{Name: "app.sql", Open: func(context.Context) (io.ReadCloser, error) { return l.reader(), nil }}}
}

func (l *live) Facts(context.Context) (source.Facts, error) {
	if !l.ended {
		return source.Facts{}, errors.New("not read to its end")
	}
	return source.Facts{Facts: []source.Fact{table("a", 1, "x")}}, nil
}

func (l *live) Close() error {
	l.closed = true
	return l.viewErr
}

func (l *live) reader() io.ReadCloser {
	end := l.readErr
	if end == nil {
		end = io.EOF
	}
	return &liveReader{strings.NewReader(l.content), l, end}
}

type liveReader struct {
	*strings.Reader
	of  *live
	end error
}

func (r *liveReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err == io.EOF {
		r.of.ended, err = true, r.end
	}
	return n, err
}

// WriteTo would go past Read.
func (r *liveReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r})
}

func (r *liveReader) Close() error { return r.of.closeErr }

func TestReadFacts(t *testing.T) {
	broken := errors.New("broken")
	for name, l := range map[string]*live{
		"the item cannot be read":     {content: "x", readErr: broken},
		"the item was not whole":      {content: "x", closeErr: broken},
		"the view did not hold":       {content: "x", viewErr: broken},
		"all of it was read and held": {content: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			facts, err := source.ReadFacts(t.Context(), l, nil)
			good := l.readErr == nil && l.closeErr == nil && l.viewErr == nil
			if good && (err != nil || len(facts.Facts) != 1) {
				t.Errorf("facts %v, error %v", facts.Facts, err)
			}
			if !good && !errors.Is(err, broken) {
				t.Errorf("error %v", err)
			}
			if !l.closed {
				t.Error("the view stays open")
			}
		})
	}
}
