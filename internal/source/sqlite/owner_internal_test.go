package sqlite

import (
	"os"
	"testing"
)

// FuzzOwner feeds the one thing of the facts that this package parses.
func FuzzOwner(f *testing.F) {
	f.Add([]byte(`{"uid":1000,"gid":1000,"user":"app","group":"app","mode":416}`))
	f.Add([]byte(`{"uid":-1,"gid":0,"mode":2147484141}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := decodeOwner(data)
		if err != nil {
			return
		}
		if o.UID < 0 || o.GID < 0 || o.Mode&^os.ModePerm != 0 {
			t.Errorf("accepted %+v", o)
		}
		encoded, err := o.encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeOwner(encoded); err != nil || again != o {
			t.Errorf("%+v became %+v: %v", o, again, err)
		}
	})
}
