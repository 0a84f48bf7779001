package migration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast"
	"holdfast/internal/durable"
)

// Overlay is the switch of a container: a compose file that puts another directory in the place of the server's, beside the compose file,
// which stays as it is. Whoever starts the server names it while it is there. The old directory keeps its name.
type Overlay struct {
	Path   string                           // of the overlay; absolute
	Text   func(dir string) (string, error) // its content, for a data directory
	From   string                           // the old directory, where the host has it
	Target string                           // the data folder
	Volume string
}

var _ Switch = Overlay{}

func (o Overlay) restored() string { return o.From + ".restored-" + o.Volume }

// Where says what is. It is an error if the file is there and was not made by this switch.
func (o Overlay) Where(context.Context) (Place, error) {
	var place Place
	for dir, at := range map[string]*string{o.From: &place.Old, o.restored(): &place.Restored} {
		_, err := os.Lstat(dir)
		if err == nil {
			*at = dir
		} else if !errors.Is(err, fs.ErrNotExist) {
			return Place{}, fmt.Errorf("look at %s: %w", dir, err)
		}
	}
	text, err := os.ReadFile(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		place.Side = Old
		return place, nil
	}
	if err != nil {
		return Place{}, fmt.Errorf("read the overlay: %w", err)
	}
	for side, dir := range map[Side]string{Sealed: o.Target, Restored: o.restored()} {
		ours, err := o.Text(dir)
		if err != nil {
			return Place{}, fmt.Errorf("make the overlay: %w", err)
		}
		if bytes.Equal(text, []byte(ours)) {
			place.Side = side
			return place, nil
		}
	}
	return Place{}, holdfast.WithHint(fmt.Errorf("%s is not the overlay of this volume", o.Path), "look what it is, and rename it")
}

// To makes the server get side. It is an error to go from the restored directory to the old one, which lacks what was written since.
func (o Overlay) To(ctx context.Context, side Side) error {
	place, err := o.Where(ctx)
	if err != nil {
		return err
	}
	dir := o.Target
	switch {
	case side == Old && place.Side == Restored, side == Restored && place.Side == Old, side == Old && place.Old == "", side == Restored && place.Restored == "":
		return fmt.Errorf("switch %s: there is no way from %q to %q", o.From, place.Side, side)
	case side == Old:
		if err := os.Remove(o.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the overlay: %w", err)
		}
		return durable.SyncDir(filepath.Dir(o.Path))
	case side == Restored:
		dir = o.restored()
	}
	text, err := o.Text(dir)
	if err != nil {
		return fmt.Errorf("make the overlay: %w", err)
	}
	return durable.WriteFile(o.Path, []byte(text), 0o644)
}

// Check refuses to replace a file that is not its own.
func (o Overlay) Check(ctx context.Context) ([]Check, error) {
	bad := func(text, fix string) ([]Check, error) { return []Check{{Name: "switch", Text: text, Fix: fix}}, nil }
	place, err := o.Where(ctx)
	switch {
	case err != nil && holdfast.Hint(err) != "":
		return bad(err.Error(), holdfast.Hint(err))
	case err != nil:
		return nil, err
	case place.Old == "":
		return bad(fmt.Sprintf("there is no %s", o.From), "name the data directory, or the container's volume")
	case place.Restored != "":
		return bad(fmt.Sprintf("%s is there already, perhaps from an earlier way back", place.Restored), "look what it is, and remove or rename it")
	}
	mounted, err := mountsWithin(o.From)
	if err != nil {
		return nil, err
	}
	for _, point := range mounted {
		if point != o.From {
			return bad(fmt.Sprintf("%s is mounted below %s, and would not be copied", point, o.From), "move what is there into the directory, and unmount it")
		}
	}
	return []Check{{Name: "switch", Good: true, Text: fmt.Sprintf("the overlay %s will name %s; the compose file stays as it is", o.Path, o.Target)}}, nil
}
