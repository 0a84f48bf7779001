package source_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"holdfast/internal/source"
)

func table(name string, rows int64, digest string) source.Fact {
	return source.Fact{Class: "table", Name: name, Rule: source.Exact, Rows: rows, Bytes: 10 * rows, Digest: digest}
}

func TestCompare(t *testing.T) {
	text := source.Fact{Class: "definition", Name: "v", Rule: source.Text, Digest: "aa"}
	otherText := text
	otherText.Digest = "bb"
	listed := source.Fact{Class: "view", Name: "m", Rule: source.Listed, Text: "refreshed"}
	sequence := source.Fact{Class: "sequence", Name: "s", Rule: source.Exact, Text: "7, true"}
	otherSequence := sequence
	otherSequence.Text = "8, true"
	for _, c := range []struct {
		name             string
		stored, restored []source.Fact
		want             []string // "!" before those that fail
	}{
		{"nothing", nil, nil, nil},
		{"the same in another order", []source.Fact{table("a", 1, "x"), table("b", 2, "y")}, []source.Fact{table("b", 2, "y"), table("a", 1, "x")}, nil},
		{"rows", []source.Fact{table("a", 3, "x")}, []source.Fact{table("a", 2, "y")}, []string{"!table a: 3 rows stored, 2 restored, 30 bytes stored, 20 restored"}},
		{"content", []source.Fact{table("a", 3, "x")}, []source.Fact{table("a", 3, "y")}, []string{"!table a: same counts, other content"}},
		{"text of what is exact", []source.Fact{sequence}, []source.Fact{otherSequence}, []string{`!sequence s: "7, true" stored, "8, true" restored`}},
		{"lost", []source.Fact{table("a", 1, "x"), table("b", 1, "x")}, []source.Fact{table("b", 1, "x")}, []string{"!table a did not come back"}},
		{"more", nil, []source.Fact{table("a", 1, "x")}, []string{"!table a came back and was never stored"}},
		{"all lost", []source.Fact{table("b", 1, "x"), table("a", 1, "x")}, nil, []string{"!table a did not come back", "!table b did not come back"}},
		{"text", []source.Fact{text}, []source.Fact{otherText}, []string{"definition v: text differs"}},
		{"listed is not compared", []source.Fact{listed}, nil, nil},
		{"listed came back as something to compare", []source.Fact{listed}, []source.Fact{{Class: "view", Name: "m", Rule: source.Exact}}, []string{"!view m came back and was never stored"}},
		{"what is exact came back as listed", []source.Fact{table("a", 1, "x")}, []source.Fact{{Class: "table", Name: "a", Rule: source.Listed}}, []string{"!table a did not come back"}},
		{"one name in two classes", []source.Fact{table("a", 1, "x"), {Class: "file", Name: "a", Rule: source.Exact}}, []source.Fact{table("a", 1, "x"), {Class: "file", Name: "a", Rule: source.Exact}}, nil},
		{"stored twice", []source.Fact{table("a", 1, "x"), table("a", 1, "x")}, []source.Fact{table("a", 1, "x")}, []string{"!table a did not come back"}},
		{"restored twice", []source.Fact{table("a", 1, "x")}, []source.Fact{table("a", 1, "x"), table("a", 1, "x")}, []string{"!table a came back and was never stored"}},
		{"ordered by class and name", []source.Fact{table("b", 1, "x"), table("a", 1, "x"), sequence}, nil,
			[]string{"!sequence s did not come back", "!table a did not come back", "!table b did not come back"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, d := range source.Compare(c.stored, c.restored) {
				line := d.String()
				if d.Fails() {
					line = "!" + line
				}
				got = append(got, line)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// Every field of a fact that is compared exactly is looked at.
func TestCompareSeesEveryField(t *testing.T) {
	base := source.Fact{Class: "table", Name: "a", Rule: source.Exact, Rows: 1, Bytes: 2, Digest: "x", Text: "y"}
	for i := range reflect.TypeFor[source.Fact]().NumField() {
		changed := base
		field := reflect.ValueOf(&changed).Elem().Field(i)
		name := reflect.TypeFor[source.Fact]().Field(i).Name
		if name == "Rule" {
			continue // what was stored decides how it is compared
		}
		if field.Kind() == reflect.String {
			field.SetString("other")
		} else {
			field.SetInt(99)
		}
		failed := false
		for _, d := range source.Compare([]source.Fact{base}, []source.Fact{changed}) {
			failed = failed || d.Fails()
		}
		if !failed {
			t.Errorf("a change of %s fails nothing", name)
		}
	}
}

func TestItem(t *testing.T) {
	s := source.Stored{Items: []source.StoredItem{{Name: "a.sql"}, {Name: "b.sql", Size: 3}}}
	if item, found := s.Item("b.sql"); !found || item.Size != 3 {
		t.Errorf("found %v, %+v", found, item)
	}
	if item, found := s.Item("c.sql"); found || item.Name != "" {
		t.Errorf("found %v, %+v", found, item)
	}
}

// sum is the digest by its definition.
func sum(rows [][]byte) string {
	total := new(big.Int)
	for _, row := range rows {
		h := sha256.Sum256(row)
		slices.Reverse(h[:])
		total.Add(total, new(big.Int).SetBytes(h[:]))
	}
	total.Mod(total, new(big.Int).Lsh(big.NewInt(1), 256))
	out := total.FillBytes(make([]byte, 32))
	slices.Reverse(out)
	return hex.EncodeToString(out)
}

func TestRowSetIsTheSum(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		rows := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 5), 0, 40).Draw(r, "rows")
		var all, left, right source.RowSet
		var size int64
		for i, row := range rows {
			size += int64(len(row))
			all.Add(row)
			if i%3 == 0 {
				left.Add(row)
			} else {
				right.AddSum(sha256.Sum256(row), int64(len(row)))
			}
		}
		if got, want := all.Digest(), sum(rows); got != want || all.Rows != int64(len(rows)) || all.Bytes != size {
			r.Fatalf("%d rows, %d bytes, digest %s; want %d, %d, %s", all.Rows, all.Bytes, got, len(rows), size, want)
		}
		left.Merge(right)
		if left != all {
			r.Fatal("merging halves gives another set")
		}
		shuffled := rapid.Permutation(rows).Draw(r, "shuffled")
		if got := sum(shuffled); got != all.Digest() {
			r.Fatal("the order of rows matters")
		}
	})
}

func TestRowSetSeesChanges(t *testing.T) {
	digest := func(rows ...string) string {
		var s source.RowSet
		for _, row := range rows {
			s.Add([]byte(row))
		}
		return s.Digest()
	}
	seen := map[string]string{}
	for _, rows := range [][]string{{}, {""}, {"", ""}, {"a"}, {"a", "a"}, {"a", "a", "a"}, {"a", "b"}, {"ab"}, {"ab", ""}, {"b", "b"}} {
		d := digest(rows...)
		if other, twice := seen[d]; twice {
			t.Errorf("%q and %s have one digest", rows, other)
		}
		seen[d] = fmt.Sprintf("%q", rows)
	}
	if digest() != strings.Repeat("0", 64) {
		t.Errorf("the empty set has the digest %s", digest())
	}
	if digest("a", "b", "a") != digest("b", "a", "a") {
		t.Error("the order of rows matters")
	}
	one := sha256.Sum256([]byte("a"))
	if digest("a") != hex.EncodeToString(one[:]) {
		t.Error("the digest of one row is not its SHA-256")
	}
}

func TestRowSetCarries(t *testing.T) {
	var s source.RowSet
	var most [32]byte
	for i := range most {
		most[i] = 0xff
	}
	s.AddSum(most, 0)
	s.AddSum([32]byte{1}, 0)
	if got := s.Digest(); got != strings.Repeat("0", 64) {
		t.Errorf("2^256-1 and 1 make %s", got)
	}
}

func TestFactsSurviveJSON(t *testing.T) {
	facts := source.Facts{Kind: "files", Properties: map[string]string{"a": "b"}, Facts: []source.Fact{table("ä\n\"\x01", 1<<60, "x")}, Driver: []byte{0, 255}}
	data, err := json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	var back source.Facts
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if len(source.Compare(facts.Facts, back.Facts)) > 0 || !bytes.Equal(facts.Driver, back.Driver) {
		t.Errorf("came back: %+v", back)
	}
}

func BenchmarkRowSet(b *testing.B) {
	row := []byte(strings.Repeat("x", 200))
	var s source.RowSet
	b.SetBytes(int64(len(row)))
	for b.Loop() {
		s.Add(row)
	}
}
