package pgdump

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"
	"strings"

	"holdfast/internal/source"
)

// ErrTruncated is what a reader of this package returns where a dump ends before its trailer.
var ErrTruncated = fmt.Errorf("dump ends before its trailer: %w", io.ErrUnexpectedEOF)

// ErrMalformed marks bytes that pg_dump never writes: damage, or an attack on whoever feeds them to psql.
var ErrMalformed = errors.New("not a dump as pg_dump writes it")

const (
	trailerDatabase = "-- PostgreSQL database dump complete"
	trailerCluster  = "-- PostgreSQL database cluster dump complete"

	// maxStatement bounds the text of a statement held in memory. Only definitions may be longer: they are hashed
	// in pieces.
	maxStatement = 16 << 20
	// maxLine bounds a comment or a meta-command; the longest real ones name a function with a hundred arguments.
	maxLine = 1 << 20
	// maxTokens bounds the tokens remembered of one statement; 1600 columns need a tenth of it.
	maxTokens = 1 << 18
	// maxTail bounds what may follow the trailer.
	maxTail = 1 << 10
)

type event uint8

const (
	more        event = iota // the chunk is used up
	inStatement              // never returned: separates "more" from what ends a unit
	statement                // a statement ended: text and tokens hold it until the next call
	comment                  // a comment line at top level ended: line holds it without its newline
	meta                     // a permitted psql meta-command ended: line holds it without its newline
	copyEnd                  // the data of a COPY ended
)

type state uint8

const (
	inCode state = iota
	inWord
	afterDash
	afterSlash
	inLineComment
	inBlockComment
	inQuote
	inQuoteEscape
	afterQuote
	inName
	afterName
	inDollarTag
	inDollarBody
	inMeta
	beforeCopyData
	inCopyData
)

type tokenKind uint8

const (
	wordToken   tokenKind = iota // unquoted name, key word or number
	nameToken                    // "quoted name"
	stringToken                  // '…'
	escapeToken                  // string with backslash escapes: E'…', or any with standard_conforming_strings off
	dollarToken                  // $tag$…$tag$
	punctToken                   // any other byte
)

// token is a part of the text of a statement.
type token struct {
	kind       tokenKind
	start, end int
}

// lexer splits the bytes of a dump into statements, comments, meta-commands and COPY data. It follows psql's own rules
// of where a statement ends, since psql is what will read the dump when it is restored.
//
// Bytes come in chunks of any size; results do not depend on where chunks end.
type lexer struct {
	trailer string
	// liberal takes all that psql takes, for scripts that pg_dump did not write: see Scan.
	liberal bool
	// rows receives the rows of COPY data, and counted how many there are; nil where nobody wants them.
	rows    *source.RowSet
	counted *int64
	// spill receives the beginning of the text of a statement longer than maxStatement; nil drops it.
	spill func([]byte)

	state    state
	open     bool // bytes of a statement were seen
	ended    bool // text holds a statement that was handed out
	newline  bool // at the beginning of a line at top level
	space    bool // whitespace is due before the next token
	escapes  bool // the open string knows backslash escapes
	ordinary bool // standard_conforming_strings is off: every string knows them
	long     bool // text lost its beginning
	longCopy bool // it began with COPY
	text     []byte
	tokens   []token
	start    int // of the open token
	line     []byte

	word       [16]byte // the open word in lower case, as far as it fits
	wordLen    int
	words      int     // unquoted words of the statement so far
	firstWords [4]byte // initials of those that matter, see endWord
	parens     int
	begins     int // nesting of BEGIN ATOMIC and of CASE within it

	delimiter []byte // $tag$
	matched   int    // bytes of delimiter seen in a dollar-quoted body
	depth     int    // of block comments
	previous  byte   // within a block comment

	rowHash hash.Hash // of a row that does not lie in one chunk
	rowLen  int64     // bytes of that row so far
	rowHead [3]byte

	lines       int64 // newlines before the current chunk
	began       int64 // the line on which the open statement or meta-command began
	complete    bool  // the trailer was seen
	tail        []byte
	restriction string
}

func newLexer(trailer string) *lexer {
	return &lexer{trailer: trailer, newline: true, rowHash: sha256.New()}
}

// next consumes bytes of p up to the end of the next unit and returns how many, and which kind of unit ended.
func (l *lexer) next(p []byte) (int, event, error) {
	after := l.complete
	n, ev, err := l.scan(p)
	if err == nil {
		err = l.check(ev)
	}
	if err == nil && after {
		err = l.follow(p[:n], ev)
	}
	if err != nil {
		line := l.lines + int64(bytes.Count(p[:n], []byte{'\n'})) + 1
		if n > 0 && p[n-1] == '\n' {
			line--
		}
		return n, ev, fmt.Errorf("%w: line %d: %w", ErrMalformed, line, err)
	}
	l.lines += int64(bytes.Count(p[:n], []byte{'\n'}))
	return n, ev, nil
}

// follow watches what stands behind the trailer.
func (l *lexer) follow(p []byte, ev event) error {
	isEnd := ev == comment && string(l.line) == "--" && len(l.tail) < len("--\n")
	if ev > inStatement && ev != meta && !isEnd || len(l.tail)+len(p) > maxTail {
		return errors.New("there is something behind the trailer")
	}
	l.tail = append(l.tail, p...)
	return nil
}

// finish returns io.EOF if the dump was whole, else [ErrTruncated].
func (l *lexer) finish() error {
	if l.liberal {
		return io.EOF // Scan has judged it
	}
	whole := l.complete && l.state == inCode && !l.open && l.restriction == "" &&
		bytes.HasPrefix(l.tail, []byte("--\n\n")) && bytes.HasSuffix(l.tail, []byte("\n\n"))
	if !whole {
		return ErrTruncated
	}
	return io.EOF
}

var (
	// In these encodings a backslash or a quote may be the second byte of a letter. No server stores text in them, and
	// pg_dump uses them only when asked to.
	unsafeEncoding = regexp.MustCompile(`(?i)^SET client_encoding = '(sjis|shift_?jis.*|mskanji|big5|gbk|uhc|gb18030|johab|win932|win936|win949|win950)';$`)
	restrict       = regexp.MustCompile(`^\\(un)?restrict ([A-Za-z0-9]+)$`)
	connect        = regexp.MustCompile(`^\\connect (?:[A-Za-z0-9_.]+|-reuse-previous=on "(?:[^"]|"")*")$`)
	metaName       = regexp.MustCompile(`^\\(?:[A-Za-z]{1,16}|.)?`)
)

// check applies what a finished unit means for the lexing of what follows.
func (l *lexer) check(ev event) error {
	if l.liberal {
		return l.checkLiberal(ev)
	}
	switch ev {
	case statement:
		switch {
		case l.longCopy:
			return errors.New("a COPY statement is too long")
		case l.long:
		case l.firstWord() == "COPY":
			if _, _, err := l.copyTarget(); err != nil {
				return err
			}
			l.state = beforeCopyData
		case bytes.HasPrefix(l.text, []byte("SET standard_conforming_strings = ")):
			l.ordinary = string(l.text) == "SET standard_conforming_strings = off;"
		case unsafeEncoding.Match(l.text):
			return errors.New("the client encoding hides backslashes within letters")
		}
	case comment:
		if string(l.line) == l.trailer {
			l.complete = true
		}
	case meta:
		if m := restrict.FindSubmatch(l.line); m != nil {
			token := string(m[2])
			switch {
			case len(m[1]) == 0 && l.restriction == "":
				l.restriction = token
				return nil
			case len(m[1]) > 0 && l.restriction == token:
				l.restriction = ""
				return nil
			}
			return errors.New("\\restrict and \\unrestrict do not match")
		}
		if l.restriction != "" || l.complete || !connect.Match(l.line) {
			// The line may be a row that lost its COPY: only the command's name may be shown.
			return fmt.Errorf("meta-command %q is not allowed", metaName.Find(l.line))
		}
	}
	return nil
}

func (l *lexer) reset() {
	l.open, l.ended, l.space, l.long, l.longCopy = false, false, false, false, false
	l.text, l.tokens = l.text[:0], l.tokens[:0]
	if cap(l.text) > 1<<20 {
		l.text = nil
	}
	l.words, l.firstWords, l.parens, l.begins = 0, [4]byte{}, 0, 0
}

// scan is next without what a unit means.
func (l *lexer) scan(p []byte) (int, event, error) {
	if l.ended {
		l.reset()
	}
	for i := 0; i < len(p); {
		c := p[i]
		switch l.state {
		case inCode:
			before := l.open
			n, ev, err := l.code(c)
			if !before && (l.open || l.state == inMeta) {
				l.began = l.lines + int64(bytes.Count(p[:i], []byte{'\n'})) + 1
			}
			i += n
			if ev != more || err != nil {
				return i, ev, err
			}
		case inWord:
			if isWord(c) {
				l.addWord(c)
				i++
				break
			}
			i += l.endWord(c)
		case afterDash:
			if c == '-' {
				l.state, l.line = inLineComment, append(l.line[:0], "--"...)
				i++
				break
			}
			l.punct('-')
			l.state = inCode
		case afterSlash:
			if c == '*' {
				l.state, l.depth, l.previous = inBlockComment, 1, 0
				i++
				break
			}
			l.punct('/')
			l.state = inCode
		case inLineComment, inMeta:
			n := bytes.IndexByte(p[i:], '\n')
			if n < 0 {
				n = len(p) - i
			}
			if len(l.line)+n > maxLine {
				return i, more, errors.New("a comment or meta-command is too long")
			}
			l.line = append(l.line, p[i:i+n]...)
			if i += n; i == len(p) {
				break
			}
			ev := comment
			if l.state == inMeta {
				ev = meta
			}
			l.state, l.space, l.newline = inCode, true, true
			if !l.open || ev == meta {
				return i + 1, ev, nil
			}
			i++
		case inBlockComment:
			l.blockComment(c)
			i++
		case inQuote:
			i += l.quote(p[i:])
		case inQuoteEscape:
			l.text = append(l.text, c)
			l.state = inQuote
			i++
		case afterQuote, afterName:
			quote, inside, kind := byte('\''), inQuote, stringToken
			if l.state == afterName {
				quote, inside, kind = '"', inName, nameToken
			} else if l.escapes {
				kind = escapeToken
			}
			if c == quote {
				l.text = append(l.text, c)
				l.state = inside
				i++
				break
			}
			l.endToken(kind)
			l.state = inCode
		case inName:
			n := bytes.IndexByte(p[i:], '"') + 1
			if n == 0 {
				n = len(p) - i
			} else {
				l.state = afterName
			}
			l.text = append(l.text, p[i:i+n]...)
			i += n
		case inDollarTag:
			if err := l.dollarTag(c, &i); err != nil {
				return i, more, err
			}
		case inDollarBody:
			i += l.dollarBody(p[i:])
		case beforeCopyData:
			if l.liberal && (c == '\r' || c == ' ' || c == '\t') {
				i++
				break
			}
			if c != '\n' {
				return i, more, errors.New("a COPY statement is not alone on its line")
			}
			l.state = inCopyData
			i++
		case inCopyData:
			n, done, err := l.copyData(p[i:])
			i += n
			if err != nil {
				return i, more, err
			}
			if done {
				l.state, l.newline = inCode, true
				return i, copyEnd, nil
			}
		}
		if len(l.text) > maxStatement || len(l.tokens) > maxTokens {
			l.shorten()
		}
	}
	return len(p), more, nil
}

// code handles one byte outside of quotes and comments. It returns 0 consumed bytes only after changing the state.
func (l *lexer) code(c byte) (int, event, error) {
	switch {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
		l.space = true
		l.newline = c == '\n'
		return 1, more, nil
	case c == '-':
		l.state = afterDash
		return 1, more, nil
	case c == '/':
		l.state = afterSlash
		return 1, more, nil
	case c == '\\' && l.liberal:
		l.state, l.line = inMeta, append(l.line[:0], c)
		return 1, more, nil
	case c == '\\':
		if l.begins > 0 {
			return 1, more, errors.New("a BEGIN has no END: psql cannot read a routine whose name is begin")
		}
		if l.open || !l.newline {
			return 1, more, errors.New("there is a backslash outside of quotes")
		}
		l.state, l.line = inMeta, append(l.line[:0], c)
		return 1, more, nil
	case isWord(c) && c != '$':
		l.startToken()
		l.state, l.wordLen = inWord, 0
		l.addWord(c)
		return 1, more, nil
	case c == '\'':
		l.startToken()
		l.text = append(l.text, c)
		l.state, l.escapes = inQuote, l.ordinary
		return 1, more, nil
	case c == '"':
		l.startToken()
		l.text = append(l.text, c)
		l.state = inName
		return 1, more, nil
	case c == '$':
		l.startToken()
		l.state, l.delimiter = inDollarTag, append(l.delimiter[:0], c)
		return 1, more, nil
	}
	l.punct(c)
	switch c {
	case '(':
		l.parens++
	case ')':
		l.parens = max(0, l.parens-1)
	case ';':
		if l.parens == 0 && l.begins == 0 {
			l.ended = true
			l.newline = false
			return 1, statement, nil
		}
	}
	return 1, more, nil
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '$' || c >= 0x80
}

func (l *lexer) startToken() {
	if l.space && l.open && (len(l.text) > 0 || l.long) {
		l.text = append(l.text, ' ')
	}
	l.open, l.space, l.newline = true, false, false
	l.start = len(l.text)
}

func (l *lexer) endToken(kind tokenKind) {
	if !l.long {
		l.tokens = append(l.tokens, token{kind, l.start, len(l.text)})
	}
}

func (l *lexer) punct(c byte) {
	l.startToken()
	l.text = append(l.text, c)
	l.endToken(punctToken)
}

// shorten hands the text so far on to spill.
func (l *lexer) shorten() {
	if l.spill != nil {
		l.spill(l.text)
	}
	if l.firstWord() == "COPY" {
		l.longCopy = true
	}
	l.long = true
	l.text, l.tokens = l.text[:0], l.tokens[:0]
}

func (l *lexer) addWord(c byte) {
	l.text = append(l.text, c)
	if l.wordLen < len(l.word) {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		l.word[l.wordLen] = c
		l.wordLen++
	}
}

// endWord ends the open word before the byte c. It counts BEGIN and END the way psql does: only in a statement that
// begins with CREATE [OR REPLACE] FUNCTION or PROCEDURE, and only outside of parentheses. It returns 1 if it consumed c.
func (l *lexer) endWord(c byte) int {
	l.state = inCode
	word := string(l.word[:l.wordLen])
	if word == "e" && c == '\'' {
		// The prefix of a string with escapes; the token goes on.
		l.text = append(l.text, c)
		l.escapes = true
		l.state = inQuote
		return 1
	}
	l.endToken(wordToken)
	if '0' <= word[0] && word[0] <= '9' {
		return 0
	}
	if l.words < len(l.firstWords) {
		switch word {
		case "create", "function", "procedure", "or", "replace":
			l.firstWords[l.words] = word[0]
		}
	}
	l.words++
	if l.parens > 0 || !l.isRoutine() {
		return 0
	}
	switch word {
	case "begin":
		l.begins++
	case "case":
		if l.begins > 0 {
			l.begins++
		}
	case "end":
		l.begins = max(0, l.begins-1)
	}
	return 0
}

func (l *lexer) isRoutine() bool {
	initials := string(l.firstWords[:])
	return strings.HasPrefix(initials, "cf") || strings.HasPrefix(initials, "cp") || initials == "corf" || initials == "corp"
}

func (l *lexer) blockComment(c byte) {
	switch {
	case l.previous == '/' && c == '*':
		l.depth++
		c = 0
	case l.previous == '*' && c == '/':
		l.depth--
		c = 0
	}
	if l.previous = c; l.depth == 0 {
		l.state, l.space = inCode, true
	}
}

func (l *lexer) quote(p []byte) int {
	n := bytes.IndexByte(p, '\'')
	if l.escapes {
		until := p
		if n >= 0 {
			until = p[:n]
		}
		if b := bytes.IndexByte(until, '\\'); b >= 0 {
			l.text = append(l.text, p[:b+1]...)
			l.state = inQuoteEscape
			return b + 1
		}
	}
	if n++; n == 0 {
		n = len(p)
	} else {
		l.state = afterQuote
	}
	l.text = append(l.text, p[:n]...)
	return n
}

func (l *lexer) dollarTag(c byte, i *int) error {
	switch {
	case c == '$':
		l.delimiter = append(l.delimiter, c)
		l.text = append(l.text, l.delimiter...)
		l.state, l.matched = inDollarBody, 0
		*i++
	case isWord(c) && (len(l.delimiter) > 1 || c < '0' || '9' < c):
		if len(l.delimiter) > 256 {
			return errors.New("a dollar quote's tag is too long")
		}
		l.delimiter = append(l.delimiter, c)
		*i++
	default:
		// A parameter, or nothing that SQL knows.
		l.text = append(l.text, l.delimiter...)
		l.endToken(punctToken)
		l.state = inCode
	}
	return nil
}

// dollarBody consumes bytes of a dollar-quoted string. Since a tag holds no dollar sign, only one can begin a delimiter.
func (l *lexer) dollarBody(p []byte) int {
	i := 0
	for i < len(p) && l.matched < len(l.delimiter) {
		if l.matched == 0 {
			n := bytes.IndexByte(p[i:], '$')
			if n < 0 {
				i = len(p)
				break
			}
			i += n
		}
		switch p[i] {
		case l.delimiter[l.matched]:
			l.matched++
		case '$':
			l.matched = 1
		default:
			l.matched = 0
		}
		i++
	}
	l.text = append(l.text, p[:i]...)
	if l.matched == len(l.delimiter) {
		l.endToken(dollarToken)
		l.state = inCode
	}
	return i
}

var errDataEnd = errors.New("a row of COPY data begins like the end of data")

// copyData consumes rows up to the line that ends them. A row is hashed where it lies; only one that goes on in the
// next chunk is hashed in pieces.
func (l *lexer) copyData(p []byte) (n int, done bool, err error) {
	if l.rowLen > 0 {
		n = bytes.IndexByte(p, '\n')
		if n < 0 {
			l.addRowPart(p)
			return len(p), false, nil
		}
		l.addRowPart(p[:n])
		n++
		size := l.rowLen
		l.rowLen = 0
		if size >= 2 && string(l.rowHead[:2]) == `\.` {
			if done, err := l.dataEnd(size, l.rowHead[2]); done || err != nil {
				return n, done, err
			}
		}
		if l.rows != nil {
			var sum [sha256.Size]byte
			l.rowHash.Sum(sum[:0])
			l.rows.AddSum(sum, size)
		}
		l.count()
	}
	for n < len(p) {
		size := bytes.IndexByte(p[n:], '\n')
		if size < 0 {
			l.rowHash.Reset()
			l.addRowPart(p[n:])
			return len(p), false, nil
		}
		row := p[n : n+size]
		n += size + 1
		if size >= 2 && row[0] == '\\' && row[1] == '.' {
			if done, err := l.dataEnd(int64(size), row[min(2, size-1)]); done || err != nil {
				return n, done, err
			}
		}
		if l.rows != nil {
			l.rows.Add(row)
		}
		l.count()
	}
	return n, false, nil
}

func (l *lexer) count() {
	if l.counted != nil {
		*l.counted++
	}
}

// dataEnd judges a line of size bytes that begins like the end of data.
func (l *lexer) dataEnd(size int64, third byte) (bool, error) {
	switch {
	case size == 2, l.liberal && size == 3 && third == '\r':
		return true, nil
	case l.liberal:
		return false, nil // a row of a CSV, or one that the server refuses
	}
	return false, errDataEnd
}

func (l *lexer) addRowPart(part []byte) {
	for i := l.rowLen; i < int64(len(l.rowHead)) && i-l.rowLen < int64(len(part)); i++ {
		l.rowHead[i] = part[i-l.rowLen]
	}
	l.rowLen += int64(len(part))
	if l.rows != nil {
		l.rowHash.Write(part)
	}
}
