package sample

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// TreeOptions say how many small files to make.
type TreeOptions struct {
	Files int    // default 1000
	Bytes int64  // of all together, about; default 21 kB a file
	Seed  uint64 // default 0
}

// CreateTree fills dir, which must not exist, with files like those of source trees: mostly of a few kilobytes, some of
// a few hundred, in folders of about twenty, one in twenty of them not compressible.
func CreateTree(dir string, options TreeOptions) error {
	if options.Files <= 0 {
		options.Files = 1000
	}
	if options.Bytes <= 0 {
		options.Bytes = int64(options.Files) * 21_000
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("create the tree: %w", err)
	}
	all := Options{Seed: options.Seed}
	random, language := all.random("tree"), newProse(all)
	// The mean of a log-normal distribution is exp(mu + sigma²/2).
	const sigma = 1.3
	mu := math.Log(float64(options.Bytes)/float64(options.Files)) - sigma*sigma/2
	var data []byte
	folder := dir
	for n := range options.Files {
		if n%20 == 0 {
			folder = dir
			for part := n / 20; ; part /= 12 {
				folder = filepath.Join(folder, fmt.Sprintf("%s-%d", [...]string{"src", "lib", "test", "internal", "docs"}[part%5], part%12))
				if part < 12 {
					break
				}
			}
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return fmt.Errorf("create the tree: %w", err)
			}
		}
		size := int(min(math.Exp(mu+sigma*random.NormFloat64()), 20e6))
		name := fmt.Sprintf("file-%06d.js", n)
		if n%20 == 19 {
			name = fmt.Sprintf("image-%06d.png", n)
			data = appendNoise(data[:0], random, size)
		} else {
			data = appendSource(data[:0], random, language, size)
		}
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
			return fmt.Errorf("create the tree: %w", err)
		}
	}
	return nil
}

// appendSource appends size bytes of what looks like a program.
func appendSource(out []byte, random *rand.Rand, language *prose, size int) []byte {
	end := len(out) + size
	word := func(bits uint64) string {
		// The lower of two draws: some names are used much more than others.
		return language.words[min(bits&0xffff%vocabulary, bits>>16&0xffff%vocabulary)]
	}
	for len(out) < end {
		bits, more := random.Uint64(), random.Uint64()
		switch bits >> 61 {
		case 0:
			out = append(out, "\nfunction "...)
			out = append(out, word(bits)...)
			out = append(out, '(')
			out = append(out, word(more)...)
			out = append(out, ") {\n"...)
		case 1:
			out = append(out, "  return "...)
			out = append(out, word(bits)...)
			out = append(out, "\n}\n"...)
		case 2:
			out = append(out, "  // "...)
			out = append(out, language.stock[bits%phrases]...)
			out = append(out, '\n')
		case 3:
			out = append(out, "  if ("...)
			out = append(out, word(bits)...)
			out = append(out, " === null) throw new Error('"...)
			out = append(out, word(more)...)
			out = append(out, "')\n"...)
		default:
			out = append(out, "  const "...)
			out = append(out, word(bits)...)
			out = append(out, " = this."...)
			out = append(out, word(more)...)
			out = append(out, '.')
			out = append(out, word(more>>32)...)
			out = append(out, "()\n"...)
		}
	}
	return out[:end]
}
