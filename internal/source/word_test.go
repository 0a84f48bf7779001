package source_test

import (
	"os/exec"
	"testing"

	"holdfast/internal/source"
)

func TestShellWord(t *testing.T) {
	for _, text := range []string{"", "plain", "/srv/app.db", "two words", "it's", `a"b`, "$HOME", "`id`", "a;b", "*", "new\nline", "-n", "größe", `back\slash`, "~"} {
		out, err := exec.Command("sh", "-c", "printf '%s|' "+source.ShellWord(text)).Output()
		if err != nil || string(out) != text+"|" {
			t.Errorf("%q is %s, which a shell reads as %q, %v", text, source.ShellWord(text), out, err)
		}
	}
	if got := source.ShellWord("/srv/app.db"); got != "/srv/app.db" {
		t.Errorf("a plain path is quoted: %s", got)
	}
}
