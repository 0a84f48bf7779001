package config

import "holdfast/internal/volume"

func volumesShape() *shape {
	roles := make([]string, 0, len(volume.Roles()))
	for _, role := range volume.Roles() {
		roles = append(roles, string(role))
	}
	server := &shape{name: "volume's server", doc: "How the server whose data lies on the volume is stopped and started, and what waits for the volume. Give unit, or compose and service, or neither.", fields: []field{
		{name: "stop", form: formArguments, example: "[systemctl, stop, postgresql@17-main]", doc: "The program that stops it, and its arguments; no shell is involved. It is an absolute path, or a name that is found in the usual folders of the system."},
		{name: "start", form: formArguments, example: "[systemctl, start, postgresql@17-main]", doc: "The program that starts it; given together with stop."},
		{name: "health", form: formArguments, example: "[pg_isready, --quiet]", doc: "A program that ends with 0 when the server is well."},
		{name: "user", form: formText, fallback: "the user that runs holdfast", example: "postgres", doc: "The user to run them as; this takes root."},
		{name: "unit", form: formText, example: "postgresql@17-main.service", doc: "Its systemd unit, which is started after the volume is mounted, and never without it."},
		{name: "compose", form: formPath, example: "/srv/shop/compose.yaml", doc: "The file of Docker Compose that has its service."},
		{name: "service", form: formText, example: "db", doc: "Its service in that file."},
		{name: "container_data", form: formPath, fallback: defaultContainerData, doc: "Where the server in the container has its data; images of PostgreSQL 18 have it elsewhere than those before."},
		{name: "grace", form: formSpan, fallback: "60s", doc: "How long it may take to stop."},
	}}
	holder := &shape{name: "holder", doc: "A custodian. At least two should be named, and somebody for each key.", fields: []field{
		{name: "name", form: formText, needed: true, example: "Anna", doc: "Who it is."},
		{name: "contact", form: formText, example: "+49 30 123456", doc: "How to reach them at any hour."},
		{name: "role", form: formChoice, needed: true, choices: roles, example: string(volume.Operational), doc: "Which key they have: operational, which unlocks after each start, or recovery."},
		{name: "mfa", form: formFlag, fallback: "false", doc: "Whether it lies behind a second factor."},
		{name: "since", form: formDate, example: "2026-11-29", doc: "The day on which they got it."},
		{name: "until", form: formDate, example: "2027-11-29", doc: "The last day on which they are a custodian. The key is due for rotation then."},
	}}
	return &shape{name: "volume", doc: "An encrypted volume: see [volumes.md](volumes.md). Its name, which is that of its mapping and the label of its header too, has lower-case letters, digits, `-` and `_`, at most 41 of them.", fields: []field{
		{name: "device", form: formPath, needed: true, example: "/srv/pg-data.luks", doc: "The file, or the block device, that holds it: an absolute path."},
		{name: "mount", form: formPath, needed: true, example: "/srv/pg-data", doc: "Where it is mounted: an absolute path. Nothing but the volume is ever there."},
		{name: "filesystem", form: formChoice, fallback: volume.Ext4, choices: []string{volume.Ext4, volume.XFS}, doc: "The file system that it is made with."},
		{name: "owner", form: formWord, fallback: hostOwner + ", and " + imageOwner + " with server.compose", example: imageOwner, doc: "Whose the data folder is, `USER` or `USER:GROUP`, each as a name or a number. PostgreSQL's official images have 999, and those on Alpine 70."},
		{name: "mode", form: formWord, fallback: `"0700"`, doc: "The permissions of the data folder, in octal. PostgreSQL takes 0700 and 0750 alone."},
		{name: "data", form: formText, fallback: "pgdata", doc: "The data folder, below the mount: in the mount itself is lost+found, with which PostgreSQL makes no database."},
		{name: "job", form: formText, needed: true, example: "default", doc: "The job to whose store and mirrors copies of the header go, sealed to its recipients."},
		{name: "source", form: formText, fallback: "none", example: "db", doc: "The PostgreSQL source of that job whose server has its data there."},
		{name: "server", form: formSection, shape: server, example: "{unit: postgresql@17-main.service, stop: [systemctl, stop, postgresql@17-main], start: [systemctl, start, postgresql@17-main]}", doc: "How that server is stopped and started."},
		{name: "holders", form: formSections, fallback: "none", shape: holder, example: "[{name: Anna, role: operational}, {name: Ben, role: recovery}]", doc: "Who has its keys."},
		{name: "tell", form: formTexts, fallback: "none", example: `["Data protection officer, +49 30 654321"]`, doc: "Who must be told within one hour when a key is compromised."},
	}}
}

// shapeOf is the shape of the section, or of the sections, under a key.
func (s *shape) shapeOf(name string) *shape {
	f, _ := s.field(name)
	return f.shape
}
