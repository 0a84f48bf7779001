// Package phrase makes passphrases that people write down and type, and judges those that they bring.
//
// It hides the list of words, how words are drawn and what makes a text guessable. Its laws: a passphrase that it made is one of 2^103, equally
// likely; it is typed with the letters and the blank of any keyboard; no error has a character of a passphrase; what it made, it accepts.
// It is not its job to ask for a passphrase, to keep one, or to know what it opens.
//
// Judging cannot see how a text came about. It refuses what is surely weak and says why; it cannot tell eight words that somebody thought of from
// eight that dice chose, and does not know names, dates, quotations, other languages' words written as one, or any keyboard but the
// US one. Only a passphrase of [New] has a known strength.
package phrase

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"math"
	"strings"

	"github.com/sethvargo/go-diceware/diceware"

	"holdfast"
)

// Words is how many words a passphrase has.
const Words = 8

// separator stands between words. The space bar is where it is on every keyboard, while the hyphen moves: a volume is unlocked at a console that may
// have the US layout when the keyboard has not. Blanks are also what keeps the words apart when the passphrase is read out.
const separator = " "

// New draws eight different words of the EFF's large list (https://www.eff.org/dice) with the system's random numbers. The four words of
// the list that have a hyphen are not drawn, so that there is nothing to type but letters and blanks.
func New() (holdfast.Secret, error) {
	generator, err := diceware.NewGenerator(&diceware.GeneratorInput{WordList: diceware.WordListEffLarge()})
	if err != nil {
		return holdfast.Secret{}, fmt.Errorf("draw words: %w", err)
	}
	for {
		words, err := generator.Generate(Words)
		if err != nil {
			return holdfast.Secret{}, fmt.Errorf("draw words: %w", err)
		}
		// All are drawn anew, so that what is left stays equally likely. Judge refuses one in five million: a row of the list.
		secret := holdfast.NewSecret(strings.Join(words, separator))
		if !strings.Contains(secret.Reveal(), "-") && Judge(secret) == nil {
			return secret, nil
		}
	}
}

// plain is how many words of the list have no hyphen.
const plain = 7772

// Bits is the strength of what New makes: the logarithm, to base 2, of the number of passphrases that are equally likely.
func Bits() float64 {
	bits := 0.0
	for i := range Words {
		bits += math.Log2(float64(plain - i))
	}
	return bits
}

// Same compares two passphrases, in a time that says nothing about them, their lengths included.
func Same(a, b holdfast.Secret) bool {
	x, y := sha256.Sum256([]byte(a.Reveal())), sha256.Sum256([]byte(b.Reveal()))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
