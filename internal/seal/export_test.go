package seal

import "holdfast"

const ChunkSize = chunkSize

// NewCheapPassphrase is NewPassphrase with work that is no protection and takes no time.
func NewCheapPassphrase(text holdfast.Secret) (*Passphrase, error) {
	p, err := NewPassphrase(text)
	if err == nil {
		p.workFactor = 4
	}
	return p, err
}
