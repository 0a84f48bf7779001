package hook_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/hook"
)

func secrets(texts ...string) []holdfast.Secret {
	var all []holdfast.Secret
	for _, text := range texts {
		all = append(all, holdfast.NewSecret(text))
	}
	return all
}

func TestMaskFindsWhatProgramsPrint(t *testing.T) {
	const word = "p@ss/w\"rd%1&x"
	mask := hook.NewMask(secrets(word, "short", "first line\nsecond line\n", "ab"))
	for name, test := range map[string]struct{ text, want string }{
		"as it is":          {"it is " + word + ", yes", "it is ********, yes"},
		"twice":             {word + word, "****************"},
		"in a URL":          {"postgres://app:" + url.QueryEscape(word) + "@h/d", "postgres://app:********@h/d"},
		"in a URL's user":   {url.UserPassword("app", word).String(), "app:********"},
		"in a path":         {url.PathEscape(word), "********"},
		"in JSON":           {`{"p":"p@ss/w\"rd%1\u0026x"}`, `{"p":"********"}`},
		"in hexadecimal":    {hex.EncodeToString([]byte(word)), "********"},
		"capitals":          {strings.ToUpper(hex.EncodeToString([]byte(word))), "********"},
		"a line of several": {"> second line", "> ********"},
		"all lines":         {"first line\nsecond line\n", "********"},
		"a short one":       {"cab", "c********"},
		"nothing":           {"plain text", "plain text"},
		"half of it":        {"p@ss/w", "p@ss/w"},
	} {
		if got := mask.Text(test.text); got != test.want {
			t.Errorf("%s: %q became %q, want %q", name, test.text, got, test.want)
		}
	}
	// Basic authentication, in the three alignments that what stands before can cause.
	for _, user := range []string{"u", "us", "use"} {
		encoded := base64.StdEncoding.EncodeToString([]byte(user + ":" + word))
		if got := mask.Text("Basic " + encoded); got == "Basic "+encoded || !strings.Contains(got, "********") {
			t.Errorf("after %q: %q", user, got)
		}
	}
	if got := hook.NewMask(nil).Text("nothing is secret"); got != "nothing is secret" {
		t.Errorf("without secrets: %q", got)
	}
	if got := hook.NewMask(secrets("abcd", "cdef", "bc")).Text("xabcdefx"); got != "x********x" {
		t.Errorf("secrets that overlap: %q", got)
	}
}

// A secret that lies across a write, or across the cut of a long output, is found all the same.
func TestMaskAcrossBounds(t *testing.T) {
	const word = "canary-6f1d0c55"
	mask := hook.NewMask(secrets(word))
	text := "before " + word + " after"
	for piece := 1; piece <= len(text); piece++ {
		if got := mask.Filtered(text, piece); len(got) != 1 || got[0] != "before ******** after" {
			t.Fatalf("in pieces of %d: %q", piece, got)
		}
	}
	for shift := range 60 {
		for _, long := range []string{strings.Repeat("x", 4070+shift) + word + strings.Repeat("y", 9000), strings.Repeat("x", 9000) + word + strings.Repeat("y", 4070+shift)} {
			lines := mask.Filtered(long, 1000)
			shown := strings.Join(lines, "")
			if strings.Contains(shown, word[:5]) || strings.Contains(shown, word[len(word)-5:]) {
				t.Fatalf("a part of the secret is shown, at %d: %q", shift, shown)
			}
			if len(shown) > 9000 || !strings.Contains(shown, "bytes left out") {
				t.Fatalf("%d bytes are kept", len(shown))
			}
		}
	}
}

func TestOutputIsFitForATerminal(t *testing.T) {
	got := hook.NewMask(nil).Filtered("a\x1b[31mred\x07\xff\r\n\n  indented\t|  \x00", 3)
	if want := []string{"a�[31mred��", "  indented\t|  �"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzMask(f *testing.F) {
	f.Add("a secret and a secret", "secret", "and", 3)
	f.Add("aaaa", "aa", "aaa", 1)
	f.Add("", "x", "", 1)
	f.Fuzz(func(t *testing.T, text, one, two string, piece int) {
		if piece < 1 || len(text) > 3000 {
			return
		}
		mask := hook.NewMask(secrets(one, two))
		whole, pieces := mask.Filtered(text, len(text)+1), mask.Filtered(text, piece)
		if fmt.Sprint(whole) != fmt.Sprint(pieces) {
			t.Fatalf("as a whole %q, in pieces %q", whole, pieces)
		}
		masked := mask.Text(text)
		for _, secret := range []string{one, two} {
			// What is made of asterisks alone may come out of the mask itself.
			if secret != "" && strings.Trim(secret, "*") != "" && !strings.Contains(secret, "*") && strings.Contains(masked, secret) {
				t.Fatalf("%q is in %q", secret, masked)
			}
		}
	})
}
