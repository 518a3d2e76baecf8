package attention

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/product"
)

// candidates are the callers that nobody saw, and that what was found would explain.
func (x *explanation) candidates() []Item {
	var out []Item
	if len(x.refused) > 0 {
		out = append(out, x.uncertified())
	}
	if len(x.raw) > 0 {
		out = append(out, x.byHand())
	}
	for _, c := range x.idle {
		if c.ID == ssmAgent && x.oldAgent != nil {
			continue // the agent has its item
		}
		i := x.item(x.w, x.cause(c), c.ID)
		i.Because = append(i.Because, fmt.Sprintf("%s is installed there; nothing shows whether it runs", c.title()))
		x.remedy(&i, c)
		out = append(out, i)
	}
	if x.hops().Low() && x.Calls() {
		out = append(out, x.outOfReach())
	}
	if len(out) == 0 {
		if i, ok := x.appliance(); ok {
			out = append(out, i)
		}
	}
	return out
}

// Calls tells whether v1 calls succeed: what falls back does so with success.
func (x *explanation) Calls() bool { return x.w.verdict.Basis.Calls > 0 }

// byHand is the item of scripts and sources that call without a token.
func (x *explanation) byHand() Item {
	i := x.item(x.w, RawCall, "")
	var at []string
	for _, finding := range x.raw {
		at = append(at, finding.Detail)
	}
	at = distinct(at)
	i.Title = "a script calls the metadata service without a token: " + few(shortened(at, 60), 2)
	i.Because = append(i.Because, fmt.Sprintf("%s found that calls it by hand; nothing shows whether it runs", verbed(len(at), "place was", "places were")))
	i.Fix = "Ask for a token first, and send it with each request, in " + few(at, 4) + "."
	i.Steps = []string{
		`TOKEN=$(curl -sf -X PUT http://169.254.169.254/latest/api/token -H "X-aws-ec2-metadata-token-ttl-seconds: 300")`,
		`curl -sf -H "X-aws-ec2-metadata-token: $TOKEN" http://169.254.169.254/latest/meta-data/…`,
	}
	i.Links = []string{linkRetrieve}
	x.cite(&i, x.raw)
	return i
}

func verbed(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func shortened(items []string, n int) []string {
	out := make([]string, len(items))
	for i, s := range items {
		out[i] = shorten(s, n)
	}
	return out
}

// uncertified is the item of programs that failed where only v2 is answered.
func (x *explanation) uncertified() Item {
	i := x.item(x.w, NotCertified, "")
	var what []string
	for _, finding := range x.refused {
		what = append(what, finding.Detail)
	}
	i.Confidence = Certain
	i.Title = "a program did not pass its certification: " + few(distinct(what), 2)
	i.Because = append(i.Because, "it was run where only IMDSv2 is answered, and did not work")
	i.Fix = "Upgrade what calls IMDSv1 in it, and certify it again."
	x.cite(&i, x.refused)
	return i
}

// outOfReach is the item of containers whose tokens do not reach them.
func (x *explanation) outOfReach() Item {
	i := x.item(x.w, HopLimitLow, "")
	h := x.hops()
	i.Title = fmt.Sprintf("the hop limit is %d, and its containers need %d: their tokens never arrive, and they fall back", h.Now, h.Needed)
	i.Because = append(i.Because, h.Why)
	x.reach(&i)
	return i
}

// appliance is the item of a vendor's image, where the instances run one.
func (x *explanation) appliance() (Item, bool) {
	image := x.image()
	if image == nil {
		return Item{}, false
	}
	known, verdict, ok := x.judgeImage(image)
	if !ok || verdict.Judgement == product.Speaks || system(known) {
		return Item{}, false
	}
	i := x.item(x.w, Appliance, known.ID)
	i.Because = append(i.Because, fmt.Sprintf("its image %s is one of %s", nameOf(image), known.Name))
	x.remedy(&i, &caller{Product: known, verdict: verdict})
	i.Title = fmt.Sprintf("it runs %s, whose software calls IMDSv1", known.Name)
	switch {
	case verdict.Judgement == product.Unclear && verdict.First == "":
		i.Confidence = Possible
		i.Because = append(i.Because, "which of its versions speak IMDSv2 is not known")
		i.Steps = append(i.Steps, "until the vendor has a version that speaks IMDSv2, except it with an end date")
	case verdict.First == "":
		i.Steps = append(i.Steps, "no fixed version is known: until there is one, except it with an end date")
	}
	return i, true
}

// judgeImage asks the table of products about an image.
func (x *explanation) judgeImage(image *inventory.Resource) (product.Product, product.Verdict, bool) {
	verdict, id, ok := x.Products.Appliance(image.Attrs[inventory.AttrImageOwner], imageName(image), productCodes(image), created(image))
	if !ok {
		return product.Product{}, verdict, false
	}
	known, ok := x.Products.Find(id)
	return known, verdict, ok
}

// system tells the image of an operating system, or one that is only old, from a vendor's product.
func system(p product.Product) bool {
	return p.Image == nil || slices.Contains(p.Image.Owners, "amazon") || len(p.Image.Owners)+len(p.Image.Codes) == 0 && slices.Contains(p.Image.Names, "*")
}

// image is the AMI that the workload's instances run.
func (x *explanation) image() *inventory.Resource {
	for _, m := range x.w.members {
		if id := m.Attrs[inventory.AttrImage]; id != "" {
			if image := x.index.Resource(m.Ref.Sibling(inventory.KindImage, id)); image != nil {
				return image
			}
		}
	}
	// An image that is gone, or that its owner does not show any more, has left its product codes on what was launched from it.
	for _, m := range x.w.members {
		if codes := m.Attrs[inventory.AttrProductCodes]; codes != "" {
			return &inventory.Resource{Ref: m.Ref.Sibling(inventory.KindImage, m.Attrs[inventory.AttrImage]),
				Attrs: map[string]string{inventory.AttrProductCodes: codes}}
		}
	}
	return nil
}

// nameOf is an image's id with its name.
func nameOf(image *inventory.Resource) string {
	if name := imageName(image); name != "" {
		return image.Ref.ID + " (" + name + ")"
	}
	return image.Ref.ID
}

// created is when an image was made; zero where it is not known.
func created(image *inventory.Resource) time.Time {
	at, err := time.Parse(time.RFC3339, image.Attrs[inventory.AttrCreated])
	if err != nil {
		return time.Time{}
	}
	return at
}

// weak explains the calls by when they come, by the age of the image, or not at all.
func (x *explanation) weak() Item {
	if s := x.w.verdict.Schedule; s != nil {
		return x.scheduled(s)
	}
	if x.atBoots() {
		return x.boots()
	}
	if i, ok := x.oldImage(); ok {
		return i
	}
	return x.unknown()
}

// atBoots tells whether every period with calls is the one of a launch, or the next.
func (x *explanation) atBoots() bool {
	seen := false
	for _, m := range x.hosts(x.w) {
		for _, window := range x.Evidence[m.Ref] {
			if window.Span != x.Span {
				continue
			}
			boot := window.Span.Slot(m.Launched)
			for _, p := range window.Points {
				if p.Slot != boot && p.Slot != boot+1 {
					return false
				}
				seen = true
			}
		}
	}
	return seen
}

func (x *explanation) boots() Item {
	i := x.item(x.w, BootCaller, "")
	i.Title = "something calls IMDSv1 when an instance boots, and at no other time"
	i.Because = append(i.Because, "all periods with calls are those of a launch")
	i.Fix = "Look at what runs at boot: user data, cloud-init's own version, init scripts and agents' installers."
	i.Steps = append([]string{"on an instance: sudo cat /var/lib/cloud/instance/user-data.txt; cloud-init --version; systemd-analyze blame"},
		x.next()...)
	i.Links = []string{linkRetrieve, linkTrace}
	return i
}

// oldImage is the item of an image whose own tools may call.
func (x *explanation) oldImage() (Item, bool) {
	image := x.image()
	if image == nil {
		return Item{}, false
	}
	const old = 3 * 365 * 24 * time.Hour
	name, made := imageName(image), created(image)
	deprecated, err := time.Parse(time.RFC3339, image.Attrs[inventory.AttrDeprecated])
	known, verdict, listed := x.judgeImage(image)
	i := x.item(x.w, OldImage, "")
	i.Confidence = Possible
	i.Fix = "Launch it from a current image, Amazon Linux 2023 for example, and see whether the calls end."
	switch {
	case strings.HasPrefix(name, "amzn-ami-"):
		i.Confidence = Likely
		i.Title = "it runs Amazon Linux 1, whose tools call IMDSv1"
		i.Because = append(i.Because, fmt.Sprintf("its image is %s (%s); Amazon Linux 1 has been out of support since the end of 2023", image.Ref.ID, name))
		i.Links = []string{linkAmazonLinux1}
	case listed && system(known) && verdict.Judgement == product.Old:
		i.Confidence, i.Product = Likely, known.ID
		i.Title = "its image is so old that its own tools know only IMDSv1"
		i.Because = append(i.Because, fmt.Sprintf("its image is %s (%s), made on %s: %s", image.Ref.ID, name, made.Format(time.DateOnly), known.Name))
		i.Steps = append(i.Steps, verdict.Fix)
	case err == nil && deprecated.Before(x.Now):
		i.Title = "its image is deprecated, and may hold tools that know only IMDSv1"
		i.Because = append(i.Because, fmt.Sprintf("its image %s is deprecated since %s", image.Ref.ID, deprecated.Format(time.DateOnly)))
	case !made.IsZero() && x.Now.Sub(made) > old:
		i.Title = "its image is old, and may hold tools that know only IMDSv1"
		i.Because = append(i.Because, fmt.Sprintf("its image %s was made on %s", image.Ref.ID, made.Format(time.DateOnly)))
	default:
		return Item{}, false
	}
	i.Because = append(i.Because, "no source named a caller, and the calls follow no schedule")
	if verdict.Source != "" && listed && system(known) {
		i.Links = append(i.Links, verdict.Source)
	}
	i.Steps = distinct(i.Steps)
	next := x.next()
	if i.Confidence == Possible { // a new image is much work for a guess
		i.Fix, next = "Find out who calls: "+next[0]+".", append(next[1:], "or launch it from a current image and see whether the calls end")
	}
	i.Steps = append(i.Steps, next...)
	i.Links = append(i.Links, linkTrace)
	return i, true
}

func (x *explanation) unknown() Item {
	i := x.item(x.w, UnknownCaller, "")
	i.Confidence = Certain
	i.Title = "something calls IMDSv1, and no source has named it"
	i.Because = append(i.Because, "its calls were counted, and nothing that was found explains them")
	if at, ok := x.imported(evidence.SourceCloudTrail); ok {
		i.Because = append(i.Because, fmt.Sprintf("CloudTrail was imported for the time until %s and names nobody: the caller reads no "+
			"credentials, or uses none", stamp(at)))
	}
	next := x.next()
	i.Fix, i.Steps = "Find out who calls: "+next[0]+".", next[1:]
	i.Links = []string{linkTrace}
	return i
}

// next says what to ask next, in the order of what it costs, without what was asked already.
func (x *explanation) next() []string {
	var out []string
	if _, ok := x.imported(evidence.SourceCloudTrail); !ok {
		out = append(out, "import CloudTrail's log files (`imdsctl evidence import s3://BUCKET/AWSLogs`), which name who used credentials of IMDSv1")
	}
	if !x.scanned() {
		what := "its image or file system"
		if image := x.image(); image != nil {
			what = "its image (" + image.Ref.ID + ")"
		}
		out = append(out, "look for old SDKs, and for scripts that call by hand, with `imdsctl software scan` on "+what)
	}
	host := "one of its instances"
	if len(x.w.members) > 0 {
		host = x.w.members[0].Ref.ID
	}
	return append(out, "watch which process calls: run `imdsctl trace --for 24h` (Linux) on "+host)
}

// imported tells whether a source was taken in, and until when it tells.
func (x *explanation) imported(source evidence.Source) (until time.Time, ok bool) {
	for _, in := range x.Imports {
		if in.Source == source && !in.Sample && in.Lost == "" {
			ok = true
			if in.To.After(until) {
				until = in.To
			}
		}
	}
	return until, ok
}

// scanned tells whether software was looked for on the workload, and some was found.
func (x *explanation) scanned() bool {
	return slices.ContainsFunc(x.w.findings, func(finding evidence.Finding) bool { return finding.Source == evidence.SourceSoftware })
}

// finish adds what the metric counted, and what else there is to know of the workload.
func (x *explanation) finish(i *Item) {
	v := x.w.verdict
	b := v.Basis
	if b.Calls > 0 {
		x.saw(i, b.Source, b.Start, b.End, "%s, the last after %s; %d of %d periods covered", plural(b.Calls, "IMDSv1 call"),
			stamp(b.LastCall), b.Covered, b.Periods)
		x.within(i, evidence.MetricNoToken)
	}
	if b.Rejected > 0 {
		x.saw(i, b.Source, b.Start, b.End, "%s refused, the last after %s", verbed64(b.Rejected, "IMDSv1 call was", "IMDSv1 calls were"), stamp(b.LastRejected))
		i.Because = append(i.Because, "tokens are required on a part of it already, and what calls there fails now")
		x.within(i, evidence.MetricRejected)
	}
	if !i.Cause.noise() && x.oldAgent == nil && i.Cause != UnknownCaller {
		if len(x.Snapshot.Resources) > 0 && x.agentsRead() {
			i.Because = append(i.Because, "it is not the SSM agent: none that calls IMDSv1 by itself is on its instances")
		}
	}
	if !i.Cause.noise() && x.oldAgent != nil {
		i.Because = append(i.Because, "an old SSM agent calls as well, and is an item of its own")
	}
	if h := v.Hops; i.Cause == OldSDK && h != nil && !h.Low() && h.Now > 0 {
		i.Because = append(i.Because, fmt.Sprintf("it is not the hop limit: %d is enough here", h.Now))
	}
	if o := x.managedBy(); o.Managed {
		i.Steps = append(i.Steps, "then have IMDSv2 required by its owner: "+placeOf(o).where)
	}
	if s := v.Schedule; s != nil && i.Cause != ScheduledCaller {
		i.Because = append(i.Because, "its calls follow a schedule: "+scheduleWords(s))
	}
	if c := i.Code; c.IsCode() {
		i.Steps = append(i.Steps, "require IMDSv2 in its code too, or the code changes it back: "+c.String())
	}
}

func verbed64(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// within widens the time of an item by that of a metric's calls.
func (x *explanation) within(i *Item, metric evidence.Metric) {
	first, last := x.calledBetween(x.hosts(x.w), metric)
	x.bound(i, first, last)
}

// managedBy is the service that operates the workload's members.
func (x *explanation) managedBy() fleet.Owner {
	for _, m := range x.w.members {
		if o := x.index.Owner(m); o.Managed {
			return o
		}
	}
	return fleet.Owner{}
}
