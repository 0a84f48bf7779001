package pgdata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"holdfast"
)

// Control is what the control file of a cluster says, as far as it tells one moment of one cluster from all others. pg_controldata prints the
// same; it is not on every host that has the files.
type Control struct {
	System     uint64 // database system identifier
	State      string // in pg_controldata's words
	Checkpoint string // location of the latest checkpoint, as 0/16B6C50
}

// ShutDown is the state after a clean stop.
const ShutDown = "shut down"

// The states of DBState in src/include/catalog/pg_control.h, which are the same from PostgreSQL 9 to 18.
func states() []string {
	return []string{"starting up", ShutDown, "shut down in recovery", "shutting down", "in crash recovery", "in archive recovery", "in production"}
}

const (
	// mostControl bounds the file's part that is used: PG_CONTROL_MAX_SAFE_SIZE, so that it is written in one sector.
	mostControl = 512
	// leastControl is before where the checksum can be.
	leastControl = 200
)

// ReadControl reads and checks the control file of the data folder dir. A file that is not whole is [holdfast.ErrDifference].
func ReadControl(dir string) (Control, error) {
	path := filepath.Join(dir, "global", "pg_control")
	data, err := os.ReadFile(path)
	if err != nil {
		return Control{}, holdfast.WithHint(fmt.Errorf("read the control file: %w", err), "name the data folder of a cluster, and run as root")
	}
	c, err := parseControl(data)
	if err != nil {
		return Control{}, holdfast.WithHint(fmt.Errorf("%w: control file %s: %w", holdfast.ErrDifference, path, err), "the cluster is damaged, or of a version that Holdfast does not know; pg_controldata of its version says more")
	}
	return c, nil
}

func parseControl(data []byte) (Control, error) {
	if len(data) < mostControl {
		return Control{}, fmt.Errorf("it has %d bytes", len(data))
	}
	data = data[:mostControl]
	if version := binary.NativeEndian.Uint32(data[8:]); version < 1100 || version > 1999 {
		return Control{}, fmt.Errorf("its layout is %d", version)
	}
	if !summed(data) {
		return Control{}, errors.New("its checksum is wrong")
	}
	state := binary.NativeEndian.Uint32(data[16:])
	if int(state) >= len(states()) {
		return Control{}, fmt.Errorf("its state is %d", state)
	}
	at := binary.NativeEndian.Uint64(data[32:])
	return Control{
		System: binary.NativeEndian.Uint64(data), State: states()[state], Checkpoint: fmt.Sprintf("%X/%X", at>>32, uint32(at)),
	}, nil
}

// summed reports whether the checksum fits. It is the last field, behind all others, at a place that depends on the version: CRC-32C of
// what is before it. That another place fits by chance has a probability of one in 2^25.
func summed(data []byte) bool {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Checksum(data[:leastControl], table)
	for at := leastControl; at+4 <= len(data); at += 4 {
		if binary.NativeEndian.Uint32(data[at:]) == sum && sum != 0 {
			return true
		}
		sum = crc32.Update(sum, table, data[at:at+4])
	}
	return false
}
