package sftp

import (
	"errors"
	"fmt"

	"github.com/pkg/sftp"

	"holdfast"
	"holdfast/internal/store"
)

// Status codes that the client does not translate itself. OpenSSH speaks version 3, which ends at 8; other servers send those
// of later drafts (draft-ietf-secsh-filexfer-13, section 9.1) all the same.
const (
	codeFailure        = 4
	codeNoConnection   = 6
	codeConnectionLost = 7
	codeUnsupported    = 8
	codeExists         = 11
	codeWriteProtect   = 12
	codeNoSpace        = 14
	codeQuota          = 15
)

// fullBelow is the room under which an unexplained failure to write is put down to a full disk: one piece of an object.
const fullBelow = chunkSize

func code(err error) uint32 {
	var status *sftp.StatusError
	if errors.As(err, &status) {
		return status.Code
	}
	return 0
}

// classify translates what the protocol says by itself into the store's sentinels. The client has already made
// fs.ErrNotExist and fs.ErrPermission of theirs.
func classify(err error) error {
	switch code(err) {
	case codeWriteProtect:
		return readOnly(err)
	case codeNoSpace, codeQuota:
		return full(err)
	}
	return err
}

func full(err error) error {
	if errors.Is(err, store.ErrFull) {
		return err
	}
	return holdfast.WithHint(fmt.Errorf("%w: %w", store.ErrFull, err),
		"make room in the store: a larger disk or quota, or a shorter retention and `holdfast prune`")
}

func readOnly(err error) error {
	if errors.Is(err, store.ErrReadOnly) {
		return err
	}
	return holdfast.WithHint(fmt.Errorf("%w: %w", store.ErrReadOnly, err),
		"have the filesystem at the far side mounted read-write; a kernel makes it read-only after a disk error, so look there first")
}

// diagnose is classify for a failed change. OpenSSH says no more than "Failure" for a full disk and for a read-only one, so
// the filesystem is asked.
func (d *Driver) diagnose(s *session, err error) error {
	if code(err) != codeFailure || !s.has("statvfs") {
		return classify(err)
	}
	disk, asked := s.sftp.StatVFS(d.opt.Path)
	const flagReadOnly = 1 // SSH_FXE_STATVFS_ST_RDONLY in OpenSSH's PROTOCOL file, section 4.4
	switch {
	case asked != nil:
		return err
	case disk.Flag&flagReadOnly != 0:
		return readOnly(err)
	case disk.Bavail*disk.Frsize < fullBelow, disk.Files > 0 && disk.Favail == 0:
		return full(err)
	}
	return err
}
