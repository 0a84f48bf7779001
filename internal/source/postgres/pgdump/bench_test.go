package pgdump_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"holdfast/internal/source/postgres/pgdump"
)

// sized returns a dump of one table with rows of about 200 bytes.
func sized(rows int) []byte {
	var b bytes.Buffer
	b.WriteString("--\n-- PostgreSQL database dump\n--\n\n--\n-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: app\n--\n\n")
	b.WriteString("COPY public.t (id, email, note) FROM stdin;\n")
	for i := range rows {
		fmt.Fprintf(&b, "%d\tuser%d@example.com\t%0*d\n", i, i, 100+i*7919%200, i)
	}
	b.WriteString("\\.\n\n\n--\n-- PostgreSQL database dump complete\n--\n\n")
	return b.Bytes()
}

// discard reads through a fixed buffer, as the stages behind a dump do.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkReader(b *testing.B) {
	dump := sized(100_000)
	buffer := make([]byte, 1<<20)
	b.SetBytes(int64(len(dump)))
	b.ReportAllocs()
	for b.Loop() {
		r := pgdump.NewReader(struct{ io.Reader }{bytes.NewReader(dump)})
		if _, err := io.CopyBuffer(discard{}, struct{ io.Reader }{r}, buffer); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	dump := sized(100_000)
	buffer := make([]byte, 1<<20)
	b.SetBytes(int64(len(dump)))
	b.ReportAllocs()
	for b.Loop() {
		f := pgdump.NewFilter(struct{ io.Reader }{bytes.NewReader(dump)}, pgdump.Rules{})
		if _, err := io.CopyBuffer(discard{}, struct{ io.Reader }{f}, buffer); err != nil {
			b.Fatal(err)
		}
	}
}
