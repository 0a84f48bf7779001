package notify

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
)

// leastPiece is the length from which on a piece of an address is taken for a secret: what is shorter would be found everywhere.
const leastPiece = 4

// masker takes the secrets of one channel out of what others say. It does not change once it is made.
type masker struct{ replacer *strings.Replacer }

// newMasker makes a masker of secrets, in the spellings in which servers repeat them.
func newMasker(secrets []string) masker {
	var words []string
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		page := html.EscapeString(secret)
		words = append(words, secret, url.PathEscape(secret), url.QueryEscape(secret), page, base64.StdEncoding.EncodeToString([]byte(secret)))
		// Other languages have other names for quotes.
		for _, quote := range []string{"&#39;", "&#039;", "&#x27;"} {
			words = append(words, strings.NewReplacer("&#34;", "&quot;", "&#39;", quote).Replace(page))
		}
		// JSON with and without what some escape for HTML, because of a slash, and to have ASCII alone.
		for _, quote := range []func(any) ([]byte, error){json.Marshal, encode} {
			if quoted, err := quote(secret); err == nil {
				word := string(quoted[1 : len(quoted)-1])
				slashed := strings.ReplaceAll(word, "/", `\/`)
				words = append(words, word, slashed, ascii(word), ascii(slashed))
			}
		}
	}
	// Of words that begin alike the longest goes first: a replacer takes the first that fits.
	slices.SortFunc(words, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, word := range words {
		pairs = append(pairs, word, "********")
	}
	return masker{strings.NewReplacer(pairs...)}
}

// ascii is a text as JSON has it in ASCII: RFC 8259, section 7.
func ascii(text string) string {
	var out strings.Builder
	for _, unit := range utf16.Encode([]rune(text)) {
		if unit <= unicode.MaxASCII {
			out.WriteByte(byte(unit))
		} else {
			fmt.Fprintf(&out, `\u%04x`, unit)
		}
	}
	return out.String()
}

// text is one line of what somebody else said, without secrets, of at most limit characters.
func (m masker) text(said string, limit int) string {
	return cut(oneLine(m.replacer.Replace(said)), limit, func(rune) int { return 1 })
}

// pieces are the parts of an address that tell who knows it.
func pieces(address *url.URL) []string {
	var found []string
	add := func(text string) {
		if len(text) >= leastPiece {
			found = append(found, text)
		}
	}
	add(address.String())
	add(address.RequestURI())
	add(address.EscapedPath())
	add(address.RawQuery)
	for piece := range strings.SplitSeq(address.Path, "/") {
		add(piece)
	}
	for _, values := range address.Query() {
		for _, value := range values {
			add(value)
		}
	}
	return found
}
