package schedule

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"time"
)

// Jitter returns by how much what is called name begins later than due: at least 0 and less than most, 0 when most is not positive. It
// is drawn from the SHA-256 of name and due, so that it is the same on every machine and after every start, and another one for another
// name or another due time. Less than a second of due does not count.
func Jitter(name string, due time.Time, most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(name), uint64(due.Unix())))
	share, _ := bits.Mul64(binary.BigEndian.Uint64(sum[:]), uint64(most))
	return time.Duration(share)
}
