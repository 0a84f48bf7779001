package cli

import (
	"net"
	"net/url"
	"strings"

	"holdfast/internal/config"
	"holdfast/internal/health"
	"holdfast/internal/report"
)

// gdprStore is a place of backups as the configuration of host has it.
func gdprStore(host string, s config.Store) report.GDPRStore {
	g := report.GDPRStore{Name: s.Name, Kind: s.Kind, Where: s.Address()}
	switch s.Kind {
	case config.StoreS3:
		endpoint, err := url.Parse(s.S3.Endpoint)
		if s.S3.Endpoint == "" || err == nil && endpoint.Scheme == "https" {
			g.Transit = "TLS"
		}
		g.OffSite = s.S3.Endpoint == "" || err == nil && !isHere(host, endpoint.Hostname())
		if s.S3.Lock != "" {
			g.Lock = "object lock, " + s.S3.Lock
			if s.S3.LockFor > 0 {
				g.Lock += ", for " + health.Span(s.S3.LockFor)
			}
		}
	case config.StoreSFTP, config.StoreRsync:
		g.Transit, g.OffSite = "SSH", !isHere(host, s.SSH.Host)
	}
	return g
}

// isHere reports whether a name is that of this machine, as far as the name alone tells.
func isHere(host, name string) bool {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	ip := net.ParseIP(name)
	return ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) || name == "localhost" || strings.HasSuffix(name, ".localhost") || name == strings.ToLower(host)
}
