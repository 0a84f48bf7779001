package rsync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/store"
)

// List yields every object whose name begins with prefix, ordered by name. The far side is listed in one run, as a whole, before
// the first object is yielded. Times are exact to the second.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		objects, err := d.list(ctx, prefix, filters(prefix))
		if err != nil {
			yield(store.Object{}, fmt.Errorf("list %s: %w", d.where, err))
			return
		}
		for _, object := range objects {
			if !yield(object, nil) {
				return
			}
		}
	}
}

// plainPrefix are prefixes that a filter rule of rsync takes as they are.
var plainPrefix = regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)

// filters let rsync read those folders alone that can hold names beginning with prefix.
func filters(prefix string) []string {
	if !plainPrefix.MatchString(prefix) {
		return nil
	}
	var rules []string
	for i := range len(prefix) {
		if prefix[i] == '/' {
			rules = append(rules, "--include=/"+prefix[:i+1])
		}
	}
	return append(rules, "--include=/"+prefix+"*", "--include=/"+prefix+"*/**", "--exclude=*")
}

// list fails with store.ErrNoStore when the marker is not among what is there.
func (d *Driver) list(ctx context.Context, prefix string, filters []string) ([]store.Object, error) {
	args := []string{"--list-only", "--recursive", "--no-human-readable", "--include=/" + marker, "--exclude=.*"}
	args = append(args, filters...)
	out, err := d.run(ctx, nil, append(args, d.at(""))...)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.noStore()
	}
	if err != nil {
		return nil, err
	}
	objects, marked, err := parseList(out)
	if err != nil {
		return nil, err
	}
	if !marked {
		return nil, d.noStore()
	}
	objects = slices.DeleteFunc(objects, func(o store.Object) bool { return !strings.HasPrefix(o.Name, prefix) })
	slices.SortFunc(objects, func(a, b store.Object) int { return strings.Compare(a.Name, b.Name) })
	return objects, nil
}

// listLine is a regular file in the output of rsync --list-only: mode, size, date, time, name. Some versions put commas
// into the size.
var listLine = regexp.MustCompile(`^-\S{9,10} +([0-9,]+) (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) (.+)$`)

// parseList reads the output of rsync --list-only with UTC as its time zone. Folders, links, and what has no name of an object are
// left out. A line about a file that cannot be read is an error: the list would be short.
func parseList(out []byte) (objects []store.Object, marked bool, err error) {
	for line := range strings.Lines(string(out)) {
		line = strings.TrimRight(line, "\r\n")
		if !strings.HasPrefix(line, "-") {
			continue
		}
		match := listLine.FindStringSubmatch(line)
		if match == nil {
			return nil, false, fmt.Errorf("read the list of rsync: %.200q is no line that is known", line)
		}
		if match[3] == marker {
			marked = true
		}
		if store.CheckName(match[3]) != nil {
			continue
		}
		size, err := strconv.ParseInt(strings.ReplaceAll(match[1], ",", ""), 10, 64)
		if err != nil {
			return nil, false, fmt.Errorf("read the list of rsync: size: %w", err)
		}
		modified, err := time.Parse("2006/01/02 15:04:05", match[2])
		if err != nil {
			return nil, false, fmt.Errorf("read the list of rsync: time: %w", err)
		}
		objects = append(objects, store.Object{Name: match[3], Size: size, Modified: modified})
	}
	return objects, marked, nil
}
