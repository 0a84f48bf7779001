package sample

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// plainFiles are the files of the service that people write by hand.
var plainFiles = []struct {
	name string
	mode uint32
	text string
}{
	{".env", 0o600, "NODE_ENV=production\nPORT=3000\nDATABASE_URL=postgres://sample_writer:canary-env-password@/sample\nSESSION_SECRET=canary-session-secret\nSMTP_PASSWORD='canary \"smtp\" $ecret'\n"},
	{".env.production", 0o600, "STRIPE_KEY=canary-stripe-key\nEMPTY=\n# Größe\nMULTILINE=\"a\nb\"\n"},
	{"secrets/jwt.pem", 0o600, "-----BEGIN SAMPLE KEY-----\nY2FuYXJ5LWp3dA==\n-----END SAMPLE KEY-----\n"},
	{"secrets/htpasswd", 0o640, "admin:$2y$05$canary-htpasswd\n"},
	{"package.json", 0o644, "{\n  \"name\": \"sample-app\",\n  \"version\": \"3.1.4\",\n  \"main\": \"server.js\",\n  \"dependencies\": {\"express\": \"^5.0.0\", \"pg\": \"^8.13.0\"}\n}\n"},
	{"server.js", 0o644, "'use strict'\nconst app = require('express')()\napp.get('/health', (req, res) => res.send('ok'))\napp.listen(process.env.PORT)\n"},
	{"ecosystem.config.js", 0o644, "module.exports = {\n  apps: [{ name: 'sample-app', script: 'server.js', instances: 2, exec_mode: 'cluster', env_file: '.env' }]\n}\n"},
	{"config/app.yaml", 0o644, "title: Sample \"Größe\"\nlisten: 127.0.0.1:3000\nfeatures:\n  - notes\n  - snapshots\n"},
	{"config/routes/api.json", 0o644, "{\"/api/v1\": {\"rate\": 100, \"auth\": true}}\n"},
	{"config/locales/de.json", 0o644, "{\"hello\": \"Grüß Gott\", \"bye\": \"Tschüß\"}\n"},
	{"config/windows.ini", 0o664, "[paths]\r\nroot=C:\\app\r\n"},
	{"deploy/sample-app.service", 0o644, "[Unit]\nDescription=Sample application\nAfter=network.target postgresql.service\n\n[Service]\nUser=www-data\nWorkingDirectory=/srv/sample-app\nEnvironmentFile=/srv/sample-app/.env\nExecStart=/usr/bin/node server.js\nRestart=on-failure\n\n[Install]\nWantedBy=multi-user.target\n"},
	{"deploy/nginx/app.example.org.conf", 0o644, "server {\n  listen 443 ssl;\n  server_name app.example.org;\n  ssl_certificate tls/app.example.org.crt;\n  ssl_certificate_key tls/app.example.org.key;\n  location / { proxy_pass http://127.0.0.1:3000; }\n}\n"},
	{"deploy/deploy.sh", 0o755, "#!/bin/sh\nset -e\nnpm ci\nsystemctl restart sample-app\n"},
}

// certificates makes a certificate signed by itself, and its key. Ed25519 signs without randomness, so that a seed
// gives the same bytes.
func certificates(options Options) (certificate, key []byte, err error) {
	seed := sha256.Sum256(fmt.Appendf(nil, "holdfast sample certificate %d", options.Seed))
	private := ed25519.NewKeyFromSeed(seed[:])
	template := &x509.Certificate{
		SerialNumber: big.NewInt(20260601),
		Subject:      pkix.Name{CommonName: "app.example.org", Organization: []string{"Sample Größe"}},
		DNSNames:     []string{"app.example.org"},
		NotBefore:    epoch.Add(-30 * day),
		NotAfter:     epoch.Add(time.Duration(3650) * day),
	}
	der, err := x509.CreateCertificate(nil, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, fmt.Errorf("create the sample's certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("create the sample's key: %w", err)
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return certificate, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}
