package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"holdfast"
)

// BackupHeader copies the header with its key slots into a new file, reads it back, and compares: it returns what the copy says. Nothing is left
// at path when it fails. The copy is as secret as the passphrases: it opens the volume with each passphrase that opens it now, however often
// keys are rotated later, until [Host.Reencrypt]. So path must be in memory, and what is kept of it sealed; that is the caller's. A path where
// something is already wraps [holdfast.ErrUsage].
func (h Host) BackupHeader(ctx context.Context, device, path string) (_ Header, err error) {
	header, err := h.Header(ctx, device)
	if err != nil {
		return Header{}, err
	}
	if header.Reencrypting {
		return Header{}, holdfast.WithHint(fmt.Errorf("back up the header of %s: the exchange of its volume key is not finished, and the copy would not open what is there later", device),
			"run `holdfast volume reencrypt` to its end first")
	}
	if err := checkDevice(path); err != nil {
		return Header{}, err
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return Header{}, holdfast.WithHint(fmt.Errorf("%w: there is something at %s already", holdfast.ErrUsage, path), "name a file that is not there")
	}
	defer func() {
		if err == nil {
			return
		}
		if gone := os.Remove(path); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}()
	h.step("back up the header")
	if _, err := h.run(ctx, Command{Args: []string{"cryptsetup", "luksHeaderBackup", "--batch-mode", device, "--header-backup-file", path}}); err != nil {
		return Header{}, advise(fmt.Errorf("back up the header of %s: %w", device, err), "see that the folder of the copy has 17 MB of room, and run it again")
	}
	copied, err := h.ReadBackup(ctx, path)
	if err != nil {
		return Header{}, err
	}
	if copied.UUID != header.UUID || !slices.Equal(copied.Slots, header.Slots) {
		return Header{}, holdfast.WithHint(fmt.Errorf("back up the header of %s: %w: the copy has other slots or another UUID", device, holdfast.ErrDifference), "see that nothing else changes keys of the volume, and run it again")
	}
	return copied, nil
}

// ReadBackup reads a header's backup. Errors wrap [ErrNotVolume].
func (h Host) ReadBackup(ctx context.Context, path string) (Header, error) {
	header, err := h.Header(ctx, path)
	if errors.Is(err, ErrNotVolume) {
		return Header{}, holdfast.WithHint(err, "it is no header backup, or it is damaged: take another one")
	}
	return header, err
}
