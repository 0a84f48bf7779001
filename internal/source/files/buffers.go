package files

import (
	"math/bits"
	"sync"
)

// buffers lends memory for file content in sizes of powers of two. The zero value is ready; safe for concurrent use.
type buffers struct{ pools [24]sync.Pool }

// take returns an empty slice with room for size bytes.
func (b *buffers) take(size int) []byte {
	class := bits.Len(uint(max(size, blockSize) - 1))
	if held, ok := b.pools[class].Get().(*[]byte); ok {
		return (*held)[:0]
	}
	return make([]byte, 0, 1<<class)
}

func (b *buffers) put(room []byte) {
	if size := cap(room); size >= blockSize {
		if class := bits.Len(uint(size - 1)); 1<<class == size {
			b.pools[class].Put(&room)
		}
	}
}
