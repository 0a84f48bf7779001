package volume_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"holdfast/internal/volume"
)

// sealedPair stands for an opened device and the raw one below: raw has the bytes of the other, changed, behind a header.
type sealedPair struct {
	t                  *testing.T
	file, mapper, raw  string
	at, offset, length int64
	seal               func(plain []byte) []byte
}

func newPair(t *testing.T) *sealedPair {
	dir := t.TempDir()
	p := &sealedPair{t: t, file: dir + "/canary", mapper: dir + "/mapper", raw: dir + "/raw", at: 1 << 20, offset: 16 << 10, length: 1 << 20, seal: func(plain []byte) []byte {
		sealed := make([]byte, len(plain))
		for i, b := range plain {
			sealed[i] = b ^ byte(i*7+1)
		}
		return sealed
	}}
	for path, size := range map[string]int64{p.mapper: 2 << 20, p.raw: 2<<20 + p.offset} {
		write(t, path, "")
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *sealedPair) put(path string, data []byte, at int64) {
	p.t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(data, at)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *sealedPair) written() (int64, int64, error) {
	plain, err := os.ReadFile(p.file)
	if err != nil {
		p.t.Fatal(err)
	}
	p.put(p.mapper, plain, p.at)
	p.put(p.raw, p.seal(plain), p.offset+p.at)
	return p.at, p.length, nil
}

func TestCanary(t *testing.T) {
	tests := []struct {
		name   string
		change func(p *sealedPair) func() (int64, int64, error)
		full   bool
		want   string // "": it is good
		fix    string
	}{
		{name: "sealed"},
		{name: "sealed, all of it", full: true},
		{name: "in one small piece", change: func(p *sealedPair) func() (int64, int64, error) { p.length = 8 << 10; return p.written }},
		{name: "not sealed", change: func(p *sealedPair) func() (int64, int64, error) {
			p.seal = func(plain []byte) []byte { return plain }
			return p.written
		}, want: "in clear on the raw device, at 1064960", fix: "NOT sealed"},
		{name: "one sector in clear", change: func(p *sealedPair) func() (int64, int64, error) {
			seal := p.seal
			p.seal = func(plain []byte) []byte { sealed := seal(plain); copy(sealed[100<<10:], plain[:512]); return sealed }
			return p.written
		}, want: "in clear on the raw device", fix: "NOT sealed"},
		{name: "in clear elsewhere, which a look at the place does not see", change: func(p *sealedPair) func() (int64, int64, error) {
			return func() (int64, int64, error) {
				plain, _ := os.ReadFile(p.file)
				p.put(p.raw, plain[:32], 777)
				return p.written()
			}
		}},
		{name: "in clear elsewhere, and all is read", full: true, change: func(p *sealedPair) func() (int64, int64, error) {
			return func() (int64, int64, error) {
				plain, _ := os.ReadFile(p.file)
				p.put(p.raw, plain[:32], 1<<20-5) // across two pieces of what is read
				return p.written()
			}
		}, want: "in clear on the raw device, at 1048571", fix: "NOT sealed"},
		{name: "in clear at the very end", full: true, change: func(p *sealedPair) func() (int64, int64, error) {
			return func() (int64, int64, error) {
				plain, _ := os.ReadFile(p.file)
				p.put(p.raw, plain[:32], 2<<20+p.offset-32)
				return p.written()
			}
		}, want: "in clear on the raw device", fix: "NOT sealed"},
		{name: "the wrong place on the mapper", change: func(p *sealedPair) func() (int64, int64, error) {
			return func() (int64, int64, error) {
				at, length, err := p.written()
				return at - 4096, length, err
			}
		}, want: "does not have the marker", fix: "nothing is proven"},
		{name: "the wrong place on the raw device", change: func(p *sealedPair) func() (int64, int64, error) {
			p.offset = 0
			return func() (int64, int64, error) {
				plain, _ := os.ReadFile(p.file)
				p.put(p.mapper, plain, p.at)
				return p.at, p.length, nil
			}
		}, want: "did not change", fix: "nothing is proven"},
		{name: "scattered", change: func(p *sealedPair) func() (int64, int64, error) { p.length = 512; return p.written }, want: "too small", fix: "nothing is proven"},
		{name: "no place", change: func(*sealedPair) func() (int64, int64, error) {
			return func() (int64, int64, error) { return 0, 0, errors.New("inline") }
		}, want: "inline", fix: "nothing is proven"},
		{name: "past the end", change: func(p *sealedPair) func() (int64, int64, error) {
			return func() (int64, int64, error) { return 3 << 20, 1 << 20, nil }
		}, want: "EOF", fix: "nothing is proven"},
		{name: "no raw device", change: func(p *sealedPair) func() (int64, int64, error) { p.raw += "-gone"; return p.writtenMapper }, want: "no such file", fix: "nothing is proven"},
		{name: "no folder", change: func(p *sealedPair) func() (int64, int64, error) { p.file += "/below"; return p.written }, want: "no such file", fix: "nothing is proven"},
		{name: "a file of that name", change: func(p *sealedPair) func() (int64, int64, error) { write(p.t, p.file, "precious"); return p.written }, want: "exists", fix: "nothing is proven"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t)
			written := p.written
			if test.change != nil {
				written = test.change(p)
			}
			check := volume.Canary(t.Context(), p.file, p.mapper, p.raw, p.offset, test.full, written)
			if check.Good != (test.want == "") || !strings.Contains(check.Text, test.want) || !strings.Contains(check.Fix, test.fix) {
				t.Errorf("%+v, want %q", check, test.want)
			}
			text, err := os.ReadFile(p.file)
			if test.name == "a file of that name" {
				if string(text) != "precious" {
					t.Errorf("it is now %q", text)
				}
			} else if err == nil {
				t.Error("the canary is still there")
			}
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		p := newPair(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if check := volume.Canary(ctx, p.file, p.mapper, p.raw, p.offset, true, p.written); check.Good {
			t.Errorf("%+v", check)
		}
	})
}

func (p *sealedPair) writtenMapper() (int64, int64, error) {
	plain, err := os.ReadFile(p.file)
	p.put(p.mapper, plain, p.at)
	return p.at, p.length, err
}

func TestHeaderChecks(t *testing.T) {
	v := volume.Volume{Name: "pg-data", Device: "/x"}
	good := func() volume.Header {
		return volume.Header{UUID: "u", Label: "pg-data", Subsystem: "holdfast", Cipher: "aes-xts-plain64", KeyBits: 512, Slots: []volume.Slot{
			{Number: 0, Role: volume.Operational, KDF: "argon2id"}, {Number: 1, Role: volume.Recovery, KDF: "argon2id"},
		}}
	}
	for _, test := range []struct {
		name   string
		change func(h *volume.Header)
		fails  string
		warns  bool
	}{
		{name: "good", change: func(*volume.Header) {}},
		{name: "never finished", change: func(h *volume.Header) { h.Creating = true }, fails: "LUKS2"},
		{name: "never finished, by its label", change: func(h *volume.Header) { h.Label = "pg-data.creating" }, fails: "LUKS2"},
		{name: "half re-encrypted", change: func(h *volume.Header) { h.Reencrypting = true }, fails: "LUKS2"},
		{name: "another's", change: func(h *volume.Header) { h.Subsystem = "" }, fails: "LUKS2"},
		{name: "another name", change: func(h *volume.Header) { h.Label = "pg-date" }, fails: "LUKS2"},
		{name: "cbc", change: func(h *volume.Header) { h.Cipher = "aes-cbc-essiv:sha256" }, fails: "cipher"},
		{name: "AES-128", change: func(h *volume.Header) { h.KeyBits = 256 }, fails: "key"},
		{name: "pbkdf2", change: func(h *volume.Header) { h.Slots[1].KDF = "pbkdf2" }, fails: "KDF"},
		{name: "argon2i", change: func(h *volume.Header) { h.Slots[0].KDF = "argon2i" }, fails: "KDF"},
		{name: "one slot", change: func(h *volume.Header) { h.Slots = h.Slots[:1] }, fails: "slots"},
		{name: "two of one role", change: func(h *volume.Header) { h.Slots[1].Role = volume.Operational }, fails: "slots"},
		{name: "a stranger's slot", change: func(h *volume.Header) { h.Slots = append(h.Slots, volume.Slot{Number: 2, KDF: "argon2id"}) }, fails: "slots", warns: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := good()
			test.change(&h)
			for _, check := range volume.HeaderChecks(v, h) {
				if check.Good != (check.Name != test.fails) || check.Warns != (test.warns && check.Name == test.fails) || check.Text == "" || check.Good != (check.Fix == "") {
					t.Errorf("%+v", check)
				}
			}
		})
	}
}
