package files

import (
	"archive/tar"
	"errors"
	"path"
	"strconv"
	"strings"
)

// The headers are written here rather than by archive/tar because its Writer cannot write sparse files. The format is
// POSIX.1-2001 pax with the SCHILY.xattr and GNU.sparse 1.0 keywords, as GNU tar writes it with --format=pax --xattrs
// --sparse. Names without need for a pax record stand in the ustar header as raw bytes.

const (
	blockSize = 512
	// maxRecords is what readers accept of extended header records for one member; archive/tar stops at 1 MiB.
	maxRecords = 1<<20 - 1024
	maxOctal7  = 1<<21 - 1
	maxOctal11 = 1<<33 - 1
)

var errLargeXattrs = errors.New("names and extended attributes exceed 1 MiB")

// segment is a part of a sparse file that holds data.
type segment struct{ offset, length int64 }

// header is one member as the stream tells it.
type header struct {
	*record
	link     string    // the member a hard link points to; then there is no content
	size     int64     // bytes of content in the stream
	xattrs   []xattr   // of this member
	segments []segment // not nil: the content is the map of these, then their data
}

// sparseMap encodes the map that stands before a sparse file's data, in whole blocks.
func sparseMap(segments []segment) []byte {
	out := strconv.AppendInt(nil, int64(len(segments)), 10)
	out = append(out, '\n')
	for _, s := range segments {
		out = append(strconv.AppendInt(out, s.offset, 10), '\n')
		out = append(strconv.AppendInt(out, s.length, 10), '\n')
	}
	return append(out, make([]byte, padding(int64(len(out))))...)
}

// padding is the number of bytes that fill up the last block.
func padding(size int64) int64 { return -size & (blockSize - 1) }

// appendTo appends the blocks that stand before the content.
func (h *header) appendTo(out []byte) ([]byte, error) {
	name, kind := h.name, h.kind
	if kind == tar.TypeDir {
		name += "/"
	}
	target := h.target
	if h.link != "" {
		kind, target = tar.TypeLink, h.link
	}
	var records []byte
	if h.segments != nil {
		records = appendRecord(records, "GNU.sparse.major", "1")
		records = appendRecord(records, "GNU.sparse.minor", "0")
		records = appendRecord(records, "GNU.sparse.name", name)
		records = appendRecord(records, "GNU.sparse.realsize", strconv.FormatInt(h.record.size, 10))
		name = path.Join(path.Dir(name), "GNUSparseFile.0", path.Base(name))
	}
	prefix, rest, fits := splitName(name)
	if !fits {
		if h.segments == nil {
			records = appendRecord(records, "path", name)
		}
		prefix, rest = "", cut(name, 100)
	}
	if len(target) > 100 {
		records = appendRecord(records, "linkpath", target)
	}
	if h.uid > maxOctal7 {
		records = appendRecord(records, "uid", strconv.FormatUint(uint64(h.uid), 10))
	}
	if h.gid > maxOctal7 {
		records = appendRecord(records, "gid", strconv.FormatUint(uint64(h.gid), 10))
	}
	if len(h.user) > 31 {
		records = appendRecord(records, "uname", h.user)
	}
	if len(h.group) > 31 {
		records = appendRecord(records, "gname", h.group)
	}
	if h.size > maxOctal11 {
		records = appendRecord(records, "size", strconv.FormatInt(h.size, 10))
	}
	if h.mtime.Nsec != 0 || h.mtime.Sec < 0 || h.mtime.Sec > maxOctal11 {
		records = appendRecord(records, "mtime", timeText(h.mtime.Sec, h.mtime.Nsec))
	}
	if h.link == "" {
		for _, x := range h.xattrs {
			records = appendRecord(records, xattrPrefix+encodeXattrName(x.name), x.value)
			// tar --acls takes access control lists from text alone.
			if key := aclKeyword(x.name); key != "" {
				if text, ok := aclText(x.value); ok {
					records = appendRecord(records, key, text)
				}
			}
		}
	}
	if len(records) > maxRecords {
		return out, errLargeXattrs
	}
	if len(records) > 0 {
		extended := header{record: &record{mode: 0o644}, size: int64(len(records))}
		title := cut("PaxHeaders.0/"+path.Base(h.name), 100)
		out = extended.appendBlock(out, "", title, tar.TypeXHeader, "")
		out = append(out, records...)
		out = append(out, make([]byte, padding(int64(len(records))))...)
	}
	return h.appendBlock(out, prefix, rest, kind, target), nil
}

// appendBlock appends one ustar header. A field that is too large for it is stored as zero: a record corrects it.
func (h *header) appendBlock(out []byte, prefix, name string, kind byte, target string) []byte {
	start := len(out)
	out = append(out, make([]byte, blockSize)...)
	b := out[start:]
	copy(b[0:100], name)
	octal(b[100:108], int64(h.mode))
	octal(b[108:116], int64(h.uid))
	octal(b[116:124], int64(h.gid))
	octal(b[124:136], h.size)
	octal(b[136:148], h.mtime.Sec)
	b[156] = kind
	copy(b[157:257], target)
	copy(b[257:265], "ustar\x0000")
	copy(b[265:296], h.user)
	copy(b[297:328], h.group)
	octal(b[329:337], int64(h.major))
	octal(b[337:345], int64(h.minor))
	copy(b[345:500], prefix)
	copy(b[148:156], "        ")
	var sum int64
	for _, c := range b {
		sum += int64(c)
	}
	octal(b[148:155], sum)
	return out
}

// octal fills field with digits and a zero byte.
func octal(field []byte, value int64) {
	digits := len(field) - 1
	if value < 0 || value >= 1<<(3*digits) {
		value = 0
	}
	for i := digits - 1; i >= 0; i-- {
		field[i] = '0' + byte(value&7)
		value >>= 3
	}
	field[digits] = 0
}

// splitName finds the ustar fields of a name.
func splitName(name string) (prefix, rest string, fits bool) {
	if len(name) <= 100 {
		return "", name, true
	}
	if len(name) > 256 {
		return "", "", false
	}
	for i := max(0, len(name)-101); i < len(name)-1 && i <= 155; i++ {
		if i > 0 && name[i] == '/' {
			return name[:i], name[i+1:], true
		}
	}
	return "", "", false
}

func cut(text string, limit int) string { return text[:min(len(text), limit)] }

// appendRecord appends "length key=value\n", where the length counts its own digits.
func appendRecord(out []byte, key, value string) []byte {
	size := len(key) + len(value) + 3
	total := size + len(strconv.Itoa(size))
	if digits := len(strconv.Itoa(total)); size+digits != total {
		total = size + digits
	}
	out = strconv.AppendInt(out, int64(total), 10)
	out = append(out, ' ')
	out = append(out, key...)
	out = append(out, '=')
	out = append(out, value...)
	return append(out, '\n')
}

// timeText is a decimal fraction of seconds; nanoseconds count forward from a negative second.
func timeText(sec, nsec int64) string {
	if nsec == 0 {
		return strconv.FormatInt(sec, 10)
	}
	sign := ""
	if sec < 0 {
		sign, sec, nsec = "-", -(sec + 1), 1e9-nsec
	}
	fraction := strconv.FormatInt(nsec+1e9, 10)[1:]
	return sign + strconv.FormatInt(sec, 10) + "." + strings.TrimRight(fraction, "0")
}

const xattrPrefix = "SCHILY.xattr."

// encodeXattrName escapes "=", which ends a keyword, the way GNU tar does.
func encodeXattrName(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "%", "%25"), "=", "%3D")
}

func decodeXattrName(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "%3D", "="), "%25", "%")
}
