package eks

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// updateVersion starts an update. A request under a token that was used before gives the update of that time.
func updateVersion(c *core.Call) error {
	g, err := nodegroupOf(c)
	if err != nil {
		return err
	}
	s, token := storeOf(c.Place), c.In.Str("clientRequestToken")
	asked := strings.Join(c.In.Flat(), "\n")
	if u := g.byToken[token]; token != "" && u != nil {
		if u.asked != asked {
			return invalid("The client request token %s was used with other parameters.", token)
		}
		u.write(c.Out, g.name)
		return nil
	}
	if status := g.state.Newest().status; status != statusActive && status != statusDegraded {
		return &wire.Error{
			Code: "ResourceInUseException", Status: http.StatusConflict,
			Message: "Nodegroup cannot be updated as it is currently not in Active State",
		}
	}
	want, err := s.target(c, g)
	if err != nil {
		return err
	}
	force, _, err := c.In.Bool("force")
	if err != nil {
		return err
	}
	u := &update{id: s.id(), status: updateInProgress, created: c.Now, asked: asked}
	u.params = [][2]string{{"Version", want.version}, {"ReleaseVersion", want.release}}
	if g.templateID != "" {
		u.params = append(u.params, [2]string{"LaunchTemplateVersion", strconv.FormatInt(want.templateVersion, 10)})
	}
	g.updates = append(g.updates, u)
	if token != "" {
		g.byToken[token] = u
	}
	s.begin(g, u, want, force, c.Now)
	c.Mutated(g.cluster.name + "/" + g.name)
	u.write(c.Out, g.name)
	return nil
}

// target is what the node group will be. What is not asked for moves to the newest: Kubernetes to the cluster's version and
// the image to its newest release; neither ever goes back (UpdateNodegroupVersion).
func (s *store) target(c *core.Call, g *nodegroup) (nodegroupState, error) {
	want := g.state.Newest()
	if err := s.targetTemplate(c, g, &want); err != nil {
		return want, err
	}
	version, release := c.In.Str("version"), c.In.Str("releaseVersion")
	if g.custom() {
		if version != "" || release != "" {
			return want, invalid("You cannot specify an image or Kubernetes version when using a custom AMI in the launch template.")
		}
		want.release = ec2.StoreOf(s.place).VersionText(g.templateID, strconv.FormatInt(want.templateVersion, 10), "ImageId")
		return want, nil
	}
	was := want
	want.version = g.cluster.version
	if version != "" {
		want.version = version
	}
	switch {
	case later(want.version, g.cluster.version):
		return want, invalid("Nodegroup Kubernetes version %s is newer than the cluster's, %s.", want.version, g.cluster.version)
	case later(was.version, want.version):
		return want, invalid("Requested Nodegroup Kubernetes version %s is older than the current one, %s.", want.version, was.version)
	}
	want.release = s.newest(want.version).Release
	if release == "" {
		return want, nil
	}
	r, known := s.release(release)
	switch {
	case release == was.release && want.version == was.version:
	case !known || r.Version != want.version:
		return want, invalid("Requested release version %s is not valid for kubernetes version %s.", release, want.version)
	case later(was.release, release):
		return want, invalid("Requested release version %s is older than the current one, %s.", release, was.release)
	}
	want.release = release
	return want, nil
}

// targetTemplate reads launchTemplate: the node group's own, by id or by name, in a version that exists.
func (s *store) targetTemplate(c *core.Call, g *nodegroup, want *nodegroupState) error {
	if !c.In.Has("launchTemplate") {
		return nil
	}
	in := c.In.Get("launchTemplate")
	id, name := in.Str("id"), in.Str("name")
	for _, member := range in.Names() {
		if member != "id" && member != "name" && member != "version" {
			return invalid("launchTemplate: the parameter %s is not recognized", member)
		}
	}
	switch {
	case g.templateID == "":
		return invalid("The node group was not deployed with a launch template, and cannot be updated with one.")
	case (id == "") == (name == ""):
		return invalid("Either launch template ID or name must be specified, and not both.")
	case id != "" && id != g.templateID, name != "" && name != g.templateName:
		return invalid("The launch template must be the one that the node group was created with, %s.", g.templateID)
	}
	version := in.Str("version")
	if version == "" {
		version = "$Default"
	}
	n, err := ec2.StoreOf(s.place).ResolveVersion(g.templateID, version)
	if err != nil {
		return invalid("%s", wire.AsError(err).Message)
	}
	want.templateVersion = n
	return nil
}

// begin marks the node group and has the update carried out.
func (s *store) begin(g *nodegroup, u *update, want nodegroupState, force bool, now time.Time) {
	was := g.state.Newest()
	busy := was
	busy.status, busy.modified = statusUpdating, now
	g.state.Set(now, s.place.World().Consistency(), busy)
	s.place.After(now, s.node, func(at time.Time) {
		end := func(at time.Time, err error) { s.end(g, u, was, want, at, err) }
		if g.evicts != "" && !force {
			end(at, &failure{"PodEvictionFailure", "Reached max retries while trying to evict pods from nodes in node group " +
				g.name + ": " + g.evicts})
			return
		}
		if err := s.roll(g, want, at, end); err != nil {
			end(at, err)
		}
	})
}

// failure is why an update failed, in EKS's words.
type failure struct{ code, why string }

func (f *failure) Error() string { return f.why }

// roll gives the group a new version of EKS's own template and has its nodes replaced. A node group whose group is not in the
// simulated Auto Scaling has none.
func (s *store) roll(g *nodegroup, want nodegroupState, now time.Time, end func(time.Time, error)) error {
	groups := autoscaling.StoreOf(s.place)
	src, ok := groups.SourceOf(g.group)
	if !ok {
		end(now, nil)
		return nil
	}
	own, err := s.keep(g, src, want, now)
	if err != nil {
		return err
	}
	return groups.Replace(g.group, now, own, func(at time.Time, err error) {
		if err != nil {
			_ = groups.SetSource(g.group, at, src) // it was the group's until now
		}
		end(at, err)
	})
}

// keep makes a version of EKS's own template, which the group launches from then.
func (s *store) keep(g *nodegroup, src autoscaling.Source, want nodegroupState, now time.Time) (autoscaling.Source, error) {
	image := s.image(g, want)
	own := ec2.TemplateSeed{Name: "eks-" + s.id(), Tags: s.ownTags(g)}
	ref := src.Template
	if src.Mixed != nil {
		ref = &src.Mixed.Template
	}
	if ref != nil && ref.ID != g.templateID {
		own = ec2.TemplateSeed{ID: ref.ID}
	}
	version := ""
	if g.templateID == "" && own.ID == "" {
		// What EKS makes by itself gives containers a way to the metadata service ("Managed node groups").
		own.Versions = []ec2.VersionSeed{{Data: []byte(`{"MetadataOptions":{"HttpPutResponseHopLimit":2}}`)}}
	}
	if g.templateID != "" {
		version = strconv.FormatInt(want.templateVersion, 10)
	}
	id, n, err := ec2.StoreOf(s.place).KeepVersion(now, own, g.templateID, version, map[string]string{
		"ImageId": image, "InstanceType": append(g.types, "")[0],
	})
	if err != nil {
		return src, err
	}
	next := autoscaling.TemplateRef{ID: id, Version: strconv.FormatInt(n, 10)}
	if src.Mixed != nil {
		mixed := *src.Mixed
		mixed.Template = next
		return autoscaling.Source{Mixed: &mixed}, nil
	}
	return autoscaling.Source{Template: &next}, nil
}

// image is what nodes of the release boot from, where their template does not say.
func (s *store) image(g *nodegroup, want nodegroupState) string {
	if r, ok := s.release(want.release); ok && r.ImageID != "" {
		return r.ImageID
	}
	return g.image
}

func (s *store) ownTags(g *nodegroup) map[string]string {
	return map[string]string{"eks:cluster-name": g.cluster.name, "eks:nodegroup-name": g.name}
}

// end closes an update: only now does the node group read as what was asked for, or again as what it was.
func (s *store) end(g *nodegroup, u *update, was, want nodegroupState, now time.Time, err error) {
	next := want
	next.status, next.modified, u.status = statusActive, now, updateSuccessful
	if err != nil {
		next, u.status = was, updateFailed
		next.modified = now
		u.code, u.why = "NodeCreationFailure", wire.AsError(err).Message
		if f, ok := errors.AsType[*failure](err); ok {
			u.code, u.why = f.code, f.why
		}
	}
	g.state.Set(now, s.place.World().Consistency(), next)
}
