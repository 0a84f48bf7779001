package sample

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// rows writes rows in PostgreSQL's binary COPY format, made while they are read. Values are encoded here rather than
// by a type map because enums, domains and jsonb then need no registration, and no value is boxed.
type rows struct {
	columns int
	next    func(*rows) bool // writes one row, or reports that there is none left
	buffer  []byte
	unread  []byte
	ended   bool
}

// copyHeader is the signature, no flags, and no extension.
const copyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// chunk is how much is made before it is handed on.
const chunk = 256 << 10

func (r *rows) Read(p []byte) (int, error) {
	if len(r.unread) == 0 {
		if r.ended {
			return 0, io.EOF
		}
		r.buffer = r.buffer[:0]
		for len(r.buffer) < chunk {
			mark := len(r.buffer)
			r.buffer = binary.BigEndian.AppendUint16(r.buffer, uint16(r.columns))
			if !r.next(r) {
				r.buffer = binary.BigEndian.AppendUint16(r.buffer[:mark], 0xffff)
				r.ended = true
				break
			}
		}
		r.unread = r.buffer
	}
	n := copy(p, r.unread)
	r.unread = r.unread[n:]
	return n, nil
}

func (r *rows) null() { r.buffer = append(r.buffer, 0xff, 0xff, 0xff, 0xff) }

func (r *rows) length(n int) { r.buffer = binary.BigEndian.AppendUint32(r.buffer, uint32(n)) }

func (r *rows) int4(v int32) {
	r.length(4)
	r.buffer = binary.BigEndian.AppendUint32(r.buffer, uint32(v))
}

func (r *rows) int8(v int64) {
	r.length(8)
	r.buffer = binary.BigEndian.AppendUint64(r.buffer, uint64(v))
}

// text writes text, varchar, an enum or a domain over them.
func (r *rows) text(v string) {
	r.length(len(v))
	r.buffer = append(r.buffer, v...)
}

// made writes what the function appends, as bytea or text.
func (r *rows) made(appendTo func([]byte) []byte) {
	mark := len(r.buffer)
	r.length(0)
	r.buffer = appendTo(r.buffer)
	binary.BigEndian.PutUint32(r.buffer[mark:], uint32(len(r.buffer)-mark-4))
}

// jsonb writes JSON text behind the version byte of the binary format.
func (r *rows) jsonb(appendTo func([]byte) []byte) {
	r.made(func(out []byte) []byte { return appendTo(append(out, 1)) })
}

// time writes a timestamp with time zone.
func (r *rows) time(v time.Time) {
	r.int8(v.Sub(time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)).Microseconds())
}

// date writes a date, a number of days after 2000-01-01.
func (r *rows) date(days int32) { r.int4(days) }

// cents writes a numeric with two decimals.
func (r *rows) cents(v int64) {
	var sign uint16
	if v < 0 {
		sign, v = 0x4000, -v
	}
	// Base 10000 digits, the last one holding the two decimals.
	digits := []uint16{uint16(v % 100 * 100)}
	for whole := v / 100; whole > 0; whole /= 10000 {
		digits = append(digits, uint16(whole%10000))
	}
	r.length(8 + 2*len(digits))
	for _, word := range []uint16{uint16(len(digits)), uint16(len(digits) - 2), sign, 2} {
		r.buffer = binary.BigEndian.AppendUint16(r.buffer, word)
	}
	for i := len(digits) - 1; i >= 0; i-- {
		r.buffer = binary.BigEndian.AppendUint16(r.buffer, digits[i])
	}
}

// texts writes a text[] of one dimension.
func (r *rows) texts(values []string) {
	const textOID = 25
	r.made(func(out []byte) []byte {
		words := []uint32{0, 0, textOID}
		if len(values) > 0 {
			words = []uint32{1, 0, textOID, uint32(len(values)), 1}
		}
		for _, word := range words {
			out = binary.BigEndian.AppendUint32(out, word)
		}
		for _, value := range values {
			out = binary.BigEndian.AppendUint32(out, uint32(len(value)))
			out = append(out, value...)
		}
		return out
	})
}

// copyRows loads a table; columns are a comma-separated list, and next writes one value for each of them.
func copyRows(ctx context.Context, conn *pgx.Conn, table, columns string, next func(*rows) bool) error {
	r := &rows{columns: strings.Count(columns, ",") + 1, next: next, unread: []byte(copyHeader)}
	_, err := conn.PgConn().CopyFrom(ctx, r, fmt.Sprintf("COPY %s (%s) FROM STDIN (FORMAT binary)", table, columns))
	if err != nil {
		return fmt.Errorf("load %s: %w", table, err)
	}
	return nil
}
