package files

import (
	"archive/tar"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
)

// class is the class of every fact of this package.
const class = "file"

// changedMark ends the text of a file that changed while it was read, each time it was read.
const changedMark = " (changed while read)"

// record is what is known of one member of the stream.
type record struct {
	name         string // the member's path, raw bytes, without a slash at the end
	kind         byte   // a type of archive/tar; a hard link has the type of what it shares
	mode         uint32 // the lower twelve bits
	uid, gid     uint32
	user, group  string // "" when the number has no name
	mtime        unix.Timespec
	size         int64
	digest       string // of a regular file
	target       string // of a symbolic link
	major, minor uint32 // of a device
	xattrs       string // digest of the extended attributes, "" when there are none
	first        string // of a hard link: the member that holds the content
	changed      bool
}

// factName shows a member's path so that no two paths look the same and none breaks a line. The rule must not depend
// on a version of Unicode: names made today are compared with names made in ten years.
func factName(name string) string {
	plain := utf8.ValidString(name) && !strings.HasPrefix(name, `"`)
	for _, r := range name {
		// Controls, line separators, and marks that reorder what a person reads.
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			plain = false
			break
		}
	}
	if plain {
		return name
	}
	return strconv.QuoteToASCII(name)
}

// memberName is the reverse of factName.
func memberName(name string) string {
	if strings.HasPrefix(name, `"`) {
		if plain, err := strconv.Unquote(name); err == nil {
			return plain
		}
	}
	return name
}

// text is everything about a member, apart from its content, that must come back.
func (r *record) text(linkedAs string) string {
	var b strings.Builder
	switch r.kind {
	case tar.TypeDir:
		b.WriteString("folder")
	case tar.TypeSymlink:
		b.WriteString("symlink")
	case tar.TypeFifo:
		b.WriteString("fifo")
	case tar.TypeChar:
		fmt.Fprintf(&b, "character device %d:%d", r.major, r.minor)
	case tar.TypeBlock:
		fmt.Fprintf(&b, "block device %d:%d", r.major, r.minor)
	default:
		b.WriteString("file")
	}
	if r.kind != tar.TypeSymlink { // the mode of a link means nothing and cannot be set
		fmt.Fprintf(&b, " %04o", r.mode)
	}
	b.WriteByte(' ')
	b.WriteString(strconv.FormatUint(uint64(r.uid), 10))
	b.WriteByte(':')
	b.WriteString(strconv.FormatUint(uint64(r.gid), 10))
	b.WriteByte(' ')
	b.WriteString(ownerText(r.user))
	b.WriteByte(':')
	b.WriteString(ownerText(r.group))
	b.WriteByte(' ')
	b.WriteString(time.Unix(r.mtime.Sec, r.mtime.Nsec).UTC().Format(time.RFC3339Nano))
	if r.kind == tar.TypeSymlink {
		b.WriteString(" -> " + strconv.QuoteToASCII(r.target))
	}
	if r.xattrs != "" {
		b.WriteString(" xattrs " + r.xattrs)
	}
	b.WriteString(linkText(linkedAs))
	if r.changed {
		b.WriteString(changedMark)
	}
	return b.String()
}

func linkText(linkedAs string) string {
	if linkedAs == "" {
		return ""
	}
	return " linked as " + linkedAs
}

func ownerText(name string) string {
	if name == "" {
		return "-"
	}
	return factName(name)
}

// driverFacts is what a restore needs and no comparison does.
type driverFacts struct {
	// Links maps hard links to the member that holds their content, both as fact names.
	Links map[string]string `json:"links,omitempty"`
	// Roots are the members that were named, as fact names; backups made before they were recorded have none.
	Roots []string `json:"roots,omitempty"`
	// Parents are the folders that the roots lie in, as fact names. They are no members.
	Parents map[string]parent `json:"parents,omitempty"`
}

// groups maps every member of a set of hard links to the set's representative, its least fact name: a choice that does
// not depend on the order in which a walk meets them.
func groups(links map[string]string) map[string]string {
	least := map[string]string{}
	for name, holder := range links {
		if current, found := least[holder]; !found {
			least[holder] = min(name, holder)
		} else {
			least[holder] = min(name, current)
		}
	}
	group := make(map[string]string, len(links)+len(least))
	for name, holder := range links {
		group[name] = least[holder]
		group[holder] = least[holder]
	}
	return group
}

// makeFacts turns records into facts.
func makeFacts(records []record, taken time.Time) (source.Facts, error) {
	facts := source.Facts{
		Kind:       holdfast.KindFiles,
		Taken:      taken.UTC(),
		Properties: map[string]string{},
		Facts:      make([]source.Fact, 0, len(records)),
	}
	driver := driverFacts{Links: map[string]string{}}
	for i := range records {
		if r := &records[i]; r.first != "" {
			driver.Links[factName(r.name)] = factName(r.first)
		}
	}
	group := groups(driver.Links)
	var files, folders, total int64
	for i := range records {
		r := &records[i]
		name := factName(r.name)
		fact := source.Fact{Class: class, Name: name, Rule: source.Exact, Text: r.text(group[name])}
		switch r.kind {
		case tar.TypeReg:
			fact.Bytes, fact.Digest = r.size, r.digest
			files++
			if r.first == "" {
				total += r.size
			}
		case tar.TypeDir:
			folders++
		}
		facts.Facts = append(facts.Facts, fact)
	}
	facts.Properties["files"] = strconv.FormatInt(files, 10)
	facts.Properties["folders"] = strconv.FormatInt(folders, 10)
	facts.Properties["entries"] = strconv.Itoa(len(records))
	facts.Properties["bytes"] = strconv.FormatInt(total, 10)
	encoded, err := json.Marshal(driver)
	if err != nil {
		return facts, fmt.Errorf("encode links: %w", err)
	}
	facts.Driver = encoded
	return facts, nil
}

func hexDigest(sum []byte) string { return hex.EncodeToString(sum) }
