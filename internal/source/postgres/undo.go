package postgres

import (
	"fmt"
	"strings"

	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
)

// Undo is the command that gives the databases that were overwritten their places back. The password comes from where psql
// looks for one.
func (p *Place) Undo() string {
	var words []string
	maintenance := "postgres"
	for _, s := range p.staged {
		if s.kept == "" {
			continue
		}
		if s.final == maintenance {
			maintenance = "template1"
		}
		for _, pair := range [][2]string{{s.final, strings.Replace(s.kept, "_before_", "_failed_", 1)}, {s.kept, s.final}} {
			words = append(words, "-c "+source.ShellWord(fmt.Sprintf("ALTER DATABASE %s RENAME TO %s", pgclient.QuoteIdent(pair[0]), pgclient.QuoteIdent(pair[1]))))
		}
	}
	if len(words) == 0 {
		return ""
	}
	command := "psql -X -v ON_ERROR_STOP=1"
	for _, flag := range [][2]string{{"-h", "host"}, {"-p", "port"}, {"-U", "user"}} {
		if value := p.server[flag[1]]; value != "" {
			command += " " + flag[0] + " " + source.ShellWord(value)
		}
	}
	return command + " -d " + maintenance + " " + strings.Join(words, " ")
}
