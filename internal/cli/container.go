package cli

import (
	"holdfast"
	"holdfast/internal/config"
)

// hostPassword is PGPASSWORD for the server that conn leads to. A server in a container has a password of its own, or none.
func hostPassword(cfg *config.Config, conn string) holdfast.Secret {
	if config.InContainer(conn) {
		return holdfast.Secret{}
	}
	return cfg.PostgresPassword
}
