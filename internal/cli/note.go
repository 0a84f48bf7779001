package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/journal"
	"holdfast/internal/seal"
	"holdfast/internal/store"
)

// openJournal opens this installation's journal. Without a signing key what is recorded is chained, and a later command signs it.
func (a *app) openJournal(cfg *config.Config) (*journal.Journal, error) {
	if a.journal != nil {
		return a.journal, nil
	}
	opt := journal.Options{Dir: filepath.Join(cfg.State, "journal"), Host: cfg.Host, Version: a.Version, Now: a.Now, TextFile: cfg.Audit.File}
	_, err := os.Stat("/dev/log")
	if cfg.Audit.Syslog == config.SyslogAlways || cfg.Audit.Syslog == config.SyslogAuto && err == nil {
		opt.Syslog = journal.Syslog("holdfast")
	}
	if _, err := os.Stat(cfg.Signer); err == nil {
		signer, err := a.signer(cfg)
		if err != nil {
			return nil, err
		}
		opt.Signer = signer
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	j, err := journal.Open(opt)
	if err != nil {
		return nil, err
	}
	a.journal = j
	return j, nil
}

// note records that something was done, and how it ended. What cannot be recorded is told, and undoes nothing.
func (a *app) note(cfg *config.Config, event journal.Event, cause error, fill func(*journal.Record)) {
	if err := a.record(cfg, event, cause, fill); err != nil {
		a.printer.warn("there is no record of this in the journal: " + holdfast.Sentence(err))
	}
}

// record is note for whoever can do something about it: nil, it is durable.
func (a *app) record(cfg *config.Config, event journal.Event, cause error, fill func(*journal.Record)) error {
	r := journal.Record{Event: event, Result: resultOf(cause), Who: journal.Who{User: a.user(), Address: journal.Origin(a.lookup)}}
	if fill != nil {
		fill(&r)
	}
	j, err := a.openJournal(cfg)
	if err == nil {
		// What was interrupted is recorded too.
		ctx, cancel := context.WithTimeout(context.Background(), noteTime)
		defer cancel()
		_, err = j.Append(ctx, r)
	}
	if warning := (*journal.Warning)(nil); errors.As(err, &warning) {
		a.printer.warn("recorded, but " + holdfast.Sentence(warning))
		return nil
	}
	return err
}

// recordedCommands are the commands that are one record each. `show` is one when it opens something. Backups, mirrors, prunes and pins record by themselves what they do.
func recordedCommands() map[string]journal.Event {
	return map[string]journal.Event{
		"holdfast verify": journal.Verified, "holdfast drill": journal.Drilled, "holdfast restore": journal.Restored, "holdfast decrypt": journal.Decrypted,
		"holdfast link": journal.Linked, "holdfast import": journal.Imported, "holdfast init": journal.KeyCreated, "holdfast key new": journal.KeyCreated, "holdfast key import": journal.KeyImported,
		"holdfast key export": journal.KeyExported, "holdfast key rotate": journal.KeyRotation, "holdfast key check": journal.KeyChecked, "holdfast key reseal": journal.Resealed,
	}
}

// noteCommand records the command that ran, if it is one of those. What was refused before it was known what it is about is a slip of
// the pen and no record; what was refused for a backup is.
func (a *app) noteCommand(ctx context.Context, err error) {
	event := cmp.Or(a.about.Event, recordedCommands()[a.ran])
	if event == "" || a.cfg == nil {
		return
	}
	if resultOf(err) == "refused" {
		if a.about.Backup == "" {
			return
		}
		a.about.Detail, event = strings.TrimPrefix(a.ran, "holdfast "), journal.Refused
	}
	if a.emergency && event != journal.Refused {
		event = journal.EmergencyAccess
		a.about.Detail = strings.TrimSuffix(strings.TrimPrefix(a.ran, "holdfast ")+": "+a.about.Detail, ": ")
	}
	a.note(a.cfg, event, err, func(r *journal.Record) {
		r.Job, r.Task, r.Backup, r.Store, r.Detail, r.Figures, r.Reason = a.about.Job, a.about.Task, a.about.Backup, a.about.Store, a.about.Detail, a.about.Figures, a.about.Reason
		if slices.Contains([]journal.Event{journal.Verified, journal.Drilled, journal.KeyChecked}, event) {
			r.Figures = withSeconds(r.Figures, a.Now().Sub(a.began))
		}
		if a.about.Result != "" && err == nil {
			r.Result = a.about.Result
		}
	})
	// What is about no store, such as a key, is carried to all.
	places, storeErr := a.cfg.AllStores("")
	if a.about.Store != "" {
		var where config.Store
		where, storeErr = a.cfg.StoreNamed(a.about.Store)
		places = []config.Store{where}
	}
	if storeErr != nil {
		return
	}
	if ctx.Err() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, carryReadTime)
	defer cancel()
	a.carryJournal(ctx, a.cfg, places)
}

// withSeconds adds to figures how long it took.
func withSeconds(figures map[string]float64, took time.Duration) map[string]float64 {
	all := map[string]float64{"seconds": took.Seconds()}
	maps.Copy(all, figures)
	return all
}

const (
	// noteTime bounds how long a record and the signature wait for other processes that append.
	noteTime = time.Minute
	// carryTime bounds what is spent on carrying records to one store. What stays behind is carried by a later command.
	carryTime = time.Minute
	// carryReadTime is that for a command that only read.
	carryReadTime = 15 * time.Second
)

// whyFlags are the flags of commands that open backups.
type whyFlags struct {
	reason    string
	emergency bool
}

func (f *whyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.reason, "reason", "", "why it is done, which is recorded in the journal")
	cmd.Flags().BoolVar(&f.emergency, "emergency", false, "record it as an emergency access; needs --reason")
}

// why takes down what the flags say.
func (a *app) why(f whyFlags) error {
	if f.emergency && f.reason == "" {
		return holdfast.WithHint(fmt.Errorf("%w: an emergency needs a reason, which is recorded", holdfast.ErrUsage), `add --reason "…"`)
	}
	a.about.Reason, a.emergency = f.reason, f.emergency
	return nil
}

// user is who runs this, and that they became somebody else for it.
func (a *app) user() string {
	if sudo := a.env("SUDO_USER"); sudo != "" {
		return sudo + " via sudo"
	}
	return a.who()
}

// resultOf is one word for how something ended. It tells no more: an error may have names from inside of the data.
func resultOf(err error) string {
	for _, row := range []struct {
		sentinel error
		word     string
	}{
		{holdfast.ErrInterrupted, "interrupted"}, {context.Canceled, "interrupted"}, {holdfast.ErrDifference, "difference"}, {holdfast.ErrCannotTest, "cannot-test"},
		{holdfast.ErrIncomplete, "incomplete"}, {holdfast.ErrUsage, "refused"}, {seal.ErrNoIdentity, "refused"},
	} {
		if errors.Is(err, row.sentinel) {
			return row.word
		}
	}
	if err != nil {
		return "failed"
	}
	return "good"
}

// signJournal signs what the command recorded. A journal that lost what was signed before is told, and the command is what it was.
func (a *app) signJournal() error {
	if a.journal == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), noteTime)
	defer cancel()
	err := a.journal.Checkpoint(ctx)
	if errors.Is(err, holdfast.ErrDifference) {
		a.printer.warn(holdfast.Sentence(err) + "; " + holdfast.Hint(err))
		return nil
	}
	return err
}

// carryJournal brings to stores what they lack of the journal. One that does not take it gets it later.
func (a *app) carryJournal(ctx context.Context, cfg *config.Config, places []config.Store) {
	j, err := a.openJournal(cfg)
	if err != nil {
		return // told when something was to be recorded
	}
	if !j.Signs() {
		return // a machine that only reads keeps its records to itself
	}
	for _, place := range places {
		a.carryTo(ctx, j, place)
	}
}

func (a *app) carryTo(ctx context.Context, j *journal.Journal, place config.Store) {
	ctx, cancel := context.WithTimeout(ctx, carryTime)
	defer cancel()
	s, err := a.openStore(ctx, place, false)
	if err != nil {
		return // told by whoever needed the store
	}
	// Whoever may only read leaves it to the next one who may write.
	if _, err := j.Push(ctx, s); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, store.ErrReadOnly) {
		text := fmt.Sprintf("store %s: %s", place.Name, holdfast.Sentence(err))
		if hint := holdfast.Hint(err); hint != "" {
			text += ": " + hint
		}
		a.printer.warn(text)
	}
}
