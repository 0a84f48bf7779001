package archive

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/seal"
)

// recoveryText is RESTORE.txt: what to type with stock tools when there is no holdfast.
func recoveryText(m *Manifest) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Backup %s of job %s, host %s, begun %s.\n", m.ID, m.Job, m.Host, m.Time.Format("2006-01-02 15:04:05 UTC"))
	fmt.Fprintf(&b, "Made by %s.\n\n", strings.Join(versionLines(m.Versions), ", "))
	way := wayIn(m)
	b.WriteString("With holdfast:\n\n    holdfast restore " + string(m.ID) + " --store DIR" + way.flags + "\n\n")
	b.WriteString("With stock tools. Each line is one item." + way.needs + "\n")
	for _, item := range m.Items {
		if item.Role != RoleData {
			continue
		}
		fmt.Fprintf(&b, "\n# %s  (%d bytes stored, sha256 %s)\n", item.Object, item.StoredSize, item.StoredSHA256)
		for _, line := range openingLines(item, way) {
			b.WriteString(line + "\n")
		}
	}
	if len(m.Missing) > 0 {
		b.WriteString("\nNOT in this backup:\n")
		for _, missing := range m.Missing {
			fmt.Fprintf(&b, "  %s (%s, %s)\n", missing.Name, missing.Kind, missing.Why)
		}
	}
	return b.String()
}

// way says how a backup is opened by somebody who has what opens it.
type way struct {
	flags string // for holdfast restore
	needs string // what must be there for the lines, and beside them
	pipe  string // takes what is stored, and makes of it what was sealed
}

// wayIn tells the way into the items of a backup. A secret is in a file, never in a command line.
func wayIn(m *Manifest) way {
	format, sealed := parseSeal(m.Seal)
	onlyPassphrase := !slices.ContainsFunc(m.Keys, func(key string) bool { return !strings.HasSuffix(key, "passphrase") })
	switch {
	case !sealed:
		return way{}
	case format == seal.OpenPGP && onlyPassphrase:
		return way{" --passphrase-file passphrase.txt", " passphrase.txt is the file with the passphrase.",
			" | gpg --batch --pinentry-mode loopback --passphrase-file passphrase.txt -d"}
	case format == seal.OpenPGP:
		return way{" --identity identity.asc", " identity.asc is the private key that was kept away from the host; first type\n" +
			"gpg --import identity.asc", " | gpg -d"}
	case format == seal.OpenSSL:
		return way{" --passphrase-file passphrase.txt", " passphrase.txt is the file with the passphrase. openssl cannot tell\n" +
			"whether a file was changed: compare it with the sha256 that stands here first.", ""}
	case onlyPassphrase:
		return way{" --passphrase-file passphrase.txt", " age asks for the passphrase.", " | age -d"}
	}
	return way{" --identity identity.txt", " identity.txt is the private key that was kept away from the host.\n" +
		"Post-quantum recipients (age1pq…) need age 1.3 or newer.", " | age -d -i identity.txt"}
}

func openingLines(item ItemEntry, way way) []string {
	pipe := "cat " + item.Object
	if item.Parts > 1 {
		pipe = fmt.Sprintf("cat %s %s.[0-9][0-9][0-9]", item.Object, item.Object)
	}
	rest := item.Object
	if how := item.Opening; how != nil {
		rest = strings.TrimSuffix(rest, how.Format.Suffix())
		pipe += way.pipe
		if how.Format == seal.OpenSSL {
			pipe += fmt.Sprintf(" | openssl enc -d -%s -pbkdf2 -iter %d -md %s -pass file:passphrase.txt", how.Cipher, how.Iterations, how.Digest)
		}
	}
	if inner, ok := strings.CutSuffix(rest, ".zst"); ok {
		rest = inner
		pipe += " | zstd -d"
	} else if inner, ok := strings.CutSuffix(rest, ".gz"); ok {
		rest = inner
		pipe += " | gunzip"
	}
	switch {
	case strings.HasSuffix(rest, ".globals.sql"):
		return []string{"# roles and tablespaces of the cluster; those that exist already give an error that does no harm", pipe + " | psql -X postgres"}
	case strings.HasSuffix(rest, ".postgres.create.sql"):
		return []string{"# settings of the database postgres, which every cluster has: that it exists is an error that does no harm", pipe + " | psql -X postgres"}
	case strings.HasSuffix(rest, ".create.sql"):
		return []string{"# creates the database with its encoding, owner and settings", pipe + " | psql -X -v ON_ERROR_STOP=1 postgres"}
	case strings.HasSuffix(rest, ".sql"):
		return []string{"# the database itself, into the one created above", pipe + " | psql -X -v ON_ERROR_STOP=1 DATABASE"}
	case strings.HasSuffix(rest, ".sqlite"):
		return []string{pipe + " > " + rest, fmt.Sprintf("sqlite3 %s 'PRAGMA integrity_check'", rest)}
	case strings.HasSuffix(rest, ".tar"):
		return []string{"# as root, into an empty folder", pipe + " | tar --xattrs --xattrs-include='*' --acls -xpf - -C DIR"}
	}
	return []string{pipe + " > " + rest}
}
