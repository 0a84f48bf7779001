package foreign

import (
	"archive/tar"
	"bytes"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Content is what a file holds below its layers.
type Content string

// The contents.
const (
	SQL         Content = "sql"
	PgCustom    Content = "pg_dump-custom"
	PgTar       Content = "pg_dump-tar"
	PgDirectory Content = "pg_dump-directory"
	Tar         Content = "tar"
	SQLite      Content = "sqlite"
	Empty       Content = "empty"   // no byte at all
	Sealed      Content = "sealed"  // behind a seal that nobody opened
	Broken      Content = "broken"  // behind a layer that is damaged where it begins
	Unknown     Content = "unknown" // none of these
)

// String is the content in words.
func (c Content) String() string {
	switch c {
	case SQL:
		return "SQL"
	case PgCustom:
		return "pg_dump -Fc"
	case PgTar:
		return "pg_dump -Ft"
	case PgDirectory:
		return "pg_dump -Fd"
	case SQLite:
		return "SQLite image"
	}
	return string(c)
}

// Database reports whether the content is restored by PostgreSQL.
func (c Content) Database() bool {
	return c == SQL || c == PgCustom || c == PgTar || c == PgDirectory
}

// headSize is how much of a layer's beginning is looked at: SQL may begin with a long comment.
const headSize = 64 << 10

// contentOf recognises a content by its beginning; the remark tells more of one that is unknown.
func contentOf(head []byte) (content Content, remark string) {
	switch {
	case len(head) == 0:
		return Empty, ""
	case bytes.HasPrefix(head, []byte("PGDMP")):
		return PgCustom, ""
	case bytes.HasPrefix(head, []byte("SQLite format 3\x00")):
		return SQLite, ""
	}
	if name, is := tarHeader(head); is {
		if name == "toc.dat" {
			return PgTar, ""
		}
		return Tar, ""
	}
	if remark, is := known(head); is {
		return Unknown, remark
	}
	return text(head)
}

// tarHeader reports whether head begins with the header of a tar, which its checksum tells, and the first member's name.
func tarHeader(head []byte) (name string, is bool) {
	const block = 512
	if len(head) < block || head[0] == 0 {
		return "", false
	}
	h, err := tar.NewReader(bytes.NewReader(head)).Next()
	if err == nil {
		return h.Name, true
	}
	// An extended header may be longer than what is looked at.
	return "", string(head[257:262]) == "ustar"
}

// known are formats that are no backup this package reads, by their first bytes.
func known(head []byte) (string, bool) {
	for _, format := range []struct{ magic, name string }{
		{"PK\x03\x04", "a zip archive"},
		{"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"},
		{"Rar!\x1a\x07", "a RAR archive"},
		{"\x04\x22\x4d\x18", "compressed with lz4"},
		{"\x89LZO\x00", "compressed with lzop"},
		{"\x1f\x9d", "compressed with compress (.Z)"},
		{"LZIP", "compressed with lzip"},
		{"Obnam", "an archive of Obnam"},
		{"BORG_SEG", "a part of a Borg repository"},
		{"LUKS\xba\xbe", "a LUKS volume"},
	} {
		if bytes.HasPrefix(head, []byte(format.magic)) {
			return format.name, true
		}
	}
	return "", false
}

var (
	// firstWord finds the first word of SQL behind comments and psql's commands.
	firstWord = regexp.MustCompile(`^(?:\s+|--[^\n]*\n|/\*(?s:.*?)\*/|\\[a-z!]+[^\n]*\n)*([A-Za-z]+)`)
	otherDump = regexp.MustCompile(`^(?:/\*[^\n]*\n)?-- (MySQL|MariaDB) dump `)
)

// statements are the words that a file of SQL can begin with.
const statements = " ALTER ANALYZE BEGIN CALL CLUSTER COMMENT COMMIT COPY CREATE DELETE DISCARD DO DROP END GRANT IMPORT INSERT LOCK MERGE REFRESH " +
	"REINDEX RESET REVOKE SECURITY SELECT SET START TRUNCATE UPDATE VACUUM VALUES WITH "

// fixedWords are those of the statements whose second word is fixed too: prose begins with some of them.
var fixedWords = regexp.MustCompile(`(?i)^(?:DELETE\s+FROM|IMPORT\s+FOREIGN|INSERT\s+INTO|MERGE\s+INTO|REFRESH\s+MATERIALIZED|SECURITY\s+LABEL|SET\s+["a-z_]|START\s+TRANSACTION)`)

// longStatement is how a statement begins that may be very long, and prose does not.
var longStatement = regexp.MustCompile(`(?i)^(?:CREATE\s+(?:TABLE|TEMP|TEMPORARY|UNLOGGED|VIEW|MATERIALIZED|FUNCTION|PROCEDURE|TYPE|OR\s+REPLACE)\s|COMMENT\s+ON\s|SELECT\s+['"(*0-9]|VALUES\s*\(|` +
	`WITH\s+(?:RECURSIVE\s+)?(?:"[^"]+"|\w+)\s*(?:\(|AS\s))`)

const fixed = " DELETE IMPORT INSERT MERGE REFRESH SECURITY SET START "

// isSQL reports whether text, which begins with a word of a statement, goes on as SQL does: prose can begin so too, and seldom
// has a semicolon at the end of a line, or before the next statement. cut says that there is more behind text.
func isSQL(text []byte, cut bool) bool {
	first := firstWord.FindSubmatchIndex(text)
	if first == nil {
		return false
	}
	text = text[first[2]:]
	word := " " + strings.ToUpper(string(text[:first[3]-first[2]])) + " "
	if !strings.Contains(statements, word) || strings.Contains(fixed, word) && !fixedWords.Match(text) {
		return false
	}
	for rest := text; ; {
		_, behind, found := bytes.Cut(rest, []byte(";"))
		if !found {
			return cut && (word == " INSERT " || longStatement.Match(text)) // one statement may be longer than what is looked at
		}
		rest = behind
		behind = bytes.TrimLeft(behind, " \t\r")
		if len(behind) == 0 || bytes.IndexByte([]byte("\n;\\"), behind[0]) >= 0 || bytes.HasPrefix(behind, []byte("--")) || bytes.HasPrefix(behind, []byte("/*")) {
			return true
		}
		if next := firstWord.FindSubmatch(behind); next != nil && strings.Contains(statements, " "+strings.ToUpper(string(next[1]))+" ") {
			return true
		}
	}
}

// text tells SQL from other text.
func text(head []byte) (Content, string) {
	if bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) {
		return Unknown, "text in UTF-16, which psql does not read"
	}
	if bytes.IndexByte(head, 0) >= 0 {
		return Unknown, ""
	}
	cut := len(head) == headSize
	head = bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	if m := otherDump.FindSubmatch(head); m != nil {
		return Unknown, "a dump of " + string(m[1])
	}
	if bytes.Contains(head[:min(len(head), 4096)], []byte("\n-- PostgreSQL database ")) || isSQL(head, cut) {
		return SQL, ""
	}
	if utf8.Valid(head[:len(head)-min(len(head), utf8.UTFMax)]) {
		return Unknown, "text"
	}
	return Unknown, ""
}
