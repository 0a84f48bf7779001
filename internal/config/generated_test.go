package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
)

// This test is inside of the package: it makes documents from the tables, which are not exported.

var update = flag.Bool("update", false, "write the generated files instead of comparing them")

const (
	schemaFile     = "holdfast.schema.json"
	schemaDocument = "../../docs/holdfast.schema.json"
	guideDocument  = "../../docs/configuration.md"
)

func TestGenerated(t *testing.T) {
	schema := generateSchema(t)
	guide, err := os.ReadFile(guideDocument)
	if err != nil {
		t.Fatal(err)
	}
	filled := fill(t, string(guide), "keys", keyTables())
	filled = fill(t, filled, "variables", variableTables())
	filled = fill(t, filled, "aliases", aliasTables())
	for file, want := range map[string][]byte{
		schemaFile:     schema,
		schemaDocument: schema,
		guideDocument:  []byte(filled),
	} {
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, want) {
			t.Errorf("%s is not what the tables say; run `make gen`", file)
		}
	}
}

// fill replaces what stands between the two marks called name.
func fill(t *testing.T, text, name, content string) string {
	t.Helper()
	begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->"
	head, rest, found := strings.Cut(text, begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no marks for %s", guideDocument, name)
	}
	return head + begin + content + end + tail
}

func generateSchema(t *testing.T) []byte {
	t.Helper()
	root := schemaOf(rootShape())
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	root.Title = "holdfast.yaml"
	root.Description = "The configuration of holdfast."
	root.Defs = map[string]*jsonschema.Schema{
		"name": {Type: "string", Pattern: `^[a-z0-9][a-z0-9-]{0,62}$`},
		"secret": {
			Description: "A reference to a secret, never the secret itself.",
			AnyOf: []*jsonschema.Schema{
				{Type: "string", Pattern: `^(env:.+|file:.+|exec:\[.+\])$`},
				closed("env", &jsonschema.Schema{Type: "string", Description: "Name of a variable."}),
				closed("file", &jsonschema.Schema{Type: "string", Description: "File readable by its owner alone."}),
				closed("exec", &jsonschema.Schema{
					Type: "array", MinItems: jsonschema.Ptr(1), Items: &jsonschema.Schema{Type: "string"},
					Description: "Program and arguments; run without a shell.",
				}),
			},
		},
	}
	raw, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.Resolve(nil); err != nil {
		t.Fatal(err)
	}
	return append(raw, '\n')
}

func closed(name string, value *jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{
		Type: "object", Properties: map[string]*jsonschema.Schema{name: value}, Required: []string{name},
		AdditionalProperties: none(),
	}
}

// none is the schema that nothing satisfies.
func none() *jsonschema.Schema { return &jsonschema.Schema{Not: &jsonschema.Schema{}} }

func schemaOf(of *shape) *jsonschema.Schema {
	s := &jsonschema.Schema{
		Type: "object", Description: of.doc, Properties: map[string]*jsonschema.Schema{},
		PropertyOrder: of.names(), AdditionalProperties: none(),
	}
	for _, f := range of.fields {
		s.Properties[f.name] = schemaOfField(f)
		if f.needed {
			s.Required = append(s.Required, f.name)
		}
	}
	return s
}

func schemaOfField(f field) *jsonschema.Schema {
	s := &jsonschema.Schema{}
	texts := &jsonschema.Schema{Type: "string"}
	switch f.form {
	case formText, formPath:
		s.Type = "string"
	case formFlag:
		s.Type = "boolean"
	case formNumber:
		s.Type = "integer"
		s.Minimum, s.Maximum = jsonschema.Ptr(float64(f.min)), jsonschema.Ptr(float64(f.max))
	case formSpan:
		s.Type = "string"
		s.Pattern = `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$|^[0-9]+[dw]$`
	case formCount:
		s.AnyOf = []*jsonschema.Schema{{Type: "integer", Minimum: jsonschema.Ptr(float64(f.min)), Maximum: jsonschema.Ptr(float64(f.max))}, {Type: "string", Const: jsonschema.Ptr[any](foreverWord)}}
	case formSize:
		s.Type, s.Pattern = "string", sizeRule.String()
	case formDate:
		s.Type, s.Format = "string", "date"
	case formChoice:
		for _, choice := range f.choices {
			s.Enum = append(s.Enum, choice)
		}
	case formSecret:
		s.Ref = "#/$defs/secret"
	case formTexts, formPaths:
		s.Type, s.Items = "array", texts
	case formArguments:
		s.Type, s.MinItems, s.Items = "array", jsonschema.Ptr(1), &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}}}
	case formVariables:
		s.Type = "object"
		s.PropertyNames = &jsonschema.Schema{Pattern: variableRule.String()}
		s.AdditionalProperties = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string"}, {Type: "number"}, {Ref: "#/$defs/secret"}}}
	case formWord:
		s.AnyOf = []*jsonschema.Schema{{Type: "string"}, {Type: "integer"}}
	case formSection:
		s = schemaOf(f.shape)
	case formSections:
		s.Type, s.Items = "array", schemaOf(f.shape)
	case formContainer:
		s.AnyOf = []*jsonschema.Schema{{Type: "string", Pattern: containerRule.String()}, schemaOf(f.shape)}
	case formRoots:
		s.Type, s.MinItems = "array", jsonschema.Ptr(1)
		s.Items = &jsonschema.Schema{AnyOf: []*jsonschema.Schema{texts, schemaOf(f.shape)}}
	case formNamed:
		s.Type = "object"
		s.PropertyNames, s.AdditionalProperties = &jsonschema.Schema{Ref: "#/$defs/name"}, schemaOf(f.shape)
	case formVolumes:
		s.Type = "object"
		s.PropertyNames, s.AdditionalProperties = &jsonschema.Schema{Pattern: `^[a-z0-9][a-z0-9_-]{0,40}$`}, schemaOf(f.shape)
	case formSources, formStores, formChannels:
		s.Type, s.PropertyNames = "object", &jsonschema.Schema{Ref: "#/$defs/name"}
		s.AdditionalProperties = &jsonschema.Schema{}
		shapes := sourceShapeList()
		if f.form == formStores {
			shapes = storeShapeList()
		}
		if f.form == formChannels {
			shapes = channelShapeList()
		}
		for _, shape := range shapes {
			s.AdditionalProperties.AnyOf = append(s.AdditionalProperties.AnyOf, schemaOf(shape))
		}
	default:
		panic("no schema for " + string(f.form))
	}
	s.Description = f.doc
	if f.fallback != "" {
		s.Description += " Default: " + f.fallback + "."
	}
	return s
}

func channelShapeList() []*shape {
	var all []*shape
	for _, kind := range channelKinds() {
		all = append(all, channelShapes()[kind])
	}
	return all
}

func sourceShapeList() []*shape { return []*shape{postgresShape(), sqliteShape(), filesShape()} }

func storeShapeList() []*shape {
	return []*shape{localStoreShape(), s3StoreShape(), sftpStoreShape(), rsyncStoreShape()}
}

func keyTables() string {
	var out strings.Builder
	tables := []struct {
		title string
		of    *shape
	}{
		{"The file", rootShape()},
		{"`log`", logShape()},
		{"`service`", serviceShape()},
		{"`service.queue`", queueShape()},
		{"`alarms`", alarmsShape()},
		{"`channels.NAME` of kind `mail`", channelShapes()[ChannelMail]},
		{"`channels.NAME` of kind `webhook`", channelShapes()[ChannelWebhook]},
		{"`channels.NAME` of kind `slack`", channelShapes()[ChannelSlack]},
		{"`channels.NAME` of kind `discord`", channelShapes()[ChannelDiscord]},
		{"`channels.NAME` of kind `telegram`", channelShapes()[ChannelTelegram]},
		{"`channels.NAME` of kind `ntfy`", channelShapes()[ChannelNtfy]},
		{"`channels.NAME` of kind `alertmanager`", channelShapes()[ChannelAlertmanager]},
		{"`channels.NAME` of kind `healthchecks`", channelShapes()[ChannelHealthchecks]},
		{"`channels.NAME` of kind `kuma`", channelShapes()[ChannelKuma]},
		{"`audit`", auditShape()},
		{"`keys.NAME`", keyShape()},
		{"an entry of `retired`", retiredShape()},
		{"`stores.NAME` of kind `local`", localStoreShape()},
		{"`stores.NAME` of kind `s3`", s3StoreShape()},
		{"`stores.NAME` of kind `sftp`", sftpStoreShape()},
		{"`stores.NAME` of kind `rsync`", rsyncStoreShape()},
		{"`sources.NAME` of kind `postgres`", postgresShape()},
		{"`container` of a source", containerShape()},
		{"`sources.NAME` of kind `sqlite`", sqliteShape()},
		{"`sources.NAME` of kind `files`", filesShape()},
		{"an entry of `paths`", rootPathShape()},
		{"`jobs.NAME`", jobShape()},
		{"`jobs.NAME.keep`", keepShape()},
		{"`jobs.NAME.keep.stores.STORE`", keepStoreShape()},
		{"`kinds.KIND` of a rule", ruleShape()},
		{"`jobs.NAME.drill`", drillShape()},
		{"an entry of `assertions`", assertionShape()},
		{"`jobs.NAME.schedule`", scheduleShape()},
		{"`jobs.NAME.objectives`", objectivesShape()},
		{"`jobs.NAME.hooks`", hooksShape()},
		{"`jobs.NAME.hooks.backup`", backupHooksShape()},
		{"`jobs.NAME.hooks.restore`", restoreHooksShape()},
		{"an entry of `before` and `after`", hookShape()},
		{"an entry of `health`", healthShape()},
		{"`http` of a health check", pageShape()},
		{"`volumes.NAME`", volumesShape()},
		{"`volumes.NAME.server`", volumesShape().shapeOf("server")},
		{"an entry of `holders`", volumesShape().shapeOf("holders")},
	}
	for _, table := range tables {
		title := strings.ToUpper(table.title[:1]) + table.title[1:]
		fmt.Fprintf(&out, "\n### %s\n\n%s\n\n| key | value | default | meaning |\n|---|---|---|---|\n", title, table.of.doc)
		for _, f := range table.of.fields {
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", f.name, valueCell(f), fallbackCell(f), f.doc)
		}
	}
	return out.String() + "\n"
}

func valueCell(f field) string {
	switch {
	case f.form == formChoice:
		return "`" + strings.Join(f.choices, "`, `") + "`"
	case f.form == formNumber && f.min == f.max:
		return fmt.Sprintf("`%d`", f.min)
	case f.form == formNumber:
		return fmt.Sprintf("number, %d to %d", f.min, f.max)
	}
	return string(f.form)
}

func fallbackCell(f field) string {
	switch {
	case f.needed:
		return "**must be given**"
	case f.fallback == "":
		return ""
	}
	return f.fallback
}

func variableTables() string {
	var out strings.Builder
	out.WriteString("\n| variable | flag | default | meaning |\n|---|---|---|---|\n")
	for _, v := range Variables() {
		fmt.Fprintf(&out, "| `%s` | `%s` | %s | %s |\n", v.Name, v.Flag, v.Fallback, v.Doc)
	}
	out.WriteString("\nPostgreSQL's own variables fill in what a source leaves out, with the meanings and defaults that\n" +
		"PostgreSQL's documentation gives them (\"Environment Variables\" of libpq): `PGPASSWORD`, ")
	for i, name := range postgresVariables() {
		if i > 0 {
			out.WriteString(", ")
		}
		out.WriteString("`" + name + "`")
	}
	return out.String() + ".\n\n"
}

func aliasTables() string {
	var out strings.Builder
	out.WriteString("\n| variable | counts after | default | meaning |\n|---|---|---|---|\n")
	for _, v := range Aliases() {
		after := ""
		if v.Flag != "" {
			after = "`" + v.Flag + "`"
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", v.Name, after, v.Fallback, v.Doc)
	}
	return out.String() + "\n"
}

// TestEveryKeyIsRead walks the tables and gives each key, alone, a value that its form cannot have. A key that is in
// a table but that nobody reads would be taken in silence.
func TestEveryKeyIsRead(t *testing.T) {
	wrap := map[string]string{
		"":                "%s\n",
		"log":             "version: 1\nlog:\n  %s\n",
		"service":         "version: 1\nservice:\n  %s\n",
		"queue":           "version: 1\nservice:\n  queue:\n    %s\n",
		"alarms":          "version: 1\nalarms:\n  %s\n",
		"schedule":        "version: 1\njobs:\n  j:\n    schedule:\n      %s\n",
		"objectives":      "version: 1\njobs:\n  j:\n    objectives:\n      %s\n",
		"audit":           "version: 1\naudit:\n  %s\n",
		"key":             "version: 1\nkeys:\n  k:\n    %s\n",
		"local store":     "version: 1\nstores:\n  s:\n    kind: local\n    %s\n",
		"s3 store":        "version: 1\nstores:\n  s:\n    kind: s3\n    %s\n",
		"sftp store":      "version: 1\nstores:\n  s:\n    kind: sftp\n    %s\n",
		"rsync store":     "version: 1\nstores:\n  s:\n    kind: rsync\n    %s\n",
		"postgres source": "version: 1\nsources:\n  s:\n    kind: postgres\n    %s\n",
		"sqlite source":   "version: 1\nsources:\n  s:\n    kind: sqlite\n    %s\n",
		"files source":    "version: 1\nsources:\n  s:\n    kind: files\n    %s\n",
		"path":            "version: 1\nsources:\n  s:\n    kind: files\n    paths:\n    -\n      %s\n",
		"job":             "version: 1\njobs:\n  j:\n    %s\n",
		"keep":            "version: 1\njobs:\n  j:\n    keep:\n      %s\n",
		"store's rule":    "version: 1\njobs:\n  j:\n    keep:\n      stores:\n        s:\n          %s\n",
		"rule":            "version: 1\njobs:\n  j:\n    keep:\n      kinds:\n        hourly:\n          %s\n",
		"drill":           "version: 1\njobs:\n  j:\n    drill:\n      %s\n",
		"hooks":           "version: 1\njobs:\n  j:\n    hooks:\n      %s\n",
		"backup hooks":    "version: 1\njobs:\n  j:\n    hooks:\n      backup:\n        %s\n",
		"restore hooks":   "version: 1\njobs:\n  j:\n    hooks:\n      restore:\n        %s\n",
		"hook":            "version: 1\njobs:\n  j:\n    hooks:\n      backup:\n        before:\n        -\n          %s\n",
		"health check":    "version: 1\njobs:\n  j:\n    hooks:\n      restore:\n        health:\n        -\n          %s\n",
		"page":            "version: 1\njobs:\n  j:\n    hooks:\n      restore:\n        health:\n        - http:\n            %s\n",
		"volume":          "version: 1\nvolumes:\n  v:\n    %s\n",
		"volume's server": "version: 1\nvolumes:\n  v:\n    server:\n      %s\n",
		"holder":          "version: 1\nvolumes:\n  v:\n    holders:\n    -\n      %s\n",
		"assertion":       "version: 1\njobs:\n  j:\n    drill:\n      assertions:\n      -\n        %s\n",
	}
	shapes := []*shape{rootShape(), logShape(), auditShape(), keyShape(), postgresShape(), sqliteShape(), filesShape(),
		localStoreShape(), s3StoreShape(), sftpStoreShape(), rsyncStoreShape(),
		rootPathShape(), jobShape(), keepShape(), keepStoreShape(), ruleShape(), drillShape(), assertionShape(), hooksShape(), backupHooksShape(), restoreHooksShape(), hookShape(),
		healthShape(), pageShape(), serviceShape(), scheduleShape(), objectivesShape(), alarmsShape(), queueShape(),
		volumesShape(), volumesShape().shapeOf("server"), volumesShape().shapeOf("holders")}
	for kind, shape := range channelShapes() {
		wrap[shape.name] = "version: 1\nchannels:\n  c:\n    kind: " + kind + "\n    %s\n"
		shapes = append(shapes, shape)
	}
	for _, of := range shapes {
		for _, f := range of.fields {
			if f.name == "kind" && (strings.HasSuffix(of.name, "source") || strings.HasSuffix(of.name, " store") || strings.HasSuffix(of.name, " channel")) {
				continue // stands in the frame
			}
			frame, known := wrap[of.name]
			if !known {
				t.Fatalf("no frame for %q", of.name)
			}
			text := fmt.Sprintf(frame, f.name+": !odd value")
			r := newReader("f.yaml", "/", func(string) (string, bool) { return "", false }, epoch)
			if tree := r.parseTree([]byte(text)); tree != nil {
				r.readFile(tree)
			}
			found := false
			for _, m := range r.list {
				found = found || strings.Contains(m.Text, f.name) && !strings.Contains(m.Text, "is missing")
			}
			if !found {
				t.Errorf("%s.%s: a value with a tag is taken: %v", of.name, f.name, r.list)
			}
		}
	}
}
