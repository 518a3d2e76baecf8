package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/followup"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// LoadConfig reads a configuration. A file that is not there is an error only where it was asked for by name
// (explicit); otherwise the default holds. A diagnostic of severity error comes with a nil configuration.
func LoadConfig(path string, explicit bool) (*policy.Config, []fleet.Diagnostic, error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !explicit:
		return policy.Default(), nil, nil
	case err != nil:
		return nil, nil, fmt.Errorf("read the configuration: %w", err)
	}
	config, problems := policy.Parse(data, path, KindNames())
	if slices.ContainsFunc(problems, func(d fleet.Diagnostic) bool { return d.Severity == fleet.SeverityError }) {
		return nil, problems, nil
	}
	return config, problems, nil
}

// Kinds describes all kinds imdsctl knows.
func Kinds() []kind.Kind {
	var out []kind.Kind
	for _, e := range all.List() {
		out = append(out, e.Kind)
	}
	return out
}

// FollowUpActions lists the calls of a configuration's follow-ups, for the role that writes, and those by which first launches
// are watched.
func FollowUpActions(c *policy.Config) []kind.Action {
	var documents []string
	for i := range c.FollowUps {
		if name := c.FollowUps[i].SSM.Document; name != "" {
			documents = append(documents, name)
		}
	}
	actions := followup.Actions(documents...)
	if c.Targets.Templates {
		actions = append(actions, followup.ProofActions()...)
	}
	return actions
}

// KindNames lists the names of all kinds.
func KindNames() []string {
	var out []string
	for _, k := range Kinds() {
		out = append(out, k.Name)
	}
	return out
}
