package sagemaker

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Sizes of a page (API reference, ListNotebookInstances and ListTags).
const (
	defaultPage, largestPage         = 10, 100
	defaultTags, fewestTags, mostTag = 50, 50, 100
)

func list(c *core.Call) error {
	size, set, err := c.In.Int("MaxResults")
	if !set {
		size = defaultPage
	}
	sortBy, order, status := c.In.Str("SortBy"), c.In.Str("SortOrder"), c.In.Str("StatusEquals")
	switch {
	case err != nil || size < 1 || size > largestPage:
		return validation("Value at 'maxResults' must be between 1 and %d", largestPage)
	case sortBy != "" && sortBy != "Name":
		return validation("the simulator sorts by Name only")
	case !slices.Contains([]string{"", "Ascending", "Descending"}, order):
		return validation("Value '%s' at 'sortOrder' failed to satisfy constraint", order)
	case status != "" && !slices.Contains(statuses, status):
		return validation("Value '%s' at 'statusEquals' failed to satisfy constraint", status)
	}
	all := slices.DeleteFunc(storeOf(c.Place).sorted(), func(n *notebook) bool {
		return status != "" && n.state.Seen(c.Now).status != status || !strings.Contains(n.Name, c.In.Str("NameContains"))
	})
	if order == "Descending" {
		slices.Reverse(all)
	}
	page, next, err := cutPage(all, c.In.Str("NextToken"), int(size), func(n *notebook) string { return n.Name })
	if err != nil {
		return err
	}
	c.Out.List("NotebookInstances", func() {
		for _, n := range page {
			c.Out.Struct("", func() { writeSummary(c, n) })
		}
	})
	c.Out.Opt("NextToken", next)
	return nil
}

// cutPage gives the items after the one that the token names.
func cutPage[T any](all []T, token string, size int, key func(T) string) (page []T, next string, err error) {
	if token != "" {
		after, err := base64.RawURLEncoding.DecodeString(token)
		at := slices.IndexFunc(all, func(v T) bool { return key(v) == string(after) })
		if err != nil || at < 0 {
			return nil, "", validation("The token is not valid")
		}
		all = all[at+1:]
	}
	if len(all) <= size {
		return all, "", nil
	}
	return all[:size], base64.RawURLEncoding.EncodeToString([]byte(key(all[size-1]))), nil
}

func writeSummary(c *core.Call, n *notebook) {
	w, s := c.Out, n.state.Seen(c.Now)
	w.Str("NotebookInstanceName", n.Name)
	w.Str("NotebookInstanceArn", arn(c.Place, n.Name))
	w.Str("NotebookInstanceStatus", s.status)
	w.Str("InstanceType", n.InstanceType)
	w.Time("CreationTime", n.Created)
	w.Time("LastModifiedTime", s.modified)
}

// named finds the notebook instance that the call names.
func named(c *core.Call) (*notebook, error) {
	name := c.In.Str("NotebookInstanceName")
	if !notebookName.MatchString(name) {
		return nil, validation("Value '%s' at 'notebookInstanceName' failed to satisfy constraint", name)
	}
	c.Touch(name)
	n := storeOf(c.Place).byName[name]
	if n == nil {
		return nil, validation("RecordNotFound")
	}
	return n, nil
}

func describe(c *core.Call) error {
	n, err := named(c)
	if err != nil {
		return err
	}
	writeSummary(c, n)
	w, s := c.Out, n.state.Seen(c.Now)
	w.Str("RoleArn", n.RoleARN)
	w.Str("DirectInternetAccess", "Enabled")
	w.Int("VolumeSizeInGB", 5)
	w.Str("RootAccess", "Enabled")
	w.Str("PlatformIdentifier", "notebook-al2-v2")
	if s.status == failed {
		w.Str("FailureReason", "InternalServerError")
	}
	if s.minimum != "" {
		w.Struct("InstanceMetadataServiceConfiguration", func() { w.Str("MinimumInstanceMetadataServiceVersion", s.minimum) })
	}
	return nil
}

func listTags(c *core.Call) error {
	size, set, err := c.In.Int("MaxResults")
	if !set {
		size = defaultTags
	}
	if err != nil || size < fewestTags || size > mostTag {
		return validation("Value at 'maxResults' must be between %d and %d", fewestTags, mostTag)
	}
	all := storeOf(c.Place).sorted()
	at := slices.IndexFunc(all, func(n *notebook) bool { return arn(c.Place, n.Name) == c.In.Str("ResourceArn") })
	if at < 0 {
		return wire.Errorf("ResourceNotFound", "The resource %s does not exist, or is none that the simulator knows.",
			c.In.Str("ResourceArn"))
	}
	c.Touch(all[at].Name)
	page, next, err := cutPage(all[at].tags, c.In.Str("NextToken"), int(size), func(t tag) string { return t.Key })
	if err != nil {
		return err
	}
	c.Out.List("Tags", func() {
		for _, t := range page {
			c.Out.Struct("", func() {
				c.Out.Str("Key", t.Key)
				c.Out.Str("Value", t.Value)
			})
		}
	})
	c.Out.Opt("NextToken", next)
	return nil
}

// move finds the notebook instance and refuses, in SageMaker's words, where its status does not allow the transition.
func move(c *core.Call, to string, from ...string) (*notebook, error) {
	n, err := named(c)
	if err != nil {
		return nil, err
	}
	if status := n.state.Newest().status; !slices.Contains(from, status) {
		return nil, validation("Status (%s) not in ([%s]). Unable to transition to (%s) for Notebook Instance (%s)", status,
			strings.Join(from, ", "), to, arn(c.Place, n.Name))
	}
	return n, nil
}

func stop(c *core.Call) error {
	n, err := move(c, stopping, inService)
	if err != nil {
		return err
	}
	n.pass(c, stopping, stopped, nil)
	c.Mutated(n.Name)
	return nil
}

func start(c *core.Call) error {
	n, err := move(c, pending, stopped, failed)
	if err != nil {
		return err
	}
	n.pass(c, pending, inService, nil)
	c.Mutated(n.Name)
	return nil
}

func update(c *core.Call) error {
	in := c.In.Get("InstanceMetadataServiceConfiguration")
	version := in.Str("MinimumInstanceMetadataServiceVersion")
	for _, name := range in.Names() {
		if name != "MinimumInstanceMetadataServiceVersion" {
			return validation("The parameter InstanceMetadataServiceConfiguration.%s is not known to the simulator", name)
		}
	}
	n, err := move(c, updating, stopped)
	switch {
	case err != nil:
		return err
	case in.IsSet() && version != "1" && version != "2":
		return validation("Value '%s' at 'minimumInstanceMetadataServiceVersion' failed to satisfy constraint", version)
	case !in.IsSet():
		return validation("No parameters were specified to update")
	}
	n.pass(c, updating, stopped, func(s *state) { s.minimum = version })
	c.Mutated(n.Name)
	return nil
}
