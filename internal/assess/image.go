package assess

import (
	"fmt"
	"slices"

	"github.com/imdsctl/imdsctl/internal/inventory"
)

// image judges an AMI by everything that would be launched from it and leaves it to the image whether tokens are required: what
// an image requires cannot be taken back. Whoever says it himself, in a template or by the account's default, is pinned, and has
// no part in it.
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
	if f := j.joint(r.Ref); len(f.calls) > 0 {
		j.seenCalls(v, r, f)
		return v
	}
	users, against := 0, []string(nil)
	for i := range j.in.Snapshot.Resources {
		u := &j.in.Snapshot.Resources[i]
		uv := j.report.verdicts[u.Ref]
		if uv == nil || !j.leftTo(r.Ref.ID, u) {
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
		v.set(Unknown, CodeNoConsumers, "nothing that was read would take it from the image")
	default:
		v.set(Ready, CodeCovered, "all that would take it from the image is ready or done")
	}
	return v
}

// leftTo tells whether some launch of a launcher, or the next of an instance without one, is from the image and takes from it
// whether tokens are required, or may.
func (j *judge) leftTo(image string, u *inventory.Resource) bool {
	switch {
	case j.in.Manners[u.Ref.Kind].Role == RoleLauncher:
		return slices.ContainsFunc(j.launches(u), func(f FutureLaunch) bool { return f.Image == image && silentAbove(f.Launch) })
	case u.Ref.Kind != inventory.KindInstance || j.index.Group(u) != nil:
		return false // what started it stands for it
	}
	if l, ok := u.Link(inventory.LaunchedFrom); ok {
		if source := j.index.Resource(l.To); source != nil {
			f := j.sourceLaunch(source, inventory.SelectDefault)
			return (f.Image == image || f.Image == "" && u.Attrs[inventory.AttrImage] == image) && silentAbove(f.Launch)
		}
	}
	return u.Attrs[inventory.AttrImage] == image && silentAbove(j.report.Next(u))
}

// silentAbove tells whether nothing above the image decides about tokens, as far as is known.
func silentAbove(l Launch) bool {
	switch l.Tokens.Source {
	case OriginParameters, OriginTemplate, OriginConfiguration, OriginDefault:
		return l.Tokens.Unknown != ""
	}
	return true
}
