package volume_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/volume"
)

// The passphrases carry a marker, which is looked for in all that is said.
const marker = "MARKER"

var (
	operational = holdfast.NewSecret(marker + " crisp otter plank sled")
	recovery    = holdfast.NewSecret(marker + " envelope in the bank")
	fresh       = holdfast.NewSecret(marker + " what comes after it")
	fresher     = holdfast.NewSecret(marker + " and after that again")
	wrong       = holdfast.NewSecret(marker + " never opened anything")
)

func today() time.Time { return time.Date(2026, 11, 29, 23, 30, 0, 0, time.UTC) }

const kdfOfTests = "--pbkdf argon2id --pbkdf-memory 1024 --pbkdf-force-iterations 4 --pbkdf-parallel 1"

func needCryptsetup(t *testing.T) {
	t.Helper()
	if _, err := volume.RunProgram(t.Context(), volume.Command{Args: []string{"cryptsetup", "--version"}}); err != nil {
		t.Skip("cryptsetup cannot be run:", err)
	}
}

// cryptsetup runs the program itself, with secrets at /dev/fd/3 and on.
func cryptsetup(t *testing.T, secrets []holdfast.Secret, input, line string) {
	t.Helper()
	needCryptsetup(t)
	out, err := volume.RunProgram(t.Context(), volume.Command{Args: append([]string{"cryptsetup"}, strings.Fields(line)...), Secrets: secrets, Input: []byte(input)})
	if err != nil || out.Code != 0 {
		t.Fatalf("cryptsetup %s: %d, %v: %s%s", line, out.Code, err, out.Stdout, out.Stderr)
	}
}

// headerSize is where the data of the tests' volumes begins.
const headerSize = 4160 * 512

// formatted is a file with a LUKS2 header and one key, as it is right after the format.
func formatted(t *testing.T) string {
	t.Helper()
	path := filepath.Join(memoryDir(t), "pg-data.luks")
	write(t, path, "")
	if err := os.Truncate(path, headerSize+256<<10); err != nil {
		t.Fatal(err)
	}
	cryptsetup(t, []holdfast.Secret{operational}, "", "luksFormat --batch-mode --type luks2 --cipher aes-xts-plain64 --key-size 512 --label pg-data --subsystem holdfast"+
		" --luks2-keyslots-size 2M --offset 4160 --sector-size 4096 --key-slot 0 --key-file /dev/fd/3 "+kdfOfTests+" "+path)
	return path
}

// memoryDir is a folder for a test where cryptsetup need not wait for a disk.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "volume")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// made is a file with both keys.
func made(t *testing.T) string {
	t.Helper()
	path := formatted(t)
	cryptsetup(t, []holdfast.Secret{operational, recovery}, "", "luksAddKey --batch-mode --key-slot 1 --key-file /dev/fd/3 "+kdfOfTests+" "+path+" /dev/fd/4")
	for i, role := range volume.Roles() {
		token(t, path, i, fmt.Sprintf(`{"type":"holdfast","keyslots":["%d"],"role":%q,"created":"2026-01-0%d"}`, i, role, i+1))
	}
	return path
}

func token(t *testing.T, path string, number int, text string) {
	t.Helper()
	cryptsetup(t, nil, text, fmt.Sprintf("token import --json-file - --token-id %d %s", number, path))
}

func duplicate(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	another := filepath.Join(memoryDir(t), filepath.Base(path))
	write(t, another, string(text))
	return another
}

func overwrite(t *testing.T, path string, at int64, with []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(with, at)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// sane fails the test if an error says too little, or too much.
func sane(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error()
	if strings.Contains(text+holdfast.Hint(err), marker) {
		t.Errorf("a passphrase in %q, %q", text, holdfast.Hint(err))
	}
	if holdfast.Hint(err) == "" || strings.Contains(text, "\n") {
		t.Errorf("no sentence with a hint: %q, %q", text, holdfast.Hint(err))
	}
}

func TestHeader(t *testing.T) {
	path := made(t)
	host := volume.Host{Now: today}
	header, err := host.Header(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if len(header.UUID) != 36 || header.Label != "pg-data" || header.Subsystem != "holdfast" || header.Cipher != "aes-xts-plain64" || header.KeyBits != 512 ||
		header.Offset != headerSize || header.Creating || header.Reencrypting {
		t.Errorf("got %+v", header)
	}
	slot := volume.Slot{KDF: "argon2id", MemoryKiB: 1024, Time: 4, CPUs: 1}
	first, second := slot, slot
	first.Role, first.Created = volume.Operational, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	second.Number, second.Role, second.Created = 1, volume.Recovery, time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	if !slices.Equal(header.Slots, []volume.Slot{first, second}) {
		t.Errorf("slots %+v", header.Slots)
	}
	if got, found := header.Slot(volume.Recovery); !found || got != second {
		t.Errorf("recovery is %+v, %t", got, found)
	}

	token(t, path, 31, `{"type":"holdfast","keyslots":[],"state":"creating"}`)
	token(t, path, 7, `{"type":"luks2-keyring","keyslots":["1"],"key_description":"another's"}`)
	if header, err = host.Header(t.Context(), path); err != nil || !header.Creating || header.Slots[1].Role != volume.Recovery {
		t.Errorf("a volume that is being made: %+v, %v", header, err)
	}
}

// What is not ours has slots without roles, and what does not open the volume is no slot.
func TestHeaderOfOthers(t *testing.T) {
	path := formatted(t)
	cryptsetup(t, nil, "", "config --label= --subsystem= "+path)
	cryptsetup(t, []holdfast.Secret{operational, recovery}, "", "luksAddKey --batch-mode --unbound --key-size 256 --key-slot 3 "+kdfOfTests+" "+path+" /dev/fd/4")
	header, err := volume.Host{}.Header(t.Context(), path)
	if err != nil || header.Label != "" || header.Subsystem != "" || header.KeyBits != 512 || len(header.Slots) != 1 || header.Slots[0].Role != "" || !header.Slots[0].Created.IsZero() {
		t.Errorf("got %+v, %v", header, err)
	}
	if _, found := header.Slot(volume.Operational); found {
		t.Error("it has an operational key")
	}
}

func TestNoHeader(t *testing.T) {
	whole := made(t)
	with := func(name string, do func(path string)) string {
		path := filepath.Join(t.TempDir(), name)
		write(t, path, "")
		do(path)
		return path
	}
	size := func(bytes int64) func(string) {
		return func(path string) {
			if err := os.Truncate(path, bytes); err != nil {
				t.Fatal(err)
			}
		}
	}
	damaged := duplicate(t, whole)
	overwrite(t, damaged, 5000, []byte("X"))
	overwrite(t, damaged, 16384+5000, []byte("X"))
	for _, test := range []struct {
		name, path string
		is         error
		says       string
	}{
		{"an empty file", with("empty", size(0)), volume.ErrNotVolume, "not a LUKS2 volume"},
		{"zeroes", with("zeroes", size(8<<20)), volume.ErrNotVolume, "not a LUKS2 volume"},
		{"text", with("text", func(path string) { write(t, path, strings.Repeat("LUKS\xba\xbe\x00\x02 and more", 4000)) }), volume.ErrNotVolume, "not a LUKS2 volume"},
		{"both headers damaged", damaged, volume.ErrNotVolume, "not a LUKS2 volume"},
		{"LUKS 1", with("old", func(path string) {
			size(8 << 20)(path)
			cryptsetup(t, []holdfast.Secret{operational}, "", "luksFormat --batch-mode --type luks1 --pbkdf-force-iterations 1000 --key-file /dev/fd/3 "+path)
		}), volume.ErrNotVolume, "LUKS version 1"},
		{"missing", whole + ".none", fs.ErrNotExist, "no such file"},
		{"a folder", filepath.Dir(whole), nil, "not compatible"},
		{"no absolute path", "pg-data.luks", holdfast.ErrUsage, "not absolute"},
		{"an option", "--help", holdfast.ErrUsage, "not absolute"},
	} {
		t.Run(test.name, func(t *testing.T) {
			header, err := volume.Host{}.Header(t.Context(), test.path)
			if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) || header.UUID != "" {
				t.Errorf("got %+v, %v; want %q", header, err, test.says)
			}
			if errors.Is(err, volume.ErrNotVolume) && test.is != volume.ErrNotVolume {
				t.Errorf("%v: is said to be no volume", err)
			}
			sane(t, err)
		})
	}
}

// A header whose first copy is damaged is read from the second, and cryptsetup repairs the first.
func TestHeaderRepaired(t *testing.T) {
	path := made(t)
	want, err := volume.Host{}.Header(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		at   int64
		with []byte
	}{
		{"the first is gone", 0, make([]byte, 4096)},
		{"the first's metadata", 5000, []byte("X")},
		{"the second is gone", 16384, make([]byte, 4096)},
	} {
		t.Run(test.name, func(t *testing.T) {
			damaged := duplicate(t, path)
			overwrite(t, damaged, test.at, test.with)
			got, err := volume.Host{}.Header(t.Context(), damaged)
			if err != nil || got.UUID != want.UUID || !slices.Equal(got.Slots, want.Slots) {
				t.Errorf("got %+v, %v", got, err)
			}
			if slot, err := (volume.Host{}).Open(t.Context(), damaged, recovery); err != nil || slot != 1 {
				t.Errorf("the recovery key opens %d, %v", slot, err)
			}
			text, err := os.ReadFile(damaged)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(text[test.at:test.at+int64(len(test.with))], test.with) {
				t.Error("it was not repaired")
			}
		})
	}
}

func TestOpen(t *testing.T) {
	path := made(t)
	host := volume.Host{}
	for want, pass := range []holdfast.Secret{operational, recovery} {
		if slot, err := host.Open(t.Context(), path, pass); err != nil || slot != want {
			t.Errorf("got %d, %v; want slot %d", slot, err, want)
		}
	}
	for name, pass := range map[string]holdfast.Secret{"wrong": wrong, "empty": {}, "with a line break": holdfast.NewSecret(operational.Reveal() + "\n")} {
		_, err := host.Open(t.Context(), path, pass)
		if !errors.Is(err, volume.ErrPassphrase) {
			t.Errorf("%s: %v", name, err)
		}
		sane(t, err)
	}
	if _, err := host.Open(t.Context(), path, holdfast.NewSecret(marker+strings.Repeat("x", 40<<10))); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("a passphrase that fits into no pipe: %v", err)
	} else {
		sane(t, err)
	}
	// A keyboard gives the same bytes, and a line break that is none of the passphrase's.
	cryptsetup(t, nil, operational.Reveal()+"\n", "luksOpen --test-passphrase "+path)
}

func TestOpenAnswers(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer volume.Runner
		is     error
		says   string
	}{
		{name: "no slot is said", answer: says("Command successful.\n", 0), says: "did not say which slot"},
		{name: "a slot that cannot be", answer: says("Key slot 99 unlocked.\n", 0), says: "did not say which slot"},
		{name: "no such program", answer: func(ctx context.Context, c volume.Command) (volume.Output, error) {
			c.Args = append([]string{"no-such-program"}, c.Args[1:]...)
			return volume.RunProgram(ctx, c)
		}, says: "no-such-program is not installed"},
		{name: "busy", answer: says("", 5), says: "exit status 5"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := volume.Host{Run: newFake(t).on("cryptsetup luksOpen", test.answer).run}.Open(t.Context(), "/dev/none", operational)
			if err == nil || !strings.Contains(err.Error(), test.says) || errors.Is(err, volume.ErrPassphrase) {
				t.Errorf("got %v", err)
			}
			sane(t, err)
		})
	}
}

const (
	dumpText = "LUKS header information\nVersion:       \t2\nUUID:          \t94a9f6f5-a234-40c6-a30d-e4c4f1d1c09a\nLabel:         \tpg-data\nSubsystem:     \tholdfast\n"
	dumpSlot = `"type":"luks2","key_size":64,"kdf":{"type":"argon2id","time":4,"memory":32768,"cpus":2}`
)

// dumpJSON is metadata with a slot 0 and these tokens.
func dumpJSON(tokens string) string {
	return `{"keyslots":{"0":{` + dumpSlot + `},"1":{` + dumpSlot + `}},"tokens":{` + tokens + `},"segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic","encryption":"aes-xts-plain64","sector_size":512}},` +
		`"digests":{"0":{"keyslots":["0","1"],"segments":["0"]}},"config":{}}`
}

func TestParseHeader(t *testing.T) {
	good := dumpJSON("")
	replaced := func(old, with string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%s is not there", old)
		}
		return strings.Replace(good, old, with, 1)
	}
	for _, test := range []struct{ name, json, text, err string }{
		{name: "good", json: good, text: dumpText},
		{name: "nothing", text: dumpText, err: "its metadata"},
		{name: "no JSON", json: "LUKS", text: dumpText, err: "its metadata"},
		{name: "another version", json: good, text: strings.Replace(dumpText, "\t2", "\t1", 1), err: `of version "1"`},
		{name: "no text", json: good, err: `of version ""`},
		{name: "no UUID", json: good, text: "Version: 2\n", err: "no UUID"},
		{name: "slot -1", json: replaced(`"0":{"type":"luks2"`, `"-1":{"type":"luks2"`), text: dumpText, err: `key slot "-1"`},
		{name: "slot 00", json: replaced(`"0":{"type":"luks2"`, `"00":{"type":"luks2"`), text: dumpText, err: `key slot "00"`},
		{name: "slot 32", json: replaced(`"0":{"type":"luks2"`, `"32":{"type":"luks2"`), text: dumpText, err: `key slot "32"`},
		{name: "token x", json: dumpJSON(`"x":{"type":"holdfast"}`), text: dumpText, err: `token "x"`},
		{name: "token of another shape", json: dumpJSON(`"3":{"type":"holdfast","keyslots":3}`), text: dumpText, err: "token 3"},
		{name: "another's token of another shape", json: dumpJSON(`"3":{"type":"theirs","role":3}`), text: dumpText},
		{name: "no segment", json: replaced(`"type":"crypt"`, `"type":"linear"`), text: dumpText, err: "no encrypted segment"},
		{name: "an offset that is none", json: replaced(`"16777216"`, `"-5"`), text: dumpText, err: `segment 0 begins at "-5"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			header, err := volume.ParseHeader([]byte(test.json), []byte(test.text))
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %+v, %v; want %q", header, err, test.err)
			}
		})
	}
}

func TestParseTokens(t *testing.T) {
	for _, test := range []struct {
		name, tokens string
		roles        [2]volume.Role
		day          string
		creating     bool
	}{
		{name: "none"},
		{name: "both", tokens: `"0":{"type":"holdfast","keyslots":["0"],"role":"operational","created":"2026-11-29"},"1":{"type":"holdfast","keyslots":["1"],"role":"recovery"}`,
			roles: [2]volume.Role{volume.Operational, volume.Recovery}, day: "2026-11-29"},
		{name: "numbers are not the slots'", tokens: `"5":{"type":"holdfast","keyslots":["0"],"role":"recovery","created":"x"},"0":{"type":"holdfast","keyslots":["1"],"role":"operational"}`,
			roles: [2]volume.Role{volume.Recovery, volume.Operational}},
		{name: "another's type", tokens: `"0":{"type":"systemd-tpm2","keyslots":["0"],"role":"operational"}`},
		{name: "a role that is none", tokens: `"0":{"type":"holdfast","keyslots":["0"],"role":"owner"}`},
		{name: "left behind", tokens: `"0":{"type":"holdfast","keyslots":[],"role":"operational"}`},
		{name: "creating", tokens: `"31":{"type":"holdfast","keyslots":[],"state":"creating"}`, creating: true},
		{name: "creating, another's", tokens: `"31":{"type":"theirs","keyslots":[],"state":"creating"}`},
		{name: "being added", tokens: `"30":{"type":"holdfast","keyslots":[],"state":"changing","slot":1,"role":"recovery","created":"2026-11-29"}`, roles: [2]volume.Role{"", volume.Recovery}},
		{name: "being added, nonsense", tokens: `"30":{"type":"holdfast","keyslots":[],"state":"changing","slot":-1,"role":"recovery"}`},
		{name: "being replaced, nonsense", tokens: `"30":{"type":"holdfast","keyslots":[],"state":"changing","slot":1,"replaces":77,"role":"recovery"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			header, err := volume.ParseHeader([]byte(dumpJSON(test.tokens)), []byte(dumpText))
			if err != nil {
				t.Fatal(err)
			}
			if got := [2]volume.Role{header.Slots[0].Role, header.Slots[1].Role}; got != test.roles || header.Creating != test.creating {
				t.Errorf("got %q, %t", got, header.Creating)
			}
			day := ""
			if created := header.Slots[0].Created; !created.IsZero() {
				day = created.Format(time.DateOnly)
			}
			if day != test.day {
				t.Errorf("made on %q, want %q", day, test.day)
			}
		})
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte(dumpJSON(`"30":{"type":"holdfast","keyslots":[],"state":"changing","slot":1,"replaces":0}`)), []byte(dumpText))
	f.Add([]byte(dumpJSON(`"0":{"type":"holdfast","keyslots":["0","3"],"role":"recovery","created":"2026-01-01"}`)), []byte("Version: 2\nUUID: x\nLabel: (no label)\n"))
	f.Add([]byte(`{"segments":{"0":{"type":"crypt","offset":"1","flags":["backup-final"]},"1":{"type":"crypt","offset":"7"}}}`), []byte(dumpText))
	f.Fuzz(func(t *testing.T, json, text []byte) {
		header, err := volume.ParseHeader(json, text)
		if err != nil {
			return
		}
		if header.UUID == "" || header.Offset < 0 {
			t.Errorf("got %+v", header)
		}
		for i, slot := range header.Slots {
			if slot.Number < 0 || slot.Number > 31 || i > 0 && header.Slots[i-1].Number >= slot.Number {
				t.Errorf("slots %+v", header.Slots)
			}
			if _, err := volume.ParseRole(string(slot.Role)); slot.Role != "" && err != nil {
				t.Errorf("slot %+v", slot)
			}
		}
	})
}
