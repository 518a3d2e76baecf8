package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/owners"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// OwnerActions lists the calls by which a scan learns which CloudFormation stack manages what, for the role that reads.
func OwnerActions(c *policy.Config) []kind.Action {
	if !c.Owners.CloudFormation {
		return nil
	}
	return []kind.Action{
		{Name: "cloudformation:ListStacks", Resource: "*"},
		{Name: "cloudformation:ListStackResources", Resource: "arn:{partition}:cloudformation:{region}:{account}:stack/*"},
	}
}

// claims reads the configuration's Terraform states. What of them cannot be placed comes as a note; a file that cannot be read
// is an error, because without it the plan would not name code that the configuration says is there.
func (a *App) claims() (*owners.Book, []fleet.Diagnostic, error) {
	book := &owners.Book{}
	var notes []fleet.Diagnostic
	var bad []error
	for _, pattern := range a.config.Owners.Terraform {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			bad = append(bad, fleet.Diagnostic{Severity: fleet.SeverityError, Where: pattern,
				Summary: "no Terraform state matches this pattern of `owners.terraform`",
				Remedy:  "Correct the pattern, or run imdsctl in the directory that it begins from."})
			continue
		}
		for _, path := range paths {
			note, err := readState(book, path)
			if err != nil {
				bad = append(bad, err)
			}
			notes = append(notes, note...)
		}
	}
	return book, notes, errors.Join(bad...)
}

func readState(book *owners.Book, path string) ([]fleet.Diagnostic, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read a Terraform state: %w", err)
	}
	f, err := owners.ParseTerraform(data, path)
	if err != nil {
		return nil, err
	}
	book.Add(f.Claims...)
	var notes []fleet.Diagnostic
	for _, address := range f.Unplaced {
		notes = append(notes, fleet.Diagnostic{Severity: fleet.SeverityWarning, Where: path,
			Summary: "the state does not tell in which account and region " + address + " is, so it is no resource's owner",
			Remedy:  "Give the state file itself, which tells the provider of each resource, or keep it in mind when its setting is changed."})
	}
	return notes, nil
}
