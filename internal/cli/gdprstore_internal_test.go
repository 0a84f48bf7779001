package cli

import (
	"testing"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/report"
)

func TestStoresOfTheReport(t *testing.T) {
	s3 := func(change func(*config.S3)) config.Store {
		s := config.Store{Name: "x", Kind: config.StoreS3, S3: config.S3{Bucket: "acme", Prefix: "web1"}}
		change(&s.S3)
		return s
	}
	ssh := func(kind, host string) config.Store {
		return config.Store{Name: "x", Kind: kind, SSH: config.SSH{Host: host, Port: 23, User: "u1", Path: "/backups"}}
	}
	for name, test := range map[string]struct {
		store config.Store
		want  report.GDPRStore // its name and kind are those of store
	}{
		"folder":        {config.Store{Name: "x", Kind: config.StoreLocal, Path: "/srv/b"}, report.GDPRStore{Where: "/srv/b"}},
		"AWS":           {s3(func(*config.S3) {}), report.GDPRStore{Where: "s3://acme/web1", OffSite: true, Transit: "TLS"}},
		"S3 with TLS":   {s3(func(s *config.S3) { s.Endpoint = "https://s3.example.org" }), report.GDPRStore{Where: "s3://acme/web1?endpoint=https://s3.example.org", OffSite: true, Transit: "TLS"}},
		"S3 in clear":   {s3(func(s *config.S3) { s.Endpoint = "http://nas:9000" }), report.GDPRStore{Where: "s3://acme/web1?endpoint=http://nas:9000", OffSite: true}},
		"S3 here":       {s3(func(s *config.S3) { s.Endpoint = "http://127.0.0.1:9000" }), report.GDPRStore{Where: "s3://acme/web1?endpoint=http://127.0.0.1:9000"}},
		"S3 here by v6": {s3(func(s *config.S3) { s.Endpoint = "https://[::1]:9000" }), report.GDPRStore{Where: "s3://acme/web1?endpoint=https://[::1]:9000", Transit: "TLS"}},
		"locked": {s3(func(s *config.S3) { s.Lock, s.LockFor = "compliance", 30*24*time.Hour }),
			report.GDPRStore{Where: "s3://acme/web1", OffSite: true, Transit: "TLS", Lock: "object lock, compliance, for 30 days"}},
		"SFTP":          {ssh(config.StoreSFTP, "box.example.org"), report.GDPRStore{Where: "sftp://u1@box.example.org:23/backups", OffSite: true, Transit: "SSH"}},
		"SFTP to me":    {ssh(config.StoreSFTP, "WEB1"), report.GDPRStore{Where: "sftp://u1@WEB1:23/backups", Transit: "SSH"}},
		"rsync to here": {ssh(config.StoreRsync, "localhost"), report.GDPRStore{Where: "rsync://u1@localhost:23/backups", Transit: "SSH"}},
	} {
		test.want.Name, test.want.Kind = test.store.Name, test.store.Kind
		if got := gdprStore("web1", test.store); got != test.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, test.want)
		}
	}
}
