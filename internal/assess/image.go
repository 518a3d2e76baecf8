package assess

import (
	"fmt"
	"slices"

	"github.com/imdsctl/imdsctl/internal/inventory"
)

// image judges an AMI by everything that would be launched from it and says nothing of tokens itself: what an image
// requires cannot be taken back, and holds for every launch that is silent.
func (j *judge) image(r *inventory.Resource) *Verdict {
	v := &Verdict{Ref: r.Ref, Effective: r.Options()}
	if j.settled(v, r, v.Effective) {
		return v
	}
	if owner := r.Attrs[inventory.AttrImageOwner]; owner != "" && owner != string(r.Ref.Account) {
		v.set(Blocked, CodeManaged, "it belongs to %s: only its owner can change it", owner)
		return v
	}
	if j.unread(v, j.inheriting()...) {
		return v
	}
	users, against := 0, []string(nil)
	for i := range j.in.Snapshot.Resources {
		u := &j.in.Snapshot.Resources[i]
		uv := j.report.verdicts[u.Ref]
		if uv == nil || u.Ref.Kind == inventory.KindImage || !j.launchesImage(u, r.Ref.ID) {
			continue
		}
		users++
		if uv.Status != Ready && uv.Status != Done {
			against = append(against, fmt.Sprintf("%s %s is %s", u.Ref.Kind, u.Ref.ID, uv.Status))
		}
	}
	slices.Sort(against)
	switch {
	case len(against) > 0:
		v.set(Blocked, CodeConsumers, "%s would inherit it: %s", plural(len(against), "resource"), firstOf(against, 3))
	case users == 0:
		v.set(Unknown, CodeNoConsumers, "nothing that was read runs or launches from it")
	default:
		v.set(Ready, CodeCovered, "all that runs or launches from it is ready or done")
	}
	return v
}

// launchesImage tells whether a resource runs from the image, or would launch it in any version that is in use.
func (j *judge) launchesImage(r *inventory.Resource, image string) bool {
	if j.in.Manners[r.Ref.Kind].Role == RoleDefault {
		return false
	}
	for key, value := range r.Attrs {
		if value == image && (key == inventory.AttrImage || len(key) > len(inventory.AttrImage) &&
			key[:len(inventory.AttrImage)+1] == inventory.AttrImage+"/") {
			return true
		}
	}
	return slices.ContainsFunc(r.Links, func(l inventory.Link) bool {
		if l.Relation != inventory.LaunchesFrom {
			return false
		}
		source := j.index.Resource(l.To)
		if source == nil {
			return false
		}
		version := inventory.ResolveVersion(source, l.Selector)
		return source.Attrs[inventory.AttrImage+"/"+version] == image || version == "" && source.Attrs[inventory.AttrImage] == image
	})
}
