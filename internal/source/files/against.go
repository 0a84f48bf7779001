package files

import (
	"slices"

	"holdfast/internal/source"
)

// Alike returns the source of what is now where the files of stored were, excluding what was excluded. What is gone by now is
// no error. Of stored before roots were recorded, the uppermost of what it has count as roots.
func Alike(stored source.Stored) (*Source, error) {
	opt := Options{Name: stored.Source, TolerateUnreadable: true}
	members := membersOf(stored)
	chosen := []string{""}
	if !members["."] {
		var err error
		if chosen, err = chooseMembers(members, nil); err != nil {
			return nil, err
		}
	}
	for _, member := range chosen {
		opt.Roots = append(opt.Roots, Root{Path: "/" + member, Optional: true})
	}
	for _, text := range stored.Facts.Exclusions {
		if text == otherFilesystems {
			opt.OneFilesystem = true
			continue
		}
		opt.Excludes = append(opt.Excludes, text)
	}
	opt.Excludes = slices.Compact(opt.Excludes)
	return New(opt), nil
}
