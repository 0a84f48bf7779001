package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestVolumeKeyAtATerminal: a new key is made of words that are shown once on the terminal, before it is in force, and stand in no log, no
// record and no file; and they are what then opens the volume.
func TestVolumeKeyAtATerminal(t *testing.T) {
	t.Parallel()
	w := newWorkplace(t)
	w.write(t, "data/a.txt", "one")
	config := w.path("holdfast.yaml")
	w.good(t, "init", "--yes", "--config", config, "--source", "files:"+w.path("data"), "--store", w.path("store"), "--identity-out", w.path("kit/identity.txt"))
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "holdfast.yaml", string(text)+fmt.Sprintf("\nlog: {file: %s}\nvolumes:\n  v: {device: %s, mount: %s, owner: 999, job: app}\n", w.path("log"), w.path("vol"), w.path("mnt")))
	const day, envelope = "calamity capitol getting violet cruelly creature sister swinging", "lividly backpedal buckshot poncho evolution flight tinsmith anvil"
	for name, secret := range map[string]string{"day": day, "envelope": envelope} {
		if err := os.WriteFile(w.path(name), []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cryptsetup := func(args ...string) {
		t.Helper()
		if output, err := exec.Command("cryptsetup", args...).CombinedOutput(); err != nil {
			t.Fatalf("cryptsetup %q: %v\n%s", args, err, output)
		}
	}
	kdf := []string{"--pbkdf", "argon2id", "--pbkdf-memory", "1024", "--pbkdf-force-iterations", "4"}
	if err := os.WriteFile(w.path("vol"), make([]byte, 32<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	cryptsetup(append([]string{"luksFormat", "--batch-mode", "--type", "luks2", "--key-size", "512", "--label", "v", "--subsystem", "holdfast", "--key-slot", "0", "--key-file", w.path("day"), w.path("vol")}, kdf...)...)
	cryptsetup(append([]string{"luksAddKey", "--batch-mode", "--key-slot", "1", "--key-file", w.path("day"), w.path("vol"), w.path("envelope")}, kdf...)...)
	for slot, role := range []string{"operational", "recovery"} {
		token := w.write(t, role+".json", fmt.Sprintf(`{"type":"holdfast","keyslots":["%d"],"role":"%s","created":"2026-01-02"}`, slot, role))
		cryptsetup("token", "import", "--json-file", token, "--token-id", fmt.Sprint(slot), w.path("vol"))
	}

	rotate := w.onTerminal(t, "volume", "key", "rotate", "--config", config)
	rotate.answer("operational passphrase that is replaced, of volume v: ", day)
	rotate.answer("passphrase of the other role, of volume v: ", envelope)
	said := rotate.end(0)
	shown := regexp.MustCompile(`(?m)^  operational +([a-z]+(?: [a-z]+){7})\r?$`).FindStringSubmatch(said)
	if shown == nil || !strings.Contains(said, "the operational key is a new one") || strings.Index(said, shown[1]) > strings.Index(said, "is a new one") {
		t.Fatalf("the new passphrase is not shown before it is in force:\n%s", said)
	}
	if strings.Contains(said, day) || strings.Contains(said, envelope) {
		t.Error("what was typed is shown")
	}
	check := w.onTerminal(t, "volume", "key", "check", "--config", config)
	check.answer("operational passphrase of volume v: ", shown[1])
	check.answer("recovery passphrase of volume v: ", envelope)
	check.end(0)
	if output, err := exec.Command("grep", "-rlF", shown[1], w.dir).CombinedOutput(); err == nil {
		t.Errorf("the new passphrase stands in %s", output)
	}
}
