package phrase_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/sethvargo/go-diceware/diceware"

	"holdfast"
	"holdfast/internal/phrase"
)

// words are those of the list, counted by the dice and not as the package does it.
func words() []string {
	var all []string
	for a := 1; a <= 6; a++ {
		for b := 1; b <= 6; b++ {
			for c := 1; c <= 6; c++ {
				for d := 1; d <= 6; d++ {
					for e := 1; e <= 6; e++ {
						all = append(all, diceware.WordListEffLarge().WordAt(a*10000+b*1000+c*100+d*10+e))
					}
				}
			}
		}
	}
	return all
}

func TestNew(t *testing.T) {
	known := map[string]bool{}
	for _, word := range words() {
		if !strings.Contains(word, "-") {
			known[word] = true
		}
	}
	bits := 0.0
	for i := range phrase.Words {
		bits += math.Log2(float64(len(known) - i))
	}
	if math.Abs(phrase.Bits()-bits) > 1e-9 || phrase.Bits() < 103 {
		t.Errorf("said to have %v bits, has %v", phrase.Bits(), bits)
	}
	made := map[string]bool{}
	drawn := map[string]int{}
	const count = 500
	for range count {
		secret, err := phrase.New()
		if err != nil {
			t.Fatal(err)
		}
		text := secret.Reveal()
		fields := strings.Split(text, " ")
		if len(fields) != phrase.Words || made[text] {
			t.Fatalf("made %q", text)
		}
		made[text] = true
		for _, word := range fields {
			if !known[word] {
				t.Fatalf("%q is no word without a hyphen of the list", word)
			}
			drawn[word]++
		}
		if err := phrase.Judge(secret); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	}
	// 4,000 draws of 7772 words: two of five are drawn, and one that is drawn ten times comes once in millions of runs.
	if len(drawn) < 2900 || len(drawn) > 3350 {
		t.Errorf("%d different words were drawn, about 3127 are expected", len(drawn))
	}
	for word, n := range drawn {
		if n > 9 {
			t.Errorf("%q was drawn %d times in %d", word, n, count*phrase.Words)
		}
	}
}

func TestJudge(t *testing.T) {
	list := words()
	for _, test := range []struct{ name, text, want string }{
		{"eight words", "unruly gravity mothball cinch expletive tipoff dreaded suds", ""},
		{"with hyphens", "unruly-gravity-mothball-cinch-expletive-tipoff-dreaded-suds", ""},
		{"with nothing common between them", "unruly.gravity_mothball1cinch, expletive  tipoff/dreaded;suds", ""},
		{"in capitals", "Unruly GRAVITY mothball Cinch expletive Tipoff dreaded SUDS", ""},
		{"words that have a hyphen", "t-shirt yo-yo drop-down felt-tip expletive tipoff dreaded suds", ""},
		{"words that have a hyphen, between hyphens", "t-shirt-yo-yo-drop-down-felt-tip-expletive-tipoff-dreaded-suds", ""},
		{"with other words", "my unruly gravity mothball cinch expletive tipoff dreaded qqqq suds", ""},
		{"two that stand so in the list", "unruly gravity mothball cinch expletive tipoff cheese cheesy", ""},
		{"nine", "unruly gravity mothball cinch expletive tipoff dreaded suds abacus", ""},
		{"seven words", "unruly gravity mothball cinch expletive tipoff dreaded", "it is made of words, and 7 different ones of the EFF's large list are in it, not 8"},
		{"seven and digits", "unruly gravity mothball cinch expletive tipoff dreaded 93!7Qx", "7 different ones"},
		{"one word twice", "unruly gravity mothball cinch expletive tipoff dreaded unruly", "7 different ones"},
		{"one word eight times", strings.TrimSpace(strings.Repeat("abacus ", 8)), "it is made of words"},
		{"as the list has them", strings.Join(list[100:120], " "), "2 different ones"},
		{"as the list has them, from its end", list[120] + " " + list[119] + " " + list[118] + " " + list[117] + " " + list[116] + " " + list[115] + " " + list[114] + " " + list[113], "2 different ones"},
		{"a sentence", "the quick brown fox jumps over the lazy dog", "it is made of words"},
		{"words written as one", "gravitymothballcinchexpletive", "it is made of words"},
		{"of another language, with blanks", "heute ist ein sehr schöner tag", "not plain ASCII"},
		{"of another language, in ASCII", "morgen wird alles besser werden", "it is made of words"},

		{"base64", "p3Xz0Qk9Lr+T2vYb8NwE", ""},
		{"lower case", "qjxvhtzkwmpbrydnfgcl", ""},
		{"signs", `k$8#Lq;)z!2W&x^5@Bv*`, ""},
		{"with blanks inside", "k8 Lq z2 W4 x5 Bv 7n", ""},
		{"nineteen", "p3Xz0Qk9Lr+T2vYb8Nw", "it has 19 characters, not 20"},
		{"digits", "92837465019283746501928374", "it has digits alone"},
		{"digits and blanks", "9283 7465 0192 8374 6501 93", "it has digits alone"},
		{"one character", strings.Repeat("a", 40), "only 1 of its characters differ"},
		{"eight characters", "a7Kq2ZxPPxZ2qK7aaKZP", "only 8 of its characters differ"},
		{"the alphabet", "abcdefghijklmnopqrstuvwxyz", "only 2 of its characters do not follow"},
		{"the alphabet and digits", "zyxwvutsrqponmlkjihgfedcba9876543210", "do not follow"},
		{"the keyboard", "qwertyuiopasdfghjklzxcvbnm", "only 6 of its characters"},
		{"the keyboard in capitals", "QWERTYUIOPASDFGHJKLZXCVBNM", "only 6 of its characters"},
		{"again and again", "Xk9$vQ2mXk9$vQ2mXk9$vQ2mT", "only 9 of its characters"},
		{"again in the other case", "Xk9$vQ2mLxK9$Vq2MlXK9$VQ2ML", "only 9 of its characters"},
		{"rows of equal ones", "aaaaabbbbbcccccdddddeeeee11111222223333344444", "do not follow"},

		{"nothing", "", "the passphrase is empty"},
		{"a line break", "p3Xz0Qk9Lr+T2vYb8NwE\n", "not plain ASCII, or line breaks"},
		{"a tab", "p3Xz0Qk9Lr+\tT2vYb8NwE", "not plain ASCII"},
		{"an umlaut", "p3Xz0Qk9Lr+T2vYb8Nwä", "not plain ASCII"},
		{"a blank at the end", "p3Xz0Qk9Lr+T2vYb8NwE ", "begins or ends with a blank"},
		{"too long", strings.Repeat("p3Xz0Qk9Lr+T2vYb8NwE", 30), "has more than 512 characters"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := phrase.Judge(holdfast.NewSecret(test.text))
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
				t.Errorf("%v: hint %q", err, holdfast.Hint(err))
			}
			said := fmt.Sprintf("%v %+v %s", err, err, holdfast.Hint(err))
			for _, word := range append(strings.Fields(test.text), test.text) {
				if len(word) > 4 && strings.Contains(said, word) {
					t.Errorf("%q shows %q", said, word)
				}
			}
		})
	}
}

// What machines draw is not refused for what chance does.
func TestJudgeRandom(t *testing.T) {
	for name, text := range map[string]func() string{
		"base64":      func() string { return base64.RawStdEncoding.EncodeToString(random(18)) },
		"base32":      func() string { return rand.Text()[:20] },
		"hexadecimal": func() string { return hex.EncodeToString(random(16)) },
		"lower case": func() string {
			text := make([]byte, 20)
			for i, b := range random(20) {
				text[i] = 'a' + b%26
			}
			return string(text)
		},
		"printable": func() string {
			text := make([]byte, 20)
			for i, b := range random(20) {
				text[i] = '!' + b%94
			}
			return string(text)
		},
	} {
		refused := 0
		for range 300 {
			if err := phrase.Judge(holdfast.NewSecret(text())); err != nil {
				refused++
			}
		}
		if refused > 9 {
			t.Errorf("%s: %d of 300 were refused", name, refused)
		}
	}
}

func random(n int) []byte {
	bytes := make([]byte, n)
	if _, err := rand.Read(bytes); err != nil {
		panic(err)
	}
	return bytes
}

func TestSame(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"abacus", "abacus", true},
		{"abacus", "abacut", false},
		{"abacus", "abacus ", false},
		{"abacus", "", false},
		{"", "", true},
	} {
		if same := phrase.Same(holdfast.NewSecret(test.a), holdfast.NewSecret(test.b)); same != test.same {
			t.Errorf("%q and %q: %v", test.a, test.b, same)
		}
	}
}
