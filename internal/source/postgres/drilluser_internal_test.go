package postgres

import (
	"os/user"
	"strconv"
	"testing"
)

// What a dump holds runs as a user that owns nothing here.
func TestDrillsRunAsNobodysUser(t *testing.T) {
	for _, seed := range []int{0, 1, 4335, 4336, 4194304} {
		id := unusedID(seed)
		if id < 61184 || id > 65519 {
			t.Errorf("%d is outside of the range", id)
		}
		if account, err := user.LookupId(strconv.Itoa(id)); err == nil {
			t.Errorf("%d is the account %s", id, account.Username)
		}
	}
	if unusedID(7) == unusedID(8) {
		t.Error("two drills at once have one user")
	}
	opt := DrillOptions{Scratch: t.TempDir()}
	if err := opt.complete(); err != nil {
		t.Fatal(err)
	}
	if _, err := user.LookupId(strconv.Itoa(opt.UID)); err == nil || opt.GID != opt.UID {
		t.Errorf("a drill runs as user %d of group %d", opt.UID, opt.GID)
	}
	unboxed := DrillOptions{Scratch: t.TempDir(), Unsandboxed: true}
	if err := unboxed.complete(); err != nil {
		t.Fatal(err)
	}
	if _, err := user.LookupId(strconv.Itoa(unboxed.UID)); err != nil {
		t.Errorf("without the sandbox a drill runs as user %d, which initdb does not find", unboxed.UID)
	}
}
