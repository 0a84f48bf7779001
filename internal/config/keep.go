package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/retention"
)

// Keep says which of a job's backups are kept, in each of its stores.
type Keep struct {
	Given  bool             // nothing is ever deleted of a job that says nothing
	Policy retention.Policy // of every store without one of its own
	Stores map[string]retention.Policy
}

// For returns what holds in the store called name.
func (k Keep) For(name string) retention.Policy {
	if policy, own := k.Stores[name]; own {
		return policy
	}
	return k.Policy
}

// Kind returns the rule that kind has of its own in the store called name.
func (k Keep) Kind(name, kind string) (retention.Rule, bool) {
	rule, own := k.For(name).Kinds[retention.Kind(kind)]
	return rule, own
}

const (
	foreverWord = "forever"
	mostKept    = 100_000
)

// runKinds are the kinds of runs that may have a rule of their own.
func runKinds() []string { return []string{"full", "hourly", "manual", "safety", "imported"} }

func ruleFields() []field {
	count := func(name, each string) field {
		return field{name: name, form: formCount, fallback: "0", min: 0, max: mostKept, example: "7", doc: "Keep the first backup of each of so many " + each + " that have one; `forever` keeps that of every one."}
	}
	return []field{
		{name: "last", form: formCount, fallback: "0", min: 0, max: mostKept, example: "3", doc: "Keep so many of the newest backups."},
		count("hourly", "hours"), count("daily", "days"), count("weekly", "weeks"), count("monthly", "months"), count("yearly", "years"),
		{name: "within", form: formSpan, example: "90d", doc: "Keep every backup that is at most so much older than the newest."},
		{name: foreverWord, form: formFlag, fallback: "false", doc: "Keep every backup."},
	}
}

func ruleShape() *shape {
	return &shape{name: "rule", doc: "Which backups of one kind of run are kept.", fields: ruleFields()}
}

func keepStoreShape() *shape {
	return &shape{name: "store's rule", doc: "What is kept in one store, instead of what is kept in the others.", fields: append(ruleFields(),
		field{name: "kinds", form: formNamed, shape: ruleShape(), doc: "Rules of their own for kinds of runs: full, hourly, manual, safety, imported."})}
}

func keepShape() *shape {
	return &shape{name: "keep", doc: "Which backups a prune keeps. Without it nothing is ever deleted. docs/retention.md has examples, and what is never deleted.", fields: append(ruleFields(),
		field{name: "min_age", form: formSpan, fallback: "24h", doc: "Nothing younger is deleted."},
		field{name: "interval", form: formSpan, fallback: "26h", doc: "How often a backup is expected. Nothing is deleted while the newest is older than twice that."},
		field{name: "zone", form: formText, fallback: "UTC", example: "Europe/Berlin", doc: "Time zone of days, weeks, months and years."},
		field{name: "kinds", form: formNamed, shape: ruleShape(), doc: "Rules of their own for kinds of runs: full, hourly, manual, safety, imported."},
		field{name: "stores", form: formNamed, shape: keepStoreShape(), doc: "Rules of their own for stores of the job, by name."},
	)}
}

func (r *reader) readKeep(s *section, j *draftJob) {
	k := &j.Keep
	k.Given = true
	r.readRule(s, &k.Policy.Default)
	s.span("min_age", &k.Policy.MinAge)
	s.span("interval", &k.Policy.Interval)
	s.zone("zone", false, &k.Policy.Zone)
	k.Policy.Kinds = r.readKinds(s)
	for _, e := range s.entries("stores", "store") {
		inner := r.section(e.node, e.path, keepStoreShape())
		if inner == nil {
			continue
		}
		policy := k.Policy
		policy.Default = retention.Rule{}
		r.readRule(inner, &policy.Default)
		if kinds := r.readKinds(inner); kinds != nil {
			policy.Kinds = kinds
		}
		if k.Stores == nil {
			k.Stores = map[string]retention.Policy{}
		}
		k.Stores[e.name] = policy
		j.keepStores = append(j.keepStores, located{e.name, e.at})
	}
}

func (r *reader) readKinds(s *section) map[retention.Kind]retention.Rule {
	var kinds map[retention.Kind]retention.Rule
	for _, e := range s.entries("kinds", "kind of run") {
		if !slices.Contains(runKinds(), e.name) {
			r.fault(e.at, "%s: unknown kind of run; %s", e.path, allowed(e.name, runKinds()))
			continue
		}
		var rule retention.Rule
		if inner := r.section(e.node, e.path, ruleShape()); inner != nil {
			r.readRule(inner, &rule)
		}
		if kinds == nil {
			kinds = map[retention.Kind]retention.Rule{}
		}
		kinds[retention.Kind(e.name)] = rule
	}
	return kinds
}

func (r *reader) readRule(s *section, into *retention.Rule) {
	for _, part := range ruleCounts(into) {
		s.one(part.name, "whole number, or the word forever", func(text string, f field) error {
			if text == foreverWord {
				*part.into = -1
				return nil
			}
			n, err := parseNumber(text, f.min, f.max)
			if err != nil {
				return fmt.Errorf("%w, or the word forever; not %q", err, text)
			}
			*part.into = n
			return nil
		})
	}
	s.span("within", &into.Within)
	s.flag(foreverWord, &into.Forever)
	if into.Last+into.Hourly+into.Daily+into.Weekly+into.Monthly+into.Yearly == 0 && into.Within == 0 && !into.Forever && s.values["kinds"] == nil {
		r.fault(s.at, "%s: keeps nothing; say how much is kept, for example daily: 7, or forever: true", s.path)
	}
}

type ruleCount struct {
	name string
	into *int
}

func ruleCounts(rule *retention.Rule) []ruleCount {
	return []ruleCount{
		{"last", &rule.Last}, {"hourly", &rule.Hourly}, {"daily", &rule.Daily}, {"weekly", &rule.Weekly}, {"monthly", &rule.Monthly},
		{"yearly", &rule.Yearly},
	}
}

// ParseKeep reads a rule as a flag has it: daily=7,weekly=4,yearly=forever,within=90d.
func ParseKeep(text string) (Keep, error) {
	k := Keep{Given: true}
	wrong := func(format string, args ...any) (Keep, error) {
		return Keep{}, mistakes([]Mistake{{Where: "flag --keep", Text: fmt.Sprintf(format, args...)}})
	}
	rule := &k.Policy.Default
	for part := range strings.SplitSeq(text, ",") {
		name, value, found := strings.Cut(strings.TrimSpace(part), "=")
		counts := ruleCounts(rule)
		at := slices.IndexFunc(counts, func(c ruleCount) bool { return c.name == name })
		switch {
		case name == foreverWord && !found:
			rule.Forever = true
		case name == "within" && found:
			span, err := parseSpan(value)
			if err != nil {
				return wrong("within: %s, not %q", err, value)
			}
			rule.Within = span
		case at >= 0 && found && value == foreverWord:
			*counts[at].into = -1
		case at >= 0 && found:
			n, err := parseNumber(value, 1, mostKept)
			if err != nil {
				return wrong("%s: %s, or the word forever; not %q", name, err, value)
			}
			*counts[at].into = n
		default:
			return wrong("%q is not understood; write daily=7,weekly=4,monthly=12,yearly=forever, last=3, hourly=24, within=90d or forever", part)
		}
	}
	return k, nil
}

// completeKeep looks up the stores that rules are for.
func (r *reader) completeKeep(j *draftJob, path string) {
	known := slices.Clone(j.stores)
	for _, store := range append([]Store{j.Store}, j.Mirrors...) {
		if !slices.Contains(known, store.Name) {
			known = append(known, store.Name)
		}
	}
	for _, l := range j.keepStores {
		if !slices.Contains(known, l.text) {
			r.fault(l.at, "%s.keep.stores: %q is no store of this job; %s", path, l.text, allowed(l.text, known))
		}
	}
}

// keep shows what is kept.
func (s *settings) keep(path string, k Keep) {
	if !k.Given {
		s.add(strings.TrimSuffix(path, "."), "everything: nothing is ever deleted")
		return
	}
	s.policy(path, k.Policy)
	s.span(path+"min_age", k.Policy.MinAge)
	s.span(path+"interval", k.Policy.Interval)
	if k.Policy.Zone != nil {
		s.add(path+"zone", k.Policy.Zone.String())
	}
	for _, name := range slices.Sorted(maps.Keys(k.Stores)) {
		s.policy(path+"stores."+name+".", k.Stores[name])
	}
}

func (s *settings) policy(path string, p retention.Policy) {
	s.rule(path, p.Default)
	for _, kind := range runKinds() {
		if rule, own := p.Kinds[retention.Kind(kind)]; own {
			s.rule(path+"kinds."+kind+".", rule)
		}
	}
}

func (s *settings) rule(path string, rule retention.Rule) {
	for _, part := range ruleCounts(&rule) {
		switch {
		case *part.into < 0:
			s.add(path+part.name, foreverWord)
		case *part.into > 0:
			s.add(path+part.name, strconv.Itoa(*part.into))
		}
	}
	s.span(path+"within", rule.Within)
	if rule.Forever {
		s.add(path+foreverWord, "true")
	}
}

// completeMirrors looks up the other stores of a job.
func (r *reader) completeMirrors(d *draft, j *draftJob, path string) {
	for _, l := range j.mirrors {
		store, found := named(d.stores, l.text, func(s Store) string { return s.Name })
		switch {
		case !found:
			var known []string
			for _, s := range d.stores {
				known = append(known, s.Name)
			}
			slices.Sort(known)
			r.fault(l.at, "%s.mirrors: unknown store %q; %s", path, l.text, allowed(l.text, known))
		case store.Address() == j.Store.Address() && j.store.at.line == 0 && (l.at.line > 0 || j.store.at.flag() && !l.at.flag()):
			// A flag or a variable made a mirror the first store, for this once: one of the file, or for a flag one of a variable.
		case store.Name == j.Store.Name:
			r.fault(l.at, "%s.mirrors: %q is the job's own store; a mirror is another one", path, l.text)
		default:
			for _, other := range append([]Store{j.Store}, j.Mirrors...) {
				if other.Address() == store.Address() {
					r.fault(l.at, "%s.mirrors: %q is the same place as store %q, %s; a mirror is another one", path, l.text, other.Name, store.Address())
				}
			}
			j.Mirrors = append(j.Mirrors, store)
		}
	}
}
