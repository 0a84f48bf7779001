package pgdump

import (
	"bytes"
	"io"
)

// byteOrderMark is what editors of Windows write before UTF-8. psql skips it where a file begins, and nowhere else: what is sent
// to it before a script would hide the beginning.
const byteOrderMark = "\xef\xbb\xbf"

// unmarked reads without the byte order mark that inner may begin with.
type unmarked struct {
	inner io.Reader
	begun bool
	head  []byte // was read to look for the mark, and is not handed on yet
	err   error  // came with it
}

func (u *unmarked) Read(p []byte) (int, error) {
	if !u.begun {
		u.begin()
	}
	if len(u.head) > 0 {
		n := copy(p, u.head)
		u.head = u.head[n:]
		return n, nil
	}
	if u.err != nil {
		return 0, u.err
	}
	return u.inner.Read(p)
}

func (u *unmarked) begin() {
	u.begun = true
	head := make([]byte, len(byteOrderMark))
	n, err := io.ReadFull(u.inner, head)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	u.head, u.err = bytes.TrimPrefix(head[:n], []byte(byteOrderMark)), err
}
