// Package all is the list of the kinds imdsctl knows, in the order in which a place is scanned.
//
// It owns nothing else: adding a kind is its folder and one line here. The suite in kindtest runs over this list, and
// Check keeps it in step with the folders.
package all

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/kinds/accountdefaults"
	"github.com/imdsctl/imdsctl/internal/kinds/ami"
	"github.com/imdsctl/imdsctl/internal/kinds/appstream"
	"github.com/imdsctl/imdsctl/internal/kinds/autoscalinggroup"
	"github.com/imdsctl/imdsctl/internal/kinds/batchenvironment"
	"github.com/imdsctl/imdsctl/internal/kinds/beanstalkenvironment"
	"github.com/imdsctl/imdsctl/internal/kinds/ec2fleet"
	"github.com/imdsctl/imdsctl/internal/kinds/ec2instance"
	"github.com/imdsctl/imdsctl/internal/kinds/ecscapacity"
	"github.com/imdsctl/imdsctl/internal/kinds/eksnodegroup"
	"github.com/imdsctl/imdsctl/internal/kinds/emrsecurityconfiguration"
	"github.com/imdsctl/imdsctl/internal/kinds/iamrole"
	"github.com/imdsctl/imdsctl/internal/kinds/imagebuilder"
	"github.com/imdsctl/imdsctl/internal/kinds/launchconfiguration"
	"github.com/imdsctl/imdsctl/internal/kinds/launchtemplate"
	"github.com/imdsctl/imdsctl/internal/kinds/lightsailinstance"
	"github.com/imdsctl/imdsctl/internal/kinds/loadbalancer"
	"github.com/imdsctl/imdsctl/internal/kinds/organizationpolicy"
	"github.com/imdsctl/imdsctl/internal/kinds/sagemakernotebook"
	"github.com/imdsctl/imdsctl/internal/kinds/securitygroup"
	"github.com/imdsctl/imdsctl/internal/kinds/spotfleet"
	"github.com/imdsctl/imdsctl/internal/kinds/ssmagent"
	"github.com/imdsctl/imdsctl/internal/kinds/workspacesinstance"
)

// Entry is one kind and the way to its driver.
type Entry struct {
	Kind kind.Kind
	// Open makes the driver for one place, as the caller that cfg has credentials of. It makes no call.
	Open func(cfg aws.Config, place fleet.Place, c clock.Clock) kind.Driver
}

// List gives all kinds. Groups come after templates, whose further versions are read once the groups have named them.
func List() []Entry {
	return []Entry{
		{ec2instance.Kind(), ec2instance.Open},
		{launchtemplate.Kind(), launchtemplate.Open},
		{launchconfiguration.Kind(), launchconfiguration.Open},
		{autoscalinggroup.Kind(), autoscalinggroup.Open},
		{ec2fleet.Kind(), ec2fleet.Open},
		{spotfleet.Kind(), spotfleet.Open},
		{ami.Kind(), ami.Open},
		{eksnodegroup.Kind(), eksnodegroup.Open},
		{batchenvironment.Kind(), batchenvironment.Open},
		{ecscapacity.Kind(), ecscapacity.Open},
		{ssmagent.Kind(), ssmagent.Open},
		{sagemakernotebook.Kind(), sagemakernotebook.Open},
		{lightsailinstance.Kind(), lightsailinstance.Open},
		{beanstalkenvironment.Kind(), beanstalkenvironment.Open},
		{emrsecurityconfiguration.Kind(), emrsecurityconfiguration.Open},
		{appstream.Kind(), appstream.Open},
		{workspacesinstance.Kind(), workspacesinstance.Open},
		{imagebuilder.Kind(), imagebuilder.Open},
		{securitygroup.Kind(), securitygroup.Open},
		{loadbalancer.Kind(), loadbalancer.Open},
		{accountdefaults.Kind(), accountdefaults.Open},
		{iamrole.Kind(), iamrole.Open},
		{organizationpolicy.Kind(), organizationpolicy.Open},
	}
}

// Find finds a kind by name.
func Find(name string) (Entry, bool) {
	for _, e := range List() {
		if e.Kind.Name == name {
			return e, true
		}
	}
	return Entry{}, false
}

// own is this package's folder, the one under kinds that is no kind.
const own = "all"

// Check compares the folders of kinds with a list: a kind that is in only one of them, or twice in the list, is an
// error.
func Check(folders fs.FS, list []Entry) error {
	entries, err := fs.ReadDir(folders, ".")
	if err != nil {
		return fmt.Errorf("read the folders of kinds: %w", err)
	}
	open := map[string]bool{}
	for _, e := range entries {
		if e.IsDir() && e.Name() != own {
			open[e.Name()] = true
		}
	}
	var problems []error
	seen := map[string]bool{}
	for _, e := range list {
		folder := e.Kind.Folder()
		switch {
		case seen[folder]:
			problems = append(problems, fmt.Errorf("kind %s is listed twice; remove one line of kinds/all", e.Kind.Name))
		case !open[folder]:
			problems = append(problems, fmt.Errorf("kind %s is listed but has no folder kinds/%s", e.Kind.Name, folder))
		}
		seen[folder] = true
		delete(open, folder)
	}
	for _, e := range entries {
		if open[e.Name()] {
			problems = append(problems, fmt.Errorf("folder kinds/%s is not listed; add its line to kinds/all", e.Name()))
		}
	}
	return errors.Join(problems...)
}
