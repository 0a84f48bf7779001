package files

import (
	"fmt"
	"strings"

	"holdfast/internal/source"
)

// Undo is the command that gives the folder that was overwritten its place back.
func (p *Place) Undo() string { return undo(p.moved) }

// Undo is the command that gives everything that was overwritten its place back. What was not there before stays.
func (p *InPlace) Undo() string { return undo(p.moved) }

func undo(moved []move) string {
	var commands []string
	for _, m := range moved {
		if m.Kept == "" {
			continue
		}
		target, kept := source.ShellWord(m.Target), source.ShellWord(m.Kept)
		aside := source.ShellWord(strings.Replace(m.Kept, ".before_", ".failed_", 1))
		commands = append(commands, fmt.Sprintf("mv -nT %s %s && mv -nT %s %s", target, aside, kept, target))
	}
	return strings.Join(commands, " && ")
}
