// Package owners reads what infrastructure as code says it manages: Terraform state files, and the resources of CloudFormation
// stacks. It gives claims, each the identity of a resource with the code that lists it, and finds those on a resource.
//
// It owns the ways in which Terraform and CloudFormation name the resources that imdsctl knows. It is pure: bytes and names come
// in, claims go out. A state file holds secrets; nothing of one leaves the package but types, names, modules, ids and places,
// and no error quotes a file's content.
package owners

import (
	"cmp"
	"slices"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// Claim says that code manages a resource.
type Claim struct {
	Kind string
	// ID is the resource's id within its kind, or its name where the code knows no more (Beanstalk environments).
	ID string
	// Place is where it is. An empty part is not known; nothing is claimed by a name alone, so it is empty only where ids are
	// unique in the world.
	Place fleet.Place
	// Owner is the code: Terraform with the resource's address, module and file; CloudFormation with its logical id and stack.
	Owner fleet.Owner
}

// Book finds claims by resource. The zero Book has none. It is for one goroutine while claims are added, and then for many.
type Book struct{ claims map[key][]Claim }

type key struct{ kind, id string }

// Add enters claims.
func (b *Book) Add(claims ...Claim) {
	if b.claims == nil {
		b.claims = map[key][]Claim{}
	}
	for _, c := range claims {
		k := key{c.Kind, c.ID}
		b.claims[k] = append(b.claims[k], c)
	}
}

// Of lists the code that claims a resource, in order and each once. Nil where none does.
func (b *Book) Of(r *inventory.Resource) []fleet.Owner {
	if b == nil || len(b.claims) == 0 {
		return nil
	}
	found := b.claims[key{r.Ref.Kind, r.Ref.ID}]
	if r.Ref.Kind == inventory.KindBeanstalk && r.Name != "" {
		found = slices.Concat(found, b.claims[key{r.Ref.Kind, r.Name}])
	}
	var out []fleet.Owner
	for _, c := range found {
		if within(c.Place, r.Ref.Place) {
			out = append(out, c.Owner)
		}
	}
	slices.SortFunc(out, func(a, b fleet.Owner) int { return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name)) })
	return slices.Compact(out)
}

// Len is the number of claims.
func (b *Book) Len() int {
	n := 0
	for _, c := range b.claims {
		n += len(c)
	}
	return n
}

// within tells whether a claim that knows so much of its place may be meant for a resource of that place.
func within(claimed, place fleet.Place) bool {
	return (claimed.Partition == "" || claimed.Partition == place.Partition) &&
		(claimed.Account == "" || claimed.Account == place.Account) && (claimed.Region == "" || claimed.Region == place.Region)
}
