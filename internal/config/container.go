package config

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v4"

	"holdfast/internal/container"
)

// Where a drill's PostgreSQL server may run in a container.
const (
	ContainerAuto   = "auto"
	ContainerNever  = "never"
	ContainerAlways = "always"
)

func containerChoices() []string { return []string{ContainerAuto, ContainerNever, ContainerAlways} }

const containerScheme = "docker://"

var (
	containerRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)
	labelRule     = regexp.MustCompile(`^[^=[:cntrl:]]+(=[^[:cntrl:]]*)?$`)
)

func containerShape() *shape {
	return &shape{name: "container", doc: "The value of container is a name alone, or this section, which has exactly one of name, service and label. Exactly one running container must fit.", fields: []field{
		{name: "name", form: formText, example: "shop-db-1", doc: "Its name, or its ID."},
		{name: "service", form: formText, example: "db", doc: "Its service in a file of Docker Compose."},
		{name: "project", form: formText, example: "shop", doc: "The project of that service, where several have one of that name."},
		{name: "label", form: formText, example: "tier=data", doc: "A label that it has: KEY or KEY=VALUE."},
	}}
}

func checkEngine(text string) error {
	if _, err := container.ParseEngine(text); err != nil {
		return errors.New("must be a unix socket such as unix:///run/podman/podman.sock; an engine on another machine cannot be used")
	}
	return nil
}

// readContainer makes the address of a server in a container out of the key container and those beside it. parts are the
// connection's, as libpq's keywords.
func (r *reader) readContainer(s *section, parts map[string]string) (conn string, ok bool) {
	node, _, found := s.value("container")
	if !found {
		return "", false
	}
	path := join(s.path, "container")
	for _, key := range []string{"url", "host", "sslmode"} {
		if s.values[key] != nil {
			r.fault(s.placeOf(key), "%s: has no meaning beside container, whose server is reached from inside", join(s.path, key))
		}
	}
	address := url.URL{Scheme: strings.TrimSuffix(containerScheme, "://"), Path: "/" + parts["dbname"]}
	if parts["user"] != "" {
		address.User = url.User(parts["user"])
	}
	query := url.Values{}
	if parts["port"] != "" {
		query.Set("port", parts["port"])
	}
	if node.Kind == yaml.MappingNode {
		ok = r.readContainerSection(node, path, &address.Host, query)
	} else {
		ok = s.one("container", "name or section", func(text string, _ field) error {
			address.Host = text
			return checkContainer(text)
		})
	}
	address.RawQuery = query.Encode()
	s.found("container", node)
	return address.String(), ok
}

func checkContainer(text string) error {
	if !containerRule.MatchString(text) {
		return errors.New("is not the name of a container: letters, digits, _, . and -")
	}
	return nil
}

func (r *reader) readContainerSection(node *yaml.Node, path string, host *string, query url.Values) bool {
	s := r.section(node, path, containerShape())
	if s == nil {
		return false
	}
	before := len(r.list)
	checked := func(key string, check func(string) error) {
		s.one(key, "text", func(text string, _ field) error {
			if key == "name" {
				*host = text
			} else {
				query.Set(key, text)
			}
			return check(text)
		})
	}
	checked("name", checkContainer)
	checked("service", checkContainer)
	checked("project", checkContainer)
	checked("label", func(text string) error {
		if !labelRule.MatchString(text) {
			return errors.New("is not a label: KEY or KEY=VALUE")
		}
		return nil
	})
	var given []string
	for _, key := range []string{"name", "service", "label"} {
		if s.values[key] != nil {
			given = append(given, key)
		}
	}
	if len(given) != 1 {
		what := "none of them is given"
		if len(given) > 1 {
			what = strings.Join(given, " and ") + " are given"
		}
		r.fault(s.at, "%s: exactly one of name, service and label says which one is meant; %s", path, what)
	}
	if s.values["project"] != nil && !slices.Contains(given, "service") {
		r.fault(s.placeOf("project"), "%s: has a meaning only beside service", join(path, "project"))
	}
	return len(r.list) == before
}
