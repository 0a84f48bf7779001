package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/seal"
)

const armorBegin = "-----BEGIN PGP "

// checkRecipient validates a recipient without repeating it: it may be an identity by mistake.
func checkRecipient(text string) error {
	if strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-") {
		return errors.New("is an identity, the private half of a key; give the public half, which begins with age1, and keep the identity off this host")
	}
	_, err := seal.ParseRecipient(text)
	switch {
	case err == nil:
		return nil
	case strings.HasPrefix(text, armorBegin):
		return explained(err)
	}
	return errors.New("is not a recipient; " + holdfast.Hint(err))
}

// explained puts a hint behind what it belongs to.
func explained(err error) error {
	return fmt.Errorf("%s; %s", holdfast.Sentence(err), holdfast.Hint(err))
}

// readRecipients reads a file of recipients: of age ones, one per line, or of OpenPGP public keys.
func readRecipients(file string) ([]string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileSize {
		return nil, fmt.Errorf("%s is not a file of recipients", file)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	recipients, err := seal.RecipientTexts(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, explained(err))
	}
	return recipients, nil
}

// RecipientKey makes a key without a name of text, as --recipient takes it: a recipient, or the path of a file of
// recipients. It fails with [holdfast.ErrUsage].
func RecipientKey(text string) (Key, error) {
	key := Key{Format: seal.Age, Recipients: []string{text}}
	if err := checkRecipient(text); err != nil {
		path, pathErr := workingPath(text)
		if pathErr != nil {
			return Key{}, fmt.Errorf("%w: %w", holdfast.ErrUsage, err)
		}
		// A text that is no file is more likely a recipient with a mistake in it, if it does not look like a path.
		if info, statErr := os.Stat(path); !looksLikePath(text) && (statErr != nil || !info.Mode().IsRegular()) {
			return Key{}, fmt.Errorf("%w: %w", holdfast.ErrUsage, err)
		}
		key.File = path
		if key.Recipients, err = readRecipients(path); err != nil {
			return Key{}, fmt.Errorf("%w: %w", holdfast.ErrUsage, err)
		}
	}
	key.Ends = ends(key.Recipients)
	return key, nil
}

// looksLikePath tells a file's name from a recipient, or a secret in its place, of which nothing is repeated.
func looksLikePath(text string) bool {
	for _, begin := range []string{"/", "./", "../"} {
		if strings.HasPrefix(text, begin) {
			return true
		}
	}
	return strings.HasSuffix(text, ".asc") || strings.HasSuffix(text, ".gpg") || strings.HasSuffix(text, ".pub")
}

// ends is when the first of some recipients expires by itself.
func ends(texts []string) time.Time {
	var first time.Time
	for _, r := range (Key{Recipients: texts}).SealRecipients() {
		if end, known := seal.ExpiryOf(r); known && (first.IsZero() || end.Before(first)) {
			first = end
		}
	}
	return first
}

// End is when backups cannot be sealed to the key any more, by what the configuration says or by the key itself; zero
// for never.
func (k Key) End() time.Time {
	if k.Expires.IsZero() || !k.Ends.IsZero() && k.Ends.Before(k.Expires) {
		return k.Ends
	}
	return k.Expires
}

// SealRecipients are the recipients of a key as seal has them, for their IDs and for checks. Nothing must be sealed to
// them: a passphrase is not resolved, and another one stands for it.
func (k Key) SealRecipients() []seal.Recipient {
	var all []seal.Recipient
	if !k.Passphrase.IsZero() {
		if p, err := seal.NewPassphraseFor(k.Format, holdfast.NewSecret("not the passphrase")); err == nil {
			all = append(all, p)
		}
	}
	for _, text := range k.Recipients {
		if r, err := seal.ParseRecipient(text); err == nil { // else reported where it was read
			all = append(all, r)
		}
	}
	return all
}

// completeSeal checks that a job's recipients can be sealed to together and today, and says how.
func (r *reader) completeSeal(j *draftJob, path string) {
	var all []seal.Recipient
	for _, k := range j.Recipients {
		recipients := k.SealRecipients()
		all = append(all, recipients...)
		if err := seal.CheckNow(recipients, r.now); err != nil {
			at := r.origins["keys."+k.Name+".recipient_file"]
			if k.File == "" {
				at = r.origins["keys."+k.Name+".recipient"]
			}
			text := fmt.Sprintf("keys.%s: %s", k.Name, explained(err))
			j.expired = append(j.expired, Mistake{at.String(), text, at.line, at.column})
		}
	}
	if len(all) == 0 {
		return
	}
	if err := seal.CheckRecipients(all); err != nil {
		r.fault(j.places["recipients"], "%s.recipients: %s", path, explained(err))
		return
	}
	format := Seal(all[0].Format())
	if j.Seal != "" && j.Seal != format {
		r.fault(j.places["seal"], "%s.seal: the recipients are made for %s, not for %s; remove the key seal, or choose other recipients", path, format, j.Seal)
		return
	}
	if j.Seal == "" {
		r.origins[path+".seal"] = place{where: "the recipients"}
	}
	j.Seal = format
}

// recipientText is the recipient of a key for a person: of an OpenPGP key its ID, not its many lines.
func (k Key) recipientText() string {
	var texts []string
	for _, r := range k.SealRecipients() {
		text := r.KeyID()
		if r.Format() == seal.Age {
			return strings.Join(k.Recipients, ", ")
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}
