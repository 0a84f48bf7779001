// Package sample makes the sample application: a database, a SQLite file and the files of a small Node service, full of
// what breaks backup tools, the same for the same seed, from 10 MB to 10 GB.
//
// It hides what is in it and how it is written fast: rows go to the server as binary COPY streams that are made while
// they are sent, so memory does not grow with the size.
//
// Laws:
//   - The same [Options] on the same server version give the same rows, names and objects; nothing comes from a clock
//     or an unseeded source. Only [Write], which plays the living application, changes things in its own order.
//   - Nothing that exists is overwritten: a database that has the application's schema, or a folder that has its files,
//     is refused.
//
// It is not its job to start servers, nor to know how anything is backed up.
package sample

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// Options say how much to make.
type Options struct {
	// Size is about how many bytes a plain SQL dump of the database has, and a tenth of it the application's data
	// files and SQLite file together, which do not grow beyond 20 MB. Default 10 MB.
	Size int64
	// Seed chooses the content. Default 0, a seed like any other.
	Seed uint64
}

const (
	defaultSize = 10_000_000
	// fullSize is the size at which the counts below hold.
	fullSize = 971_000_000

	fullUsers      = 40_000
	fullOperations = 1_500_000
	fullNotes      = 250_000
	fullEvents     = 120_000
	// fullImages and fullObjects are raw bytes; hexadecimal doubles them in a dump.
	fullImages  = 200_000_000
	fullObjects = 4_000_000
)

// epoch is the application's present: all times are made relative to it.
var epoch = time.Date(2026, time.June, 1, 8, 0, 0, 0, time.UTC)

func (o Options) size() int64 {
	if o.Size <= 0 {
		return defaultSize
	}
	return o.Size
}

// scale returns full at the full size, less or more in proportion, and at least least.
func (o Options) scale(full, least int64) int64 {
	return max(least, int64(float64(full)*float64(o.size())/fullSize))
}

// fileBytes is how much goes into each of the data files and the SQLite file.
func (o Options) fileBytes() int64 { return min(o.size()/20, 10_000_000) }

// random returns a generator of its own for one part, so that parts can be made at the same time and a change of one
// leaves the others as they were.
func (o Options) random(part string) *rand.Rand {
	return rand.New(rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "holdfast sample %d %s", o.Seed, part))))
}

// ParseSize reads "10MB", "1GB", "512kB" or a bare number of bytes; units are powers of 1000, and of 1024 when written
// KiB, MiB, GiB.
func ParseSize(text string) (int64, error) {
	units := []struct {
		suffix string
		factor float64
	}{
		{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1},
	}
	upper := strings.ToUpper(strings.TrimSpace(text))
	for _, unit := range units {
		digits, found := strings.CutSuffix(upper, unit.suffix)
		if !found {
			continue
		}
		number, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || !(number > 0 && number*unit.factor < 1e15) {
			break
		}
		return int64(number * unit.factor), nil
	}
	return 0, holdfast.WithHint(fmt.Errorf("%w: size %q is not valid", holdfast.ErrUsage, text), "write a size like 10MB or 1GB")
}
