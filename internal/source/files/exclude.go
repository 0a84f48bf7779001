package files

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"holdfast"
)

// Excludes decides what is left out. The zero value leaves out nothing.
type Excludes struct {
	patterns []pattern
	// tagged leaves out what lies in a folder that a CACHEDIR.TAG calls a cache (https://bford.info/cachedir/).
	tagged bool
}

type pattern struct {
	text    string   // as it was written
	parts   []string // of an anchored pattern
	base    string   // of a pattern that may match at any depth
	literal bool     // base has no wildcard
	folder  bool     // matches folders only
}

// presets are named lists of patterns.
func presets() map[string][]string {
	return map[string][]string{
		"node_modules": {"node_modules/"},
		"logs":         {"*.log", "*.log.[0-9]*", "*.log-[0-9]*", "logs/"},
		"caches": {".cache/", "__pycache__/", ".parcel-cache/", ".pytest_cache/", ".mypy_cache/", ".eslintcache",
			"**/.npm/_cacache/", "**/.next/cache/"},
	}
}

const presetPrefix = "preset:"

// ParseExcludes reads patterns, which resemble those of a .gitignore file:
//
//   - "*.tmp", "core": without a slash, matches a file or folder of that name at any depth;
//   - "/build", "data/tmp": with a slash, matches from the root on (of every root of the source);
//   - "**" as a whole component stands for any number of folders, also none: "**/tmp/*.sock";
//   - "tmp/": a slash at the end matches folders only;
//   - "*", "?" and "[a-z]" match within one component and match a leading dot as well; "\" takes the next
//     character as it is;
//   - "preset:node_modules", "preset:logs", "preset:caches": a list that comes with the program; "preset:caches" also
//     leaves out what lies beside a valid CACHEDIR.TAG (the folder and the tag are stored).
//
// What lies in an excluded folder is excluded. There is no "!" to take something in again. An error wraps
// [holdfast.ErrUsage].
func ParseExcludes(patterns []string) (Excludes, error) {
	var e Excludes
	for _, text := range patterns {
		name, preset := strings.CutPrefix(text, presetPrefix)
		if !preset {
			p, err := parsePattern(text)
			if err != nil {
				return Excludes{}, err
			}
			e.patterns = append(e.patterns, p)
			continue
		}
		list, known := presets()[name]
		if !known {
			names := slices.Sorted(maps.Keys(presets()))
			return Excludes{}, holdfast.WithHint(fmt.Errorf("%w: exclude preset %q is not known", holdfast.ErrUsage, name),
				"the presets are "+strings.Join(names, ", "))
		}
		for _, inner := range list {
			p, err := parsePattern(inner)
			if err != nil {
				return Excludes{}, err
			}
			p.text = text
			e.patterns = append(e.patterns, p)
		}
		e.tagged = e.tagged || name == "caches"
	}
	return e, nil
}

func parsePattern(text string) (pattern, error) {
	p := pattern{text: text}
	fail := func(hint string) (pattern, error) {
		return pattern{}, holdfast.WithHint(fmt.Errorf("%w: exclude pattern %q is not valid", holdfast.ErrUsage, text), hint)
	}
	if strings.HasPrefix(text, "!") {
		return fail(`patterns cannot take something in again; write "\!" for a name that begins with "!"`)
	}
	rest, folder := strings.CutSuffix(text, "/")
	p.folder = folder
	if _, err := path.Match(rest, ""); err != nil {
		return fail("close the bracket, or put a backslash before it")
	}
	anchored := strings.Contains(rest, "/")
	rest = strings.TrimPrefix(rest, "/")
	for part := range strings.SplitSeq(rest, "/") {
		if part == "" || part == "." || part == ".." {
			return fail(`components must not be empty, "." or ".."`)
		}
		p.parts = append(p.parts, part)
	}
	if !anchored {
		if rest == "**" {
			return fail("it would leave out everything")
		}
		p.parts, p.base = nil, rest
		p.literal = !strings.ContainsAny(rest, `*?[\`)
	}
	return p, nil
}

// match returns the text of the pattern that leaves out rel, the path from the root on, or "".
func (e Excludes) match(rel string, folder bool) string {
	base := rel[strings.LastIndexByte(rel, '/')+1:]
	for i := range e.patterns {
		p := &e.patterns[i]
		switch {
		case p.folder && !folder:
		case p.literal:
			if p.base == base {
				return p.text
			}
		case p.base != "":
			if matched, _ := path.Match(p.base, base); matched {
				return p.text
			}
		case matchParts(p.parts, rel):
			return p.text
		}
	}
	return ""
}

func matchParts(parts []string, rel string) bool {
	for i, part := range parts {
		if part == "**" {
			rest := parts[i+1:]
			if len(rest) == 0 {
				return rel != ""
			}
			for {
				if matchParts(rest, rel) {
					return true
				}
				_, after, found := strings.Cut(rel, "/")
				if !found {
					return false
				}
				rel = after
			}
		}
		first, after, _ := strings.Cut(rel, "/")
		if matched, _ := path.Match(part, first); !matched || first == "" {
			return false
		}
		rel = after
	}
	return rel == ""
}
