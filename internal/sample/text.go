package sample

import (
	"encoding/binary"
	"math/rand/v2"
)

// The syllables words are made of, the middle ones with letters outside ASCII at times.
const (
	heads  = "b br c ch d dr f fl g gr h j k kl l m n p pr qu r s sch sp st t tr v w z"
	hearts = "a a a e e e i i o o u ä ö ü ei au ie"
	tails  = "b ch ck d f g k l ll lt m n n n nd ng p r r rt s ss st t t tz x"
)

const (
	vocabulary = 3000
	followers  = 24
	phrases    = 1200
)

// prose writes text that has the statistics of a language rather than of noise: few words are frequent, and each word
// is mostly followed by some others. That is what compressors meet in notes and mails.
type prose struct {
	words [vocabulary]string
	next  [vocabulary][followers]uint16
	// stock are the formulas people repeat; they recur beyond the window of gzip and within that of zstd.
	stock [phrases]string
}

// newProse makes a language. All parts of one sample share it.
func newProse(options Options) *prose {
	random := options.random("language")
	p := new(prose)
	head, heart, tail := fields(heads), fields(hearts), fields(tails)
	pick := func(list []string) string { return list[random.IntN(len(list))] }
	for i := range p.words {
		word := pick(head) + pick(heart)
		for range random.IntN(3) {
			word += pick(tail) + pick(heart)
		}
		p.words[i] = word + pick(tail)
		for j := range p.next[i] {
			// The power makes small indexes, the frequent words, much more likely.
			f := random.Float64()
			p.next[i][j] = uint16(f * f * f * vocabulary)
		}
	}
	for i := range p.stock {
		p.stock[i] = p.text(random, 30+random.IntN(60))
	}
	return p
}

func fields(text string) []string {
	var list []string
	start := 0
	for i := range len(text) + 1 {
		if i == len(text) || text[i] == ' ' {
			list = append(list, text[start:i])
			start = i + 1
		}
	}
	return list
}

// word returns one word.
func (p *prose) word(random *rand.Rand) string {
	f := random.Float64()
	return p.words[int(f*f*vocabulary)]
}

// phrase returns one of the formulas.
func (p *prose) phrase(random *rand.Rand) string { return p.stock[random.IntN(phrases)] }

// appendText appends sentences of about size bytes, never fewer than one word.
func (p *prose) appendText(out []byte, random *rand.Rand, size int) []byte {
	end := len(out) + size
	current := int(random.Uint64() % vocabulary)
	inSentence, sentence := 0, 0
	for {
		word := p.words[current]
		if inSentence == 0 && word[0] >= 'a' && word[0] <= 'z' {
			out = append(out, word[0]-'a'+'A')
			out = append(out, word[1:]...)
		} else {
			out = append(out, word...)
		}
		inSentence++
		bits := random.Uint64()
		if len(out) >= end {
			return append(out, '.')
		}
		switch {
		case inSentence > 3 && bits>>60 < 5:
			sentence++
			inSentence = 0
			if sentence%5 == 0 {
				out = append(out, ".\n\n"...)
			} else {
				out = append(out, ". "...)
			}
			if formula := p.stock[bits>>8%phrases]; bits>>40&3 != 0 && formula != "" {
				out = append(out, formula...)
				out = append(out, ' ')
			}
		case bits>>60 == 15:
			out = append(out, ", "...)
		default:
			out = append(out, ' ')
		}
		if bits&0x0f == 0 {
			current = int(bits >> 8 % vocabulary)
		} else {
			slot := min(bits>>16%followers, bits>>32%followers)
			current = int(p.next[current][slot])
		}
	}
}

// text is appendText as a string.
func (p *prose) text(random *rand.Rand, size int) string {
	return string(p.appendText(nil, random, size))
}

// appendNoise appends size bytes that do not compress.
func appendNoise(out []byte, random *rand.Rand, size int) []byte {
	for ; size >= 8; size -= 8 {
		out = binary.LittleEndian.AppendUint64(out, random.Uint64())
	}
	last := random.Uint64()
	for ; size > 0; size-- {
		out = append(out, byte(last))
		last >>= 8
	}
	return out
}
