package volume

import "context"

// RunProgram is the runner that a host has without one.
func RunProgram(ctx context.Context, c Command) (Output, error) { return runProgram(ctx, c) }

// ParseHeader is the parser of both forms of luksDump.
func ParseHeader(json, text []byte) (Header, error) {
	m, err := parseHeader(json, text)
	return m.Header, err
}

// ParseMemory is the parser of /proc/meminfo.
func ParseMemory(text string) (int, error) { return parseMemory(text) }

// ParseProgress is the parser of cryptsetup's progress.
func ParseProgress(line string) (done, total int64, ok bool) { return parseProgress(line) }

// Args are cryptsetup's arguments for a KDF.
func (k KDF) Args() []string { return k.args() }
