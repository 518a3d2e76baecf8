package assess

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// FieldEnforced is the field of an account's defaults under which a launch whose resolved tokens are optional fails.
const FieldEnforced = "HttpTokensEnforced"

// defaultsID is the id of an account's defaults in a region, where they were not read.
const defaultsID = "metadata-defaults"

// FutureLaunch is one way in which hosts will be launched: one per source that a launcher names.
type FutureLaunch struct {
	// By is who launches. An unused source stands for who names it in RunInstances, and the account's defaults for those who name
	// none.
	By   fleet.Ref `json:"by"`
	Name string    `json:"name,omitempty"`
	// Field is the field of By's state that names the source; empty where it is not one of several.
	Field string `json:"field,omitempty"`
	// From is the launch template or configuration; zero where there is none. Version is what Selector means now.
	From     fleet.Ref `json:"from,omitzero"`
	FromName string    `json:"from_name,omitempty"`
	Selector string    `json:"selector,omitempty"`
	Version  string    `json:"version,omitempty"`
	// Image is the AMI; empty where it is not known.
	Image string `json:"image,omitempty"`
	// Launch is what a host launched like this would get.
	Launch Launch `json:"launch"`
	V1     V1     `json:"v1"`
	// Verdict is By's.
	Verdict *Verdict `json:"verdict,omitempty"`

	// unresolved is why its source is not known; outside, that the account's defaults do not bear on it.
	unresolved string
	outside    bool
}

// Launches lists every future launch of the place that was read: of each launcher, by each source it names; of the default and
// latest version of a template that no launcher names, or whose default people launch from; and of a RunInstances call that
// names no template and sends no metadata options. Sorted by who launches.
func (r *Report) Launches() []FutureLaunch {
	j := r.judge
	if slices.ContainsFunc(j.in.Snapshot.Scopes, func(sc inventory.Scope) bool { return sc.Status == inventory.ScopeDisabled }) {
		return nil // nothing can be launched in a region that the account has not enabled
	}
	var out []FutureLaunch
	for i := range j.in.Snapshot.Resources {
		s := &j.in.Snapshot.Resources[i]
		switch role := j.in.Manners[s.Ref.Kind].Role; {
		case s.Status == inventory.StatusTerminated:
		case role == RoleLauncher && !j.byOthers(s):
			out = append(out, j.launches(s)...)
		case role == RoleSource && s.Ref.Kind != inventory.KindImage:
			out = append(out, j.unused(s)...)
		}
	}
	if r.Place.Region != "" {
		out = append(out, j.bare())
	}
	for i := range out {
		out[i].V1, out[i].Verdict = out[i].Launch.V1(), r.verdicts[out[i].By]
	}
	slices.SortStableFunc(out, func(a, b FutureLaunch) int { return a.By.Compare(b.By) })
	return out
}

// Next is what the next host in an instance's place would get: what its group launches, the weakest where it launches several;
// else what its template's default version says; else what RunInstances gives its image.
func (r *Report) Next(instance *inventory.Resource) Launch {
	j := r.judge
	if group := j.index.Group(instance); group != nil {
		launch, _ := j.effective(group)
		return launch
	}
	if l, ok := instance.Link(inventory.LaunchedFrom); ok {
		if source := j.index.Resource(l.To); source != nil {
			return j.sourceLaunch(source, inventory.SelectDefault).Launch
		}
	}
	in := j.input(nil)
	in.Image = j.imageOf(imagesOf(instance, "", nil, ""))
	return Effective(in)
}

// LaunchKinds are the kinds whose gaps leave launches out, or fields of them unknown.
func LaunchKinds(manners map[string]Manner) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(manners)), func(name string) bool {
		role := manners[name].Role
		return role != RoleLauncher && role != RoleSource && role != RoleDefault
	})
}

// launches are those of a launcher: by each source it names; with options of its own alone; or, where it has neither, those of
// the groups it operates or scales.
func (j *judge) launches(r *inventory.Resource) []FutureLaunch {
	var out []FutureLaunch
	for _, l := range r.Links {
		if l.Relation == inventory.LaunchesFrom {
			out = append(out, j.launch(r, l))
		}
	}
	if len(out) > 0 || r.Says != nil {
		if len(out) == 0 {
			out = j.ownLaunches(r)
		}
		return out
	}
	for _, g := range j.groupsOf(r) {
		for _, l := range g.Links {
			if l.Relation == inventory.LaunchesFrom {
				out = append(out, j.launch(g, l))
			}
		}
	}
	if len(out) == 0 {
		out = append(out, j.nowhere(r))
	}
	return out
}

// byOthers tells whether the launches of a launcher are those of groups that are listed by themselves.
func (j *judge) byOthers(r *inventory.Resource) bool {
	return !names(r) && r.Says == nil && len(j.groupsOf(r)) > 0
}

// names tells whether a launcher names what it launches from.
func names(r *inventory.Resource) bool {
	_, ok := r.Link(inventory.LaunchesFrom)
	return ok
}

// groupsOf are the launchers that r operates or scales.
func (j *judge) groupsOf(r *inventory.Resource) []*inventory.Resource {
	var out []*inventory.Resource
	for _, l := range r.Links {
		if l.Relation != inventory.Operates && l.Relation != inventory.Scales {
			continue
		}
		if g := j.index.Resource(l.To); g != nil && g != r && j.in.Manners[g.Ref.Kind].Role == RoleLauncher {
			out = append(out, g)
		}
	}
	return out
}

// launch is what r launches by one of its links.
func (j *judge) launch(r *inventory.Resource, l inventory.Link) FutureLaunch {
	f := FutureLaunch{By: r.Ref, Name: r.Name, Field: l.Field, From: l.To, Selector: l.Selector}
	source := j.index.Resource(l.To)
	in := j.input(r)
	if l.Starts && (l.Selector == "" || l.Selector == inventory.SelectDefault || l.Selector == inventory.SelectLatest) {
		// A service that replaces what runs to follow a template took the number that the selector meant at that time.
		f.unresolved = fmt.Sprintf("it launches the version that %s of its template %s was at its last update, which AWS does not show: "+
			"let it name the version by its number", cmp.Or(l.Selector, inventory.SelectDefault), l.To.ID)
		in.Source = Level{Origin: originOf(l.To.Kind), Where: l.To.ID, Unread: f.unresolved}
		in.Image = j.imageOf(imagesOf(r, l.Field, nil, ""))
		f.Launch = Effective(in)
		return f
	}
	if source == nil {
		f.unresolved = fmt.Sprintf("its %s %s was not read", l.To.Kind, l.To.ID)
		in.Source = Level{Origin: originOf(l.To.Kind), Where: l.To.ID, Unread: f.unresolved}
		in.Image = j.imageOf(imagesOf(r, l.Field, nil, ""))
	} else {
		f.FromName = source.Name
		in.Source, f.Version = level(source, l.Selector)
		f.unresolved = in.Source.Unread
		in.Image = j.imageOf(imagesOf(r, l.Field, source, f.Version))
	}
	f.Image, f.Launch = in.Image.ID, Effective(in)
	return f
}

// ownLaunches are those of a launcher that names no source and has options of its own: one for each image it names.
func (j *judge) ownLaunches(r *inventory.Resource) []FutureLaunch {
	in := j.input(r)
	images := []Image{j.imageOf(imagesOf(r, "", nil, ""))}
	if ids := imagesBeside(r); len(ids) > 0 {
		images = images[:0]
		for _, id := range ids {
			images = append(images, j.readImage(id))
		}
	}
	var out []FutureLaunch
	for _, in.Image = range images {
		out = append(out, FutureLaunch{By: r.Ref, Name: r.Name, Image: in.Image.ID, Launch: Effective(in), outside: in.Service != ""})
	}
	return out
}

// nowhere is that of a launcher of which nothing was read that tells what it launches.
func (j *judge) nowhere(r *inventory.Resource) FutureLaunch {
	f := FutureLaunch{By: r.Ref, Name: r.Name, unresolved: "it launches from nothing that was read"}
	in := j.input(r)
	in.Source = Level{Unread: f.unresolved}
	f.Launch = Effective(in)
	return f
}

// unused are the launches of a source by its default and latest version: all of them where no launcher names it, and the default
// where instances were launched from it without one.
func (j *judge) unused(r *inventory.Resource) []FutureLaunch {
	selectors := []string{inventory.SelectDefault, inventory.SelectLatest}
	if len(j.index.Consumers(r.Ref)) > 0 {
		if len(j.bareUsers(r)) == 0 {
			return nil
		}
		selectors = selectors[:1]
	}
	var out []FutureLaunch
	for _, s := range selectors {
		f := j.sourceLaunch(r, s)
		if len(out) == 0 || out[0].Version != f.Version {
			out = append(out, f)
		}
	}
	return out
}

// sourceLaunch is that of who names the source in RunInstances and sends no metadata options.
func (j *judge) sourceLaunch(r *inventory.Resource, selector string) FutureLaunch {
	in := j.input(nil)
	f := FutureLaunch{By: r.Ref, Name: r.Name, From: r.Ref, FromName: r.Name, Selector: selector}
	in.Source, f.Version = level(r, selector)
	f.unresolved = in.Source.Unread
	in.Image = j.imageOf(imagesOf(nil, "", r, f.Version))
	f.Image, f.Launch = in.Image.ID, Effective(in)
	return f
}

// bare is a RunInstances call that names an image only: the account's default decides, over an image that nobody knows.
func (j *judge) bare() FutureLaunch {
	in := j.input(nil)
	in.Image.Unread = "the image that the call names decides"
	f := FutureLaunch{By: fleet.Ref{Place: j.report.Place, Kind: inventory.KindAccountDefaults, ID: defaultsID}, Name: "RunInstances"}
	if d := j.defaults(); d != nil {
		f.By = d.Ref
	}
	f.Launch = Effective(in)
	return f
}

// input is what bears on a launch of r besides its source and image.
func (j *judge) input(r *inventory.Resource) LaunchInput {
	var in LaunchInput
	if r != nil && r.Says != nil {
		in.Parameters = Level{Origin: OriginParameters, Where: r.Ref.ID, Says: *r.Says}
	}
	if r != nil && !j.in.Manners[r.Ref.Kind].Metric && !names(r) {
		in.Service = "what a " + r.Ref.Kind + " launches where it says nothing is the service's own matter"
	}
	d := j.defaults()
	in.Default = Level{Origin: OriginDefault, Where: defaultsID, Unread: j.missing(inventory.KindAccountDefaults)}
	if d != nil && in.Default.Unread == "" {
		in.Default.Where, in.Default.Says, in.Enforced = d.Ref.ID, d.State.Options(), d.State[FieldEnforced]
	}
	return in
}

// missing is why resources of a kind that are absent may yet exist; empty where all were read.
func (j *judge) missing(kind string) string {
	if gap, ok := j.in.Snapshot.Gap(kind); ok {
		return fmt.Sprintf("%s could not be read (%s): %s", kind, gap.Class, gap.Detail)
	}
	if !j.in.Snapshot.Read(kind) {
		return kind + " was not read: scan this place again"
	}
	return ""
}

// level is what a source says in the version that the selector means now.
func level(source *inventory.Resource, selector string) (l Level, version string) {
	version, said, ok := launchOptions(source, selector)
	l = Level{Origin: originOf(source.Ref.Kind), Version: version, Where: source.Ref.ID, Says: said}
	if !ok {
		l.Unread = fmt.Sprintf("version %s of its template %s was not read: it may have been deleted", selector, source.Ref.ID)
		if version != selector && version != "" {
			l.Unread = fmt.Sprintf("version %s (%s) of its template %s was not read", selector, version, source.Ref.ID)
		}
		if l.Origin == OriginConfiguration {
			l.Unread = "what the launch configuration " + source.Ref.ID + " says was not read"
		}
	}
	return l, version
}

func originOf(kind string) Origin {
	if kind == inventory.KindLaunchConfiguration {
		return OriginConfiguration
	}
	return OriginTemplate
}

// imageOf is the AMI of a launch that may be of any of some images.
func (j *judge) imageOf(ids []string) Image {
	switch len(ids) {
	case 0:
		return Image{Unread: "which image it launches is not known"}
	case 1:
		return j.readImage(ids[0])
	}
	first := j.readImage(ids[0])
	for _, id := range ids[1:] {
		if other := j.readImage(id); other.Unread != "" || first.Unread != "" || other.V2 != first.V2 {
			return Image{Unread: "it launches one of several images: " + strings.Join(ids, ", ")}
		}
	}
	first.ID = strings.Join(ids, ",")
	return first
}

// imagesOf lists the images that a launch may be of. What a launcher has under AttrImage, or under AttrImage/FIELD for the
// field that names the source, replaces the source's; what it has under any other AttrImage/… (an override that launches from
// the same source) stands beside it.
func imagesOf(launcher *inventory.Resource, field string, source *inventory.Resource, version string) []string {
	var ids []string
	if launcher != nil {
		if id := launcher.Attrs[inventory.AttrImage+"/"+field]; id != "" && field != "" {
			return []string{id}
		}
		ids = imagesBeside(launcher)
		if id := launcher.Attrs[inventory.AttrImage]; id != "" && len(ids) == 0 {
			return []string{id}
		}
	}
	if source != nil {
		id := source.Attrs[inventory.AttrImage+"/"+version]
		if id == "" && version == source.State[inventory.FieldDefaultVersion] { // a launch configuration has no versions
			id = source.Attrs[inventory.AttrImage]
		}
		if id != "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// imagesBeside lists the images of a launcher's overrides or specifications that belong to no link, each once.
func imagesBeside(launcher *inventory.Resource) []string {
	var ids []string
	for key, id := range launcher.Attrs {
		field, ok := strings.CutPrefix(key, inventory.AttrImage+"/")
		if ok && id != "" && !slices.ContainsFunc(launcher.Links, func(l inventory.Link) bool { return l.Field == field }) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// readImage is what the snapshot knows of an image.
func (j *judge) readImage(id string) Image {
	i := Image{ID: id}
	r := j.index.Resource(fleet.Ref{Place: j.report.Place, Kind: inventory.KindImage, ID: id})
	switch {
	case r != nil:
		i.V2 = r.Options().Tokens == fleet.TokensRequired
	case !strings.HasPrefix(id, "ami-"):
		i.Unread = "its image is " + id + ", which EC2 looks up at each launch"
	case !j.in.Snapshot.Read(inventory.KindImage):
		i.Unread = "its image " + id + " was not read: scan this place again"
	case j.missing(inventory.KindImage) != "":
		i.Unread = "its image " + id + " is not known: " + j.missing(inventory.KindImage)
	default:
		i.Unread = "its image " + id + " does not exist, or is not shared with this account"
	}
	return i
}
