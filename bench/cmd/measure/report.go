package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// report prints one Markdown table for each group, rows in the order of their first measurement, and then the ratios
// that were asked for.
func report(args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("a file of measurements is needed")
	}
	all, err := read(args[0])
	if err != nil {
		return err
	}
	for _, group := range distinct(all, func(m measurement) string { return m.Group }) {
		of := slices.DeleteFunc(slices.Clone(all), func(m measurement) bool { return m.Group != group })
		fmt.Fprintf(out, "### %s\n\n| command | runs | wall s, least | median | CPU s | stored MB | memory MB |\n|---|---|---|---|---|---|---|\n", group)
		for _, label := range distinct(of, func(m measurement) string { return m.Label }) {
			rows := labelled(of, label)
			walls := values(rows, func(m measurement) float64 { return m.Wall })
			cpu := values(rows, func(m measurement) float64 { return m.User + m.System })
			peak := values(rows, func(m measurement) float64 { return float64(m.Peak) })
			fmt.Fprintf(out, "| %s | %d | %.3f | %.3f | %.2f | %s | %s |\n", strings.ReplaceAll(label, "|", `\|`), len(rows),
				walls[0], median(walls), median(cpu), megabytes(rows[len(rows)-1].Stored), megabytes(int64(peak[len(peak)-1])))
		}
		fmt.Fprintln(out)
	}
	return ratios(all, args[1:], out)
}

// ratios prints, for every pair asked for, the median of the ratios of runs of the same round.
func ratios(all []measurement, args []string, out io.Writer) error {
	if len(args) == 0 {
		return nil
	}
	fmt.Fprint(out, "### Ratios\n\n| ratio | least | median | most |\n|---|---|---|---|\n")
	for len(args) >= 2 {
		parts := strings.Split(args[1], "=")
		if len(parts) != 3 || args[0] != "-ratio" && args[0] != "-size" {
			return fmt.Errorf("%s %q is not -ratio or -size with text=label=label", args[0], args[1])
		}
		value := func(m measurement) float64 { return m.Wall }
		if args[0] == "-size" {
			value = func(m measurement) float64 { return float64(m.Stored) }
		}
		var found []float64
		for _, a := range labelled(all, parts[1]) {
			for _, b := range labelled(all, parts[2]) {
				if a.Round == b.Round && value(b) > 0 {
					found = append(found, value(a)/value(b))
				}
			}
		}
		slices.Sort(found)
		if len(found) > 0 {
			fmt.Fprintf(out, "| %s | %.2f | %.2f | %.2f |\n", parts[0], found[0], median(found), found[len(found)-1])
		}
		args = args[2:]
	}
	return nil
}

func read(path string) ([]measurement, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []measurement
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var m measurement
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, m)
	}
	return all, lines.Err()
}

func distinct(all []measurement, key func(measurement) string) []string {
	var keys []string
	for _, m := range all {
		if !slices.Contains(keys, key(m)) {
			keys = append(keys, key(m))
		}
	}
	return keys
}

func labelled(all []measurement, label string) []measurement {
	var some []measurement
	for _, m := range all {
		if m.Label == label {
			some = append(some, m)
		}
	}
	return some
}

// values returns sorted values.
func values(all []measurement, value func(measurement) float64) []float64 {
	var list []float64
	for _, m := range all {
		list = append(list, value(m))
	}
	slices.Sort(list)
	return list
}

// median takes a sorted list that is not empty.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func megabytes(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", float64(bytes)/1e6)
}
