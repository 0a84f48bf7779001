package archive_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"holdfast/internal/store/storetest"
)

// A fault at any call of the store leaves a whole backup or none, and never touches an older one.
func TestFaultAtEveryCall(t *testing.T) {
	base := newKit(t)
	older := base.mustBackup(t, 0)
	before := objects(base.memory)

	counting := base.on(base.memory.Clone())
	counting.memory.Restore()
	counting.mustBackup(t, 1)
	calls := counting.memory.Calls()
	if calls < 30 {
		t.Fatalf("a backup makes %d calls, which is too few to be true", calls)
	}

	for _, fault := range []struct {
		name string
		plan func(*storetest.Memory, int)
	}{
		{"fail", (*storetest.Memory).FailAt},
		{"fail but persist", (*storetest.Memory).FailPersistedAt},
		{"cut", (*storetest.Memory).CutAt},
	} {
		for n := 1; n <= calls; n++ {
			t.Run(fmt.Sprintf("%s at call %d", fault.name, n), func(t *testing.T) {
				k := base.on(base.memory.Clone())
				fault.plan(k.memory, n)
				entry, backupErr := k.backup(t, k.archive(), 1)

				after := k.on(k.memory.Clone())
				a := after.archive()
				entries := mustList(t, a)
				if entries[0].ID != older.ID {
					t.Fatalf("the older backup is not listed: %v", entries)
				}
				mustHold(t, a, older)
				for name, data := range before {
					if now, _ := after.memory.Bytes(name); string(now) != data {
						t.Errorf("object %s of the older backup was changed", name)
					}
				}
				exists := len(entries) == 2
				if backupErr == nil && !exists {
					t.Fatal("the backup succeeded and does not exist")
				}
				if exists {
					mustHold(t, a, entries[1])
				}

				// What the next run does about an interrupted one.
				whole := objects(after.memory)
				removed, err := a.Clean(t.Context(), entry)
				if err != nil {
					t.Fatal(err)
				}
				if exists {
					if removed != 0 || !maps.Equal(objects(after.memory), whole) {
						t.Errorf("cleaning removed %d objects of a backup that exists", removed)
					}
					return
				}
				if left := objects(after.memory); !maps.Equal(left, before) {
					t.Errorf("after cleaning the store holds %d objects, and %d before the backup", len(left), len(before))
				}
				if removed != len(whole)-len(before) {
					t.Errorf("cleaning says it removed %d objects, and %d are gone", removed, len(whole)-len(before))
				}
			})
		}
	}
}

// An aborted backup leaves nothing, as long as the store obeys.
func TestFailureLeavesNothing(t *testing.T) {
	base := newKit(t)
	base.mustBackup(t, 0)
	before := base.memory.Names()
	counting := base.on(base.memory.Clone())
	counting.memory.Restore()
	counting.mustBackup(t, 1)
	for n := 1; n <= counting.memory.Calls(); n++ {
		k := base.on(base.memory.Clone())
		k.memory.FailAt(n)
		if _, err := k.backup(t, k.archive(), 1); err == nil {
			continue
		}
		if names := k.memory.Names(); len(names) != len(before) {
			t.Errorf("a fault at call %d left:\n%s", n, strings.Join(names, "\n"))
		}
	}
}
