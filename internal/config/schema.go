package config

import _ "embed"

//go:generate go test . -run ^TestGenerated$ -update

//go:embed holdfast.schema.json
var schema []byte

// Schema returns the JSON schema of the configuration file, for editors. It is generated from the same tables that
// the reader goes by.
func Schema() []byte { return append([]byte(nil), schema...) }
