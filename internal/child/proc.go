package child

import (
	"bytes"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// waitid waits until the process has ended, and leaves its status to be collected.
func waitid(pid int) error {
	for {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return err
		}
	}
}

// usedBy is a number that grows for as long as a process, or one that descends from it, works: ticks of the processor and bytes that were
// read or written (proc(5)). A process whose parent has ended belongs to nobody and is not counted.
func usedBy(pid int) uint64 {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	children := map[int][]int{}
	ticks := map[int]uint64{}
	for _, entry := range entries {
		id, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if parent, used, ok := stat(id); ok {
			children[parent], ticks[id] = append(children[parent], id), used
		}
	}
	var sum uint64
	todo := []int{pid}
	for len(todo) > 0 {
		id := todo[0]
		todo = append(todo[1:], children[id]...)
		sum += ticks[id] + moved(id)
	}
	return sum
}

// stat reads the parent of a process and the ticks that it and the children it waited for have used.
func stat(pid int) (parent int, ticks uint64, ok bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, false
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 15 {
		return 0, 0, false
	}
	if parent, err = strconv.Atoi(fields[1]); err != nil {
		return 0, 0, false
	}
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, 0, false
		}
		ticks += n
	}
	return parent, ticks, true
}

// moved is how many bytes a process has read and written; 0 of one that may not be looked at.
func moved(pid int) uint64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/io")
	if err != nil {
		return 0
	}
	var sum uint64
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if name == "rchar" || name == "wchar" {
			if n, err := strconv.ParseUint(value, 10, 64); err == nil {
				sum += n
			}
		}
	}
	return sum
}
