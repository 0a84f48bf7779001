package config

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v4"

	"holdfast"
	"holdfast/internal/hook"
)

// Hooks are what a job wants run around its backups and its restores.
type Hooks struct{ Backup, Restore HookSet }

// HookSet is the steps around one run.
type HookSet struct{ Before, After, Health []Hook }

// Hook is one step: a program, or for health a page. The one of the two that it is has its first field set.
type Hook struct {
	Run     []string
	Dir     string // absolute; "" is /
	Env     []HookVariable
	User    string
	Timeout time.Duration
	Page    HookPage
}

// HookVariable is one variable that a program is given: a text, or a reference to a secret.
type HookVariable struct {
	Name   string
	Text   string
	Secret SecretRef
}

// HookPage is a request and the answer that is expected.
type HookPage struct {
	URL             string
	Status          int
	Body            string
	Timeout, Within time.Duration
}

func hooksShape() *shape {
	return &shape{name: "hooks", doc: "What is run around backups and restores; [hooks.md](hooks.md) tells when and how.", fields: []field{
		{name: "backup", form: formSection, shape: backupHooksShape(), doc: "Around a backup."},
		{name: "restore", form: formSection, shape: restoreHooksShape(), doc: "Around a restore that takes the place of what is there."},
	}}
}

func backupHooksShape() *shape {
	return &shape{name: "backup hooks", doc: "Steps around a backup.", fields: []field{
		{name: "before", form: formSections, fallback: "none", shape: hookShape(), example: "[{run: [systemctl, stop, app]}]", doc: "Run in order before anything is read; the first that fails keeps the backup from beginning."},
		{name: "after", form: formSections, fallback: "none", shape: hookShape(), example: "[{run: [systemctl, start, app]}]", doc: "Run in order, all of them, whatever happened."},
	}}
}

func restoreHooksShape() *shape {
	return &shape{name: "restore hooks", doc: "Steps around a restore.", fields: []field{
		{name: "before", form: formSections, fallback: "none", shape: hookShape(), example: "[{run: [systemctl, stop, app]}]", doc: "Run in order before anything is restored; the first that fails keeps the restore from beginning."},
		{name: "after", form: formSections, fallback: "none", shape: hookShape(), example: "[{run: [systemctl, start, app]}]", doc: "Run in order, all of them, whatever happened."},
		{name: "health", form: formSections, fallback: "none", shape: healthShape(), example: "[{http: {url: 'http://127.0.0.1:8080/health'}}]", doc: "Checked in order after a good restore; the first that fails makes it a failed one."},
	}}
}

func hookShape() *shape {
	fields := programFields()
	fields[0].needed = true
	return &shape{name: "hook", doc: "A program to run.", fields: fields}
}

func healthShape() *shape {
	return &shape{name: "health check", doc: "A program that must end with 0, or a page that must answer: exactly one of run and http.", fields: append(programFields(),
		field{name: "http", form: formSection, shape: pageShape(), doc: "The page."})}
}

func programFields() []field {
	return []field{
		{name: "run", form: formArguments, example: "[systemctl, restart, app]", doc: "The program and its arguments; no shell is involved. The program is an absolute path, or a name that is found in the usual folders of the system."},
		{name: "dir", form: formPath, fallback: "/", example: "/srv/app", doc: "Its working folder."},
		{name: "env", form: formVariables, fallback: "none", example: "{APP_ENV: production}", doc: "Variables it is given; a value is a text or a secret reference in its section form."},
		{name: "user", form: formText, fallback: "the user that runs holdfast", example: "app", doc: "The user to run it as; this takes root."},
		{name: "timeout", form: formSpan, fallback: "60s", doc: "After this long it is ended, with all that it started in its process group."},
	}
}

func pageShape() *shape {
	return &shape{name: "page", doc: "A request and the answer that is expected. Certificates are checked, redirects are not followed, no proxy is used.", fields: []field{
		{name: "url", form: formText, needed: true, example: "https://app.example.org/health", doc: "The address, http or https, without a password."},
		{name: "status", form: formNumber, fallback: "200", min: 100, max: 599, doc: "The status that must be answered."},
		{name: "body", form: formText, fallback: "anything", example: `'"ok":true'`, doc: "A text that the body must contain."},
		{name: "timeout", form: formSpan, fallback: "10s", doc: "How long one request may take."},
		{name: "within", form: formSpan, fallback: "60s", doc: "How long it is tried again, once a second, until it answers so."},
	}}
}

func (r *reader) readHooks(s *section, path string, into *Hooks) {
	read := func(key string, shape *shape, set *HookSet) {
		node, _, found := s.value(key)
		if !found {
			return
		}
		inner := r.section(node, join(path, key), shape)
		if inner == nil {
			return
		}
		set.Before = r.readSteps(inner, "before")
		set.After = r.readSteps(inner, "after")
		if _, known := shape.field("health"); known {
			set.Health = r.readSteps(inner, "health")
		}
	}
	read("backup", backupHooksShape(), &into.Backup)
	read("restore", restoreHooksShape(), &into.Restore)
}

func (r *reader) readSteps(s *section, key string) []Hook {
	f, _ := s.shape.field(key)
	nodes, _ := s.elements(key, "sections with run")
	var hooks []Hook
	for i, node := range nodes {
		if inner := r.section(node, element(s.path, key, i), f.shape); inner != nil {
			hooks = append(hooks, r.readHook(inner))
		}
	}
	return hooks
}

func (r *reader) readHook(s *section) Hook {
	h := Hook{Timeout: hook.DefaultTimeout}
	if _, known := s.shape.field("http"); known {
		program, page := s.values["run"] != nil, s.values["http"] != nil
		if program == page {
			what := "neither is given"
			if page {
				what = "both are given"
			}
			r.fault(s.at, "%s: a health check has exactly one of run and http; %s", s.path, what)
		}
		for _, name := range []string{"dir", "env", "user", "timeout"} {
			if page && !program && s.values[name] != nil {
				r.fault(s.placeOf(name), "%s.%s: is about a program, and this check is of a page", s.path, name)
			}
		}
		if node, _, found := s.value("http"); found {
			if inner := r.section(node, join(s.path, "http"), pageShape()); inner != nil {
				h.Page = r.readPage(inner)
			}
		}
	}
	h.Run = s.arguments("run")
	s.pathTo("dir", &h.Dir)
	h.Env = s.variables("env")
	s.text("user", &h.User)
	s.span("timeout", &h.Timeout)
	return h
}

func (r *reader) readPage(s *section) HookPage {
	p := HookPage{Status: hook.DefaultStatus, Timeout: hook.DefaultAnswer, Within: hook.DefaultWithin}
	s.one("url", "text", func(text string, _ field) error {
		p.URL = text
		return checkPage(text)
	})
	s.number("status", &p.Status)
	s.text("body", &p.Body)
	s.span("timeout", &p.Timeout)
	s.span("within", &p.Within)
	return p
}

// checkPage validates the address of a page. It repeats nothing of it: there may be a password in it.
func checkPage(text string) error {
	address, err := url.Parse(text)
	switch {
	case err != nil || address.Scheme != "http" && address.Scheme != "https" || address.Host == "":
		return errors.New("must be an address such as http://127.0.0.1:8080/health")
	case address.User != nil:
		return errors.New("holds a user or password; let the page answer without one, or check with a program (run)")
	}
	return nil
}

// arguments reads an argument vector.
func (s *section) arguments(name string) []string {
	nodes, found := s.elements(name, "the program and its arguments")
	if found && len(nodes) == 0 {
		s.r.fault(s.placeOf(name), "%s: needs the program at least", join(s.path, name))
	}
	var args []string
	for i, node := range nodes {
		path := element(s.path, name, i)
		text, ok := s.scalar(node, path, "text")
		switch {
		case !ok:
		case strings.ContainsRune(text, 0):
			s.r.fault(s.r.at(node), "%s: must not hold a NUL character", path)
		case i == 0 && text == "":
			s.r.fault(s.r.at(node), "%s: must not be empty", path)
		case i == 0 && strings.Contains(text, "/") && !filepath.IsAbs(text):
			s.r.fault(s.r.at(node), "%s: %q must be an absolute path, or a name without a slash", path, text)
		case i == 0 && strings.ContainsAny(text, " \t"):
			s.r.fault(s.r.at(node), "%s: %q holds a blank; write the program and each argument as an element of its own: [systemctl, stop, app]", path, text)
		}
		args = append(args, text)
	}
	return args
}

var variableRule = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// variables reads the environment of a program.
func (s *section) variables(name string) []HookVariable {
	node, _, found := s.value(name)
	if !found {
		return nil
	}
	path := join(s.path, name)
	if node.Kind != yaml.MappingNode {
		s.r.fault(s.r.at(node), "%s: must be a section of variables: {NAME: value}", path)
		return nil
	}
	s.found(name, node)
	told := []string{hook.EnvHook, hook.EnvJob, hook.EnvResult, hook.EnvBackupID}
	var all []HookVariable
	for _, p := range s.r.pairs(node, path) {
		v := HookVariable{Name: p.key.Value}
		at := join(path, v.Name)
		switch {
		case !variableRule.MatchString(v.Name):
			s.r.fault(s.r.at(p.key), "%s: %q is no name of a variable", path, v.Name)
			continue
		case slices.Contains(told, v.Name):
			s.r.fault(s.r.at(p.key), "%s: holdfast itself sets this variable", at)
			continue
		case p.value.Kind == yaml.MappingNode:
			if !s.secretSection(p.value, at, &v.Secret) || !s.settle(p.value, at, &v.Secret) {
				continue
			}
		default:
			text, ok := s.scalar(p.value, at, "text")
			if !ok {
				continue
			}
			if strings.ContainsRune(text, 0) {
				s.r.fault(s.r.at(p.value), "%s: must not hold a NUL character", at)
				continue
			}
			v.Text = text
		}
		all = append(all, v)
	}
	return all
}

// hooks shows what is run around a job's runs.
func (s *settings) hooks(path string, hooks Hooks) {
	for _, set := range []struct {
		name string
		HookSet
	}{{"backup", hooks.Backup}, {"restore", hooks.Restore}} {
		for _, list := range []struct {
			name  string
			hooks []Hook
		}{{"before", set.Before}, {"after", set.After}, {"health", set.Health}} {
			for i, h := range list.hooks {
				s.hook(element(path+set.name, list.name, i)+".", h)
			}
		}
	}
}

func (s *settings) hook(path string, h Hook) {
	if h.Page.URL != "" {
		path += "http."
		s.add(path+"url", h.Page.URL)
		s.add(path+"status", strconv.Itoa(h.Page.Status))
		s.given(path+"body", h.Page.Body)
		s.add(path+"timeout", formatSpan(h.Page.Timeout))
		s.add(path+"within", formatSpan(h.Page.Within))
		return
	}
	s.add(path+"run", quoteList(h.Run))
	s.given(path+"dir", h.Dir)
	var env []string
	for _, v := range h.Env {
		value := v.Text
		if !v.Secret.IsZero() {
			value = v.Secret.String()
		}
		env = append(env, v.Name+"="+value)
	}
	s.given(path+"env", strings.Join(env, ", "))
	s.given(path+"user", h.User)
	s.add(path+"timeout", formatSpan(h.Timeout))
}

// Steps makes of hooks what can be run; secrets are resolved.
func Steps(ctx context.Context, hooks []Hook) ([]hook.Step, error) {
	var steps []hook.Step
	for _, h := range hooks {
		if h.Page.URL != "" {
			steps = append(steps, hook.Page{URL: h.Page.URL, Status: h.Page.Status, Body: h.Page.Body, Timeout: h.Page.Timeout, Within: h.Page.Within})
			continue
		}
		command := hook.Command{Args: h.Run, Dir: h.Dir, User: h.User, Timeout: h.Timeout}
		for _, v := range h.Env {
			text := v.Text
			if !v.Secret.IsZero() {
				secret, err := v.Secret.Resolve(ctx)
				if err != nil {
					return nil, fmt.Errorf("variable %s of a hook: %w", v.Name, err)
				}
				text = secret.Reveal()
			}
			command.Env = append(command.Env, v.Name+"="+text)
		}
		steps = append(steps, command)
	}
	return steps, nil
}

// hookVariables lists what all hooks are given.
func (c *Config) hookVariables() []HookVariable {
	var all []HookVariable
	for _, job := range c.Jobs {
		for _, set := range []HookSet{job.Hooks.Backup, job.Hooks.Restore} {
			for _, h := range slices.Concat(set.Before, set.After, set.Health) {
				all = append(all, h.Env...)
			}
		}
	}
	return all
}

// KnownSecrets resolves every secret that the configuration refers to, so that it can be kept out of what is shown. One
// that cannot be had here cannot be shown here either, and is left out.
func (c *Config) KnownSecrets(ctx context.Context) []holdfast.Secret {
	var refs []SecretRef
	for _, key := range c.Keys {
		refs = append(refs, key.Passphrase)
	}
	for _, src := range c.Sources {
		refs = append(refs, src.Postgres.Password)
	}
	for _, v := range c.hookVariables() {
		refs = append(refs, v.Secret)
	}
	secrets := []holdfast.Secret{c.PostgresPassword}
	asked := map[string]bool{}
	for _, ref := range refs {
		if ref.IsZero() || ref.given.IsZero() && asked[ref.String()] {
			continue
		}
		asked[ref.String()] = true
		if secret, err := ref.Resolve(ctx); err == nil {
			secrets = append(secrets, secret)
		}
	}
	return slices.DeleteFunc(secrets, holdfast.Secret.IsZero)
}
