package phrase

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sethvargo/go-diceware/diceware"

	"holdfast"
)

const (
	leastCharacters  = 20
	leastDifferent   = 9   // of a passphrase of characters; twenty random hexadecimal digits have fewer in one of two hundred cases
	leastFree        = 16  // characters that do not follow from what stands before them
	mostCharacters   = 512 // what cryptsetup reads from a keyboard
	wordy            = 3   // from that many words on, a passphrase is one of words
	shortestInside   = 4   // letters of a word of the list that is found inside a text: shorter ones are in every random text
	shortestBetween  = 3   // letters of what is taken for a word between blanks
	shortestRepeated = 3   // characters that stand a second time
)

// Judge tells whether a passphrase is one of those that a volume may have:
//   - at least eight different words of the EFF's large list, upper or lower case, with anything between them that is no letter. The
//     third and later ones of a row that stands so in the list do not count: nobody draws them so. Other text beside the words does no harm and counts for nothing;
//   - or at least 20 random characters: nine different ones, not digits alone, and 16 that do not follow from what stands before. Those that follow are
//     the second of two equal ones, the third and later ones of a sequence such as abc or 321 and of neighbours on the keyboard such as qwe, and what
//     stood before already, three characters or more of it; all this whatever the case.
//
// Three words of the list, or three words between blanks, hyphens, dots, commas or underscores, are a passphrase of words, which only the first rule
// can pass. Either is of plain ASCII without line breaks, has at most 512 characters, and begins and ends with none that are blank: it must be
// typed at a console. Errors wrap [holdfast.ErrUsage], have a hint, and show nothing of the passphrase. For what is not seen, look at the
// package's documentation.
func Judge(secret holdfast.Secret) error {
	text := secret.Reveal()
	if err := typable(text); err != nil {
		return err
	}
	list := newList()
	lower := strings.ToLower(text)
	if n := list.different(lower); n >= Words {
		return nil
	} else if n >= wordy || list.inside(lower) >= wordy || spoken(lower) >= wordy {
		return bad("it is made of words, and %d different ones of the EFF's large list are in it, not %d", n, Words)
	}
	switch free := free(lower); {
	case len(text) < leastCharacters:
		return bad("it has %d characters, not %d", len(text), leastCharacters)
	case strings.Trim(text, "0123456789 ") == "":
		return bad("it has digits alone")
	case different(text) < leastDifferent:
		return bad("only %d of its characters differ, at least %d must", different(text), leastDifferent)
	case free < leastFree:
		return bad("only %d of its characters do not follow from those before them, at least %d must not: it repeats itself, or has sequences", free, leastFree)
	}
	return nil
}

func bad(format string, args ...any) error {
	return holdfast.WithHint(fmt.Errorf("%w: the passphrase is too weak: "+format, append([]any{holdfast.ErrUsage}, args...)...),
		fmt.Sprintf("let holdfast make one, or bring at least %d words that dice chose from the EFF's large list, or at least %d random characters", Words, leastCharacters))
}

// typable tells whether a text can be typed at a console and written on paper.
func typable(text string) error {
	what := ""
	switch {
	case text == "":
		what = "is empty"
	case strings.Trim(text, " ") != text:
		what = "begins or ends with a blank, which nobody sees on paper"
	case len(text) > mostCharacters:
		what = fmt.Sprintf("has more than %d characters, which cannot be typed at a prompt", mostCharacters)
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }):
		what = "has characters that are not plain ASCII, or line breaks, which a console may send in another way"
	default:
		return nil
	}
	return holdfast.WithHint(fmt.Errorf("%w: the passphrase %s", holdfast.ErrUsage, what), "use letters, digits, signs and single blanks of a US keyboard, without a line break")
}

func letter(r rune) bool { return r >= 'a' && r <= 'z' }

func different(text string) int {
	seen := map[rune]bool{}
	for _, r := range text {
		seen[r] = true
	}
	return len(seen)
}

// list is the EFF's large list: where each word stands.
type list map[string]int

func newList() list {
	words := diceware.WordListEffLarge()
	l := list{}
	// Five dice: numbers that have other digits have no word.
	for roll := 11111; roll <= 66666; roll++ {
		if word := words.WordAt(roll); word != "" {
			l[word] = len(l)
		}
	}
	return l
}

func (l list) has(word string) bool {
	_, known := l[word]
	return known
}

// different counts the words of the list in a lower-case text, each once, without the third and later ones of a row of the list.
func (l list) different(text string) int {
	seen := map[string]bool{}
	last, lastStep := -2, 0
	for _, field := range strings.FieldsFunc(text, func(r rune) bool { return !letter(r) && r != '-' }) {
		for parts := strings.Split(field, "-"); len(parts) > 0; {
			word, taken := parts[0], 1
			// Four words of the list have a hyphen.
			if len(parts) > 1 && l.has(parts[0]+"-"+parts[1]) {
				word, taken = parts[0]+"-"+parts[1], 2
			}
			parts = parts[taken:]
			at, known := l[word]
			if !known {
				continue
			}
			step := at - last
			if step != lastStep || step != 1 && step != -1 {
				seen[word] = true
			}
			last, lastStep = at, step
		}
	}
	return len(seen)
}

// inside counts words of the list that stand anywhere in a lower-case text, the longest first at each place.
func (l list) inside(text string) int {
	const longest = 9 // letters of a word of the list
	n := 0
	for i := 0; i < len(text); i++ {
		for length := min(longest, len(text)-i); length >= shortestInside; length-- {
			if l.has(text[i : i+length]) {
				n++
				i += length - 1
				break
			}
		}
	}
	return n
}

// spoken counts what reads as words: letters alone between blanks and the like.
func spoken(text string) int {
	fields := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" -_.,", r) })
	return len(slices.DeleteFunc(fields, func(field string) bool {
		return len(field) < shortestBetween || strings.ContainsFunc(field, func(r rune) bool { return !letter(r) })
	}))
}

// free counts the characters of a lower-case text that do not follow from what stands before.
func free(text string) int {
	n := 0
	for i := 0; i < len(text); {
		if length := repeated(text, i); length >= shortestRepeated {
			i += length
			continue
		}
		equal := i > 0 && text[i-1] == text[i]
		if !equal && (i < 2 || !follows(text[i-2], text[i-1], text[i])) {
			n++
		}
		i++
	}
	return n
}

// repeated is the length of the longest text that begins at i and stood wholly before.
func repeated(text string, i int) int {
	length := 0
	for i+length < len(text) && strings.Contains(text[:i], text[i:i+length+1]) {
		length++
	}
	return length
}

// follows reports whether c goes on with what a and b began: a sequence, neighbours on the keyboard.
func follows(a, b, c byte) bool {
	if step := int(b) - int(a); (step == 1 || step == -1) && int(c)-int(b) == step {
		return true
	}
	for _, row := range []string{"qwertyuiop", "asdfghjkl", "zxcvbnm", "1234567890"} {
		x, y, z := strings.IndexByte(row, a), strings.IndexByte(row, b), strings.IndexByte(row, c)
		if x >= 0 && y >= 0 && z >= 0 && y-x == z-y && (y-x == 1 || y-x == -1) {
			return true
		}
	}
	return false
}
