package workload

import (
	"fmt"
	"slices"
)

// Where selects the instances on which a program runs. Any one match suffices; an empty Where matches nothing.
type Where struct {
	Instances []string `json:"instances,omitempty"`
	// Tags are "key=value".
	Tags      []string `json:"tags,omitempty"`
	Groups    []string `json:"groups,omitempty"`
	Images    []string `json:"images,omitempty"`
	Templates []string `json:"templates,omitempty"` // names or ids
	// Account restricts the groups, images, templates and tags to one account; empty means all.
	Account string `json:"account,omitempty"`
}

// Subject is what a Where can match.
type Subject struct {
	Account, Instance, Group, Image string
	TemplateID, TemplateName        string
	Tags                            func(yield func(key, value string) bool)
}

// Deployments says which programs run where. The zero value is empty; adding is not safe beside other use.
type Deployments struct {
	programs []*Program
	index    map[string][]int // selector → positions in programs
}

// Add puts a program where it says. It returns the program as kept, which must not be changed.
func (d *Deployments) Add(p Program, where Where) (*Program, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	var keys []string
	put := func(kind, account string, values []string) {
		for _, v := range values {
			keys = append(keys, kind+"\x00"+account+"\x00"+v)
		}
	}
	put("instance", "", where.Instances)
	put("tag", where.Account, where.Tags)
	put("group", where.Account, where.Groups)
	put("image", where.Account, where.Images)
	put("template", where.Account, where.Templates)
	if len(keys) == 0 {
		return nil, fmt.Errorf("program %q: runs nowhere: name instances, tags, groups, images or templates", p.Name)
	}
	if d.index == nil {
		d.index = map[string][]int{}
	}
	kept := &p
	d.programs = append(d.programs, kept)
	for _, k := range keys {
		d.index[k] = append(d.index[k], len(d.programs)-1)
	}
	return kept, nil
}

// All lists the programs in the order they were added.
func (d *Deployments) All() []*Program { return slices.Clone(d.programs) }

// On lists the programs that run on an instance, in the order they were added, each once.
func (d *Deployments) On(s Subject) []*Program {
	if len(d.programs) == 0 {
		return nil
	}
	var found []int
	key := make([]byte, 0, 96)
	look := func(kind, account, value string) {
		if value == "" {
			return
		}
		key = append(append(append(append(append(key[:0], kind...), 0), account...), 0), value...)
		found = append(found, d.index[string(key)]...)
	}
	look("instance", "", s.Instance)
	accounts := []string{"", s.Account}
	if s.Account == "" {
		accounts = accounts[:1]
	}
	for _, account := range accounts {
		look("group", account, s.Group)
		look("image", account, s.Image)
		look("template", account, s.TemplateID)
		look("template", account, s.TemplateName)
		if s.Tags != nil {
			s.Tags(func(k, v string) bool {
				look("tag", account, k+"="+v)
				return true
			})
		}
	}
	slices.Sort(found)
	found = slices.Compact(found)
	out := make([]*Program, len(found))
	for i, n := range found {
		out[i] = d.programs[n]
	}
	return out
}
