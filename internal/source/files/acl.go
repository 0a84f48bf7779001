package files

import (
	"encoding/binary"
	"strconv"
	"strings"
)

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

func aclKeyword(attribute string) string {
	switch attribute {
	case aclAccess:
		return "SCHILY.acl.access"
	case aclDefault:
		return "SCHILY.acl.default"
	}
	return ""
}

// aclText turns the kernel's form of an access control list (linux/posix_acl_xattr.h) into that of acl(5), with
// numbers for users and groups. It returns false for a form it does not know.
func aclText(value string) (string, bool) {
	const version, entry = 4, 8
	data := []byte(value)
	if len(data) < version || (len(data)-version)%entry != 0 || binary.LittleEndian.Uint32(data) != 2 {
		return "", false
	}
	var out []string
	for data = data[version:]; len(data) > 0; data = data[entry:] {
		permissions := binary.LittleEndian.Uint16(data[2:])
		id := strconv.FormatUint(uint64(binary.LittleEndian.Uint32(data[4:])), 10)
		var who string
		switch binary.LittleEndian.Uint16(data) {
		case 0x01:
			who = "user::"
		case 0x02:
			who = "user:" + id + ":"
		case 0x04:
			who = "group::"
		case 0x08:
			who = "group:" + id + ":"
		case 0x10:
			who = "mask::"
		case 0x20:
			who = "other::"
		default:
			return "", false
		}
		letters := []byte("rwx")
		for i := range letters {
			if permissions>>(2-i)&1 == 0 {
				letters[i] = '-'
			}
		}
		out = append(out, who+string(letters))
	}
	return strings.Join(out, ","), true
}
