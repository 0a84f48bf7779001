package seal_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"holdfast/internal/seal"
)

// dump makes what a dump of a database looks like: rows with numbers, times, words and JSON, some binary columns in
// hexadecimal, some prose.
func dump(size int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 4000)
	for i := range words {
		word := make([]byte, 2+random.IntN(9))
		for j := range word {
			word[j] = "etaoinshrdlucmfwypvbgkqjxz"[min(random.IntN(26), random.IntN(26))]
		}
		words[i] = string(word)
	}
	word := func() string { return words[min(random.IntN(4000), random.IntN(4000), random.IntN(4000))] }
	data := make([]byte, 0, size+1<<16)
	for id := 0; len(data) < size; id++ {
		switch {
		case id%40 == 0:
			blob := make([]byte, 2048)
			for i := range blob {
				blob[i] = byte(random.Uint32())
			}
			data = append(hex.AppendEncode(fmt.Appendf(data, "%d\t\\\\x", id), blob), '\n')
		case id%8 == 0:
			data = fmt.Appendf(data, "%d\t", id)
			for range 60 {
				data = append(append(data, word()...), ' ')
			}
			data = append(data, '\n')
		default:
			data = fmt.Appendf(data, "%d\t%d\t2025-%02d-%02d %02d:%02d:%02d.%06d+00\t{\"kind\": %q, \"amount\": %d.%02d, \"ref\": \"%016x\", \"tags\": [%q, %q]}\t%s\t\\N\n",
				id, random.IntN(100_000), 1+id/100_000%12, 1+id/3000%28, random.IntN(24), random.IntN(60), random.IntN(60),
				random.IntN(1_000_000), word(), random.IntN(10_000), random.IntN(100), random.Uint64(), word(), word(), word())
		}
	}
	return data[:size]
}

const benchSize = 128 << 20

func BenchmarkWriter(b *testing.B) {
	noise := make([]byte, benchSize)
	rand.NewChaCha8([32]byte{}).Read(noise)
	inputs := []struct {
		name string
		data []byte
	}{{"dump", dump(benchSize)}, {"noise", noise}}
	k := pair(b, seal.X25519)
	for _, input := range inputs {
		for _, c := range compressions {
			b.Run(fmt.Sprintf("%s,%s", input.name, c), func(b *testing.B) {
				b.SetBytes(benchSize)
				opt := k.options(c)
				opt.Workers = 0
				var sealedBytes int64
				for b.Loop() {
					w, err := seal.NewWriter(io.Discard, opt)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := w.ReadFrom(bytes.NewReader(input.data)); err != nil {
						b.Fatal(err)
					}
					if err := w.Close(); err != nil {
						b.Fatal(err)
					}
					sealedBytes = w.Sums().SealedBytes
				}
				b.ReportMetric(float64(sealedBytes)/benchSize, "sealed/plain")
			})
		}
	}
}

func BenchmarkReader(b *testing.B) {
	k := pair(b, seal.X25519)
	for _, c := range compressions {
		b.Run(string(c), func(b *testing.B) {
			data, _ := sealed(b, k.options(c), dump(benchSize))
			b.SetBytes(benchSize)
			for b.Loop() {
				r, err := seal.NewReader(bytes.NewReader(data), k.readOptions(c))
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, r); err != nil || n != benchSize {
					b.Fatal(n, err)
				}
				r.Close()
			}
		})
	}
}
