package seal

import "holdfast"

const (
	ChunkSize   = chunkSize
	LeastJudged = leastJudged
)

// NewCheapPassphrase is NewPassphrase with work that is no protection and takes no time.
func NewCheapPassphrase(text holdfast.Secret) (*Passphrase, error) {
	return NewCheapPassphraseFor(Age, text)
}

// NewCheapPassphraseFor is NewPassphraseFor with work that is no protection and takes no time.
func NewCheapPassphraseFor(f Format, text holdfast.Secret) (*Passphrase, error) {
	p, err := NewPassphraseFor(f, text)
	if err == nil {
		p.workFactor = 4
		p.hashed = 65536
		p.iterations = 10
	}
	return p, err
}
