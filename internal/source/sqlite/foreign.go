package sqlite

import (
	"holdfast"
	"holdfast/internal/source"
)

// Told are the facts of an image of which only its bytes are known: a file of another tool, read to its end. Digest is the
// SHA-256 of them in lower-case hexadecimal.
func Told(size int64, digest string) source.Facts {
	return source.Facts{Kind: holdfast.KindSQLite, Facts: []source.Fact{
		{Class: imageFact, Name: "database", Rule: source.Exact, Bytes: size, Digest: digest},
	}}
}
