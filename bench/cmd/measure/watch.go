package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// watcher samples the resident memory of a process and its descendants. Pages that processes share count for each of
// them, so the sums err on the high side.
type watcher struct {
	apart map[string]bool
	peak  int64
	peaks map[string]int64
}

func (w *watcher) sample(root int) {
	sums := map[string]int64{}
	w.add(root, sums)
	var counted int64
	for name, sum := range sums {
		w.peaks[name] = max(w.peaks[name], sum)
		if !w.apart[name] {
			counted += sum
		}
	}
	w.peak = max(w.peak, counted)
}

// add counts a process and its descendants. One that ends meanwhile counts as nothing.
func (w *watcher) add(pid int, sums map[string]int64) {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return
	}
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return
	}
	fields := strings.Fields(string(statm))
	if len(fields) < 2 {
		return
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return
	}
	sums[strings.TrimSpace(string(name))] += pages * int64(os.Getpagesize())
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return
	}
	for _, task := range tasks {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if err != nil {
			continue
		}
		for _, child := range strings.Fields(string(children)) {
			if childPID, err := strconv.Atoi(child); err == nil {
				w.add(childPID, sums)
			}
		}
	}
}
