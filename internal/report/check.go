package report

import (
	"fmt"
	"strings"

	"holdfast"
)

// Failed reports whether something of the source did not come back as it was stored.
func (s Source) Failed() bool {
	if s.Error != "" && !s.CannotTest || len(s.Differences) > 0 {
		return true
	}
	for _, assertion := range s.Assertions {
		if assertion.Result == Failed {
			return true
		}
	}
	return false
}

// Untested reports whether an assertion on the source could not be evaluated.
func (s Source) Untested() bool {
	for _, assertion := range s.Assertions {
		if assertion.Result == Unknown {
			return true
		}
	}
	return false
}

// Issues tells what is wrong with the source, one line each.
func (s Source) Issues() []string {
	var issues []string
	prefix := string(s.Name) + ": "
	if s.Error != "" {
		issues = append(issues, prefix+s.Error)
	}
	if s.Leftover != "" {
		issues = append(issues, prefix+"left behind: "+s.Leftover)
	}
	for _, difference := range s.Differences {
		issues = append(issues, prefix+difference)
	}
	for _, assertion := range s.Assertions {
		if assertion.Result != Passed {
			issues = append(issues, fmt.Sprintf("%sassertion %q: %s", prefix, assertion.Name, assertion.Detail))
		}
	}
	return issues
}

// Gather is the checklist line over the sources that belong to it.
func Gather(name string, sources []Source, belongs func(Source) bool) Check {
	check := Check{Name: name, Result: None}
	var names []string
	for _, src := range sources {
		if !belongs(src) {
			continue
		}
		names = append(names, fmt.Sprintf("%s (%d facts)", src.Name, src.Compared))
		check.Result = worse(check.Result, src.result())
	}
	check.Detail = strings.Join(names, ", ")
	return check
}

func (s Source) result() Result {
	switch {
	case s.Failed():
		return Failed
	case s.CannotTest:
		return Unknown
	}
	return Passed
}

// GatherStart tells whether every throwaway stood.
func GatherStart(sources []Source) Check {
	check := Check{Name: "start", Result: None}
	started := 0
	for _, src := range sources {
		result := Passed
		if src.Started {
			started++
		} else {
			result = Unknown
		}
		check.Result = worse(check.Result, result)
	}
	check.Detail = fmt.Sprintf("%d of %d throwaways stood", started, len(sources))
	return check
}

// GatherHealth tells whether what was restored answered: databases are read to their last row, and SQLite's own integrity
// check runs.
func GatherHealth(sources []Source) Check {
	check := Check{Name: "health", Result: None, Detail: "no database in this backup"}
	if len(sources) == 0 {
		check.Detail = "nothing was restored"
	}
	for _, src := range sources {
		if src.Kind == holdfast.KindFiles {
			continue
		}
		result := Passed
		if src.Error != "" {
			result = Unknown
		}
		if worst := worse(check.Result, result); worst != check.Result {
			check.Result = worst
			check.Detail = "restored databases answered and were read to their last row"
			if worst == Unknown {
				check.Detail = string(src.Name) + " was not restored"
			}
		}
	}
	return check
}

// GatherAssertions tells how the user's own checks went.
func GatherAssertions(sources []Source) Check {
	check := Check{Name: "assertions", Result: None, Detail: "none configured"}
	total, held := 0, 0
	for _, src := range sources {
		for _, assertion := range src.Assertions {
			total++
			if assertion.Result == Passed {
				held++
			}
			check.Result = worse(check.Result, assertion.Result)
		}
	}
	if total > 0 {
		check.Detail = fmt.Sprintf("%d of %d hold", held, total)
	}
	return check
}

// worse keeps the result that must not be overlooked.
func worse(a, b Result) Result {
	rank := map[Result]int{None: 0, Passed: 1, Unknown: 2, Failed: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}
