package config

// The tables of the keys of stores, as those of spec.go.

func storeShapes() map[string]*shape {
	return map[string]*shape{StoreLocal: localStoreShape(), StoreS3: s3StoreShape(), StoreSFTP: sftpStoreShape(), StoreRsync: rsyncStoreShape()}
}

// storeKinds lists the kinds in the order of the documentation.
func storeKinds() []string { return []string{StoreLocal, StoreS3, StoreSFTP, StoreRsync} }

func storeKindField(kind string) field {
	return field{name: "kind", form: formChoice, needed: true, choices: []string{kind}, example: kind, doc: "What the store is."}
}

func bandwidthField() field {
	return field{name: "bandwidth", form: formSize, fallback: "no limit", example: "20MB", doc: "Most bytes per second, of all that is sent and read together."}
}

func stallField() field {
	return field{name: "stall", form: formSpan, fallback: "2m", doc: "How long a connection may move nothing before it is given up and tried again."}
}

func localStoreShape() *shape {
	return &shape{name: "local store", doc: "A folder, which may be a mounted disk.", fields: []field{
		storeKindField(StoreLocal),
		{name: "path", form: formPath, needed: true, example: "/srv/backups", doc: "The folder."},
		bandwidthField(),
	}}
}

func s3StoreShape() *shape {
	return &shape{name: "s3 store", doc: "A bucket of S3, or of a server that speaks its protocol.", fields: []field{
		storeKindField(StoreS3),
		{name: "endpoint", form: formText, fallback: "AWS's for the region", example: "https://s3.fr-par.scw.cloud", doc: "Address of the server."},
		{name: "region", form: formText, fallback: "AWS_REGION, else us-east-1", example: "eu-west-3", doc: "The region."},
		{name: "bucket", form: formText, needed: true, example: "acme-backups", doc: "The bucket."},
		{name: "prefix", form: formText, example: "web1", doc: "Folder in the bucket that is this store."},
		{name: "path_style", form: formFlag, fallback: "false, and true with an endpoint that is an address or localhost", doc: "Name the bucket in the path instead of the host."},
		{name: "ca_file", form: formPath, example: "/etc/holdfast/ca.pem", doc: "Certificates to trust beside the system's."},
		{name: "access_key", form: formSecret, fallback: "AWS's variables, shared files, or the role of the machine", example: "{file: /etc/holdfast/s3-access}", doc: "The access key's ID."},
		{name: "secret_key", form: formSecret, example: "{file: /etc/holdfast/s3-secret}", doc: "The access key's secret."},
		{name: "session_token", form: formSecret, example: "{env: TOKEN}", doc: "The token of a temporary access key."},
		{name: "sse", form: formChoice, fallback: noneWord, choices: []string{noneWord, "s3", "kms"}, doc: "How the server encrypts what it keeps, beside our own sealing: with its own keys, or with one of its key service."},
		{name: "kms_key", form: formText, example: "alias/backups", doc: "The key of the key service; the bucket's default when it is not given."},
		{name: "storage_class", form: formText, fallback: "the bucket's", example: "STANDARD_IA", doc: "Storage class of what is put."},
		{name: "lock", form: formChoice, fallback: noneWord, choices: []string{noneWord, "governance", "compliance"}, doc: "Object lock set on everything that is put: nothing and, with compliance, nobody can delete it before lock_for has passed."},
		{name: "lock_for", form: formSpan, example: "30d", doc: "How long objects are locked. Needed with lock."},
		{name: "part_size", form: formSize, fallback: "16MB", example: "16MB", doc: "Size of the parts of a large object. Memory of one stream is one part more than parts."},
		{name: "parts", form: formNumber, fallback: "4", min: 1, max: 64, example: "4", doc: "Parts of one stream that are sent at once."},
		bandwidthField(), stallField(),
	}}
}

func sshFields(kind string) []field {
	return []field{
		storeKindField(kind),
		{name: "host", form: formText, needed: true, example: "u123456.your-storagebox.de", doc: "The host."},
		{name: "port", form: formNumber, fallback: "22", min: 1, max: 65535, example: "23", doc: "Its port."},
		{name: "user", form: formText, needed: true, example: "u123456", doc: "The user there."},
		{name: "path", form: formText, needed: true, example: "backups", doc: "The folder there: absolute, or from the login folder."},
		{name: "key_file", form: formPath, fallback: "the agent's keys", example: "/etc/holdfast/storage-box", doc: "The private key to log in with: one of its own for this store."},
		{name: "known_hosts", form: formPaths, fallback: "~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts", example: "[/etc/holdfast/known_hosts]", doc: "Files with the host's key. A host that is not in them is refused."},
		{name: "timeout", form: formSpan, fallback: "30s", doc: "How long to wait for a connection."},
	}
}

func sftpStoreShape() *shape {
	return &shape{name: "sftp store", doc: "A folder at a server that speaks SFTP.", fields: append(sshFields(StoreSFTP),
		field{name: "key_passphrase", form: formSecret, example: "{file: /etc/holdfast/box-passphrase}", doc: "The passphrase of the private key."},
		field{name: "password", form: formSecret, example: "{file: /etc/holdfast/box-password}", doc: "The user's password, where no key can be used."},
		bandwidthField(), stallField())}
}

func rsyncStoreShape() *shape {
	return &shape{name: "rsync store", doc: "A folder at a server that allows rsync over SSH and nothing else. It can only be a mirror: see docs/rsync.md.",
		fields: append(sshFields(StoreRsync), bandwidthField())}
}
