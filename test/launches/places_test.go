package launches

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

const account fleet.AccountID = "111111111111"

// TestPlaces scans random places, and compares every future launch that imdsctl lists with what the simulator would launch.
func TestPlaces(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			d := &drawn{rng: rand.New(rand.NewPCG(seed, 4))}
			place := d.draw(t)
			list := scan(t, d.world)
			if len(list) == 0 {
				t.Fatal("no launches")
			}
			place.With(func(time.Time) { d.compare(t, place, list) })
		})
	}
}

// drawn is a random place.
type drawn struct {
	rng       *rand.Rand
	world     *awssim.World
	images    []string
	templates []string
	versions  int
}

func one[T any](d *drawn, of ...T) T { return of[d.rng.IntN(len(of))] }

func (d *drawn) draw(t *testing.T) *core.Place {
	t.Helper()
	d.world = awssim.New(awssim.Options{Clock: clock.Scaled(time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC), 3600), Unthrottled: true})
	if err := d.world.LoadSeed(&core.Seed{Organization: core.Organization{ManagementAccount: account},
		Accounts: []core.AccountSeed{{ID: account}}}); err != nil {
		t.Fatal(err)
	}
	place, err := d.world.Place(account, "eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	place.With(func(now time.Time) {
		for _, step := range []func(*core.Place, time.Time) error{d.sources, d.groups} {
			if err == nil {
				err = step(place, now.Add(-time.Hour))
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return place
}

func (d *drawn) sources(p *core.Place, now time.Time) error {
	s := ec2.StoreOf(p)
	s.SetDefaults(now, ec2.Defaults{ManagedBy: ec2.ManagedByAccount, Enforced: one(d, "", "", fleet.Enabled), Options: fleet.Options{
		Tokens: one(d, "", "", "optional", "required"), HopLimit: one(d, 0, 0, 3), Endpoint: one(d, "", "", "", "disabled"),
		Tags: one(d, "", "enabled")}})
	for n := range 3 {
		id := fmt.Sprintf("ami-%017x", n+1)
		d.images = append(d.images, id)
		if err := s.AddImage(now, ec2.ImageSeed{ID: id, ImdsV2: n == 2}); err != nil {
			return err
		}
	}
	d.versions = 3
	for n := range 5 {
		id := fmt.Sprintf("lt-%017x", n+1)
		seed := ec2.TemplateSeed{ID: id, Name: "template-" + strconv.Itoa(n), Default: int64(1 + d.rng.IntN(d.versions))}
		for range d.versions {
			seed.Versions = append(seed.Versions, ec2.VersionSeed{Data: fmt.Appendf(nil, `{"ImageId": %q, "InstanceType": "m5.large", "MetadataOptions": %s}`,
				one(d, d.images...), one(d, `{}`, `{}`, `{"HttpTokens": "optional"}`, `{"HttpTokens": "required", "HttpPutResponseHopLimit": 4}`,
					`{"HttpEndpoint": "disabled"}`, `{"HttpProtocolIpv6": "enabled", "InstanceMetadataTags": "disabled"}`))})
		}
		if _, err := s.AddTemplate(now, seed, id); err != nil {
			return err
		}
		d.templates = append(d.templates, id)
	}
	for n := range 2 {
		if err := autoscaling.StoreOf(p).PutConfig(autoscaling.Config{Name: "config-" + strconv.Itoa(n), ImageID: one(d, d.images...),
			InstanceType: "m5.large", Options: fleet.Options{Tokens: one(d, "", "optional", "required")}, Created: now}); err != nil {
			return err
		}
	}
	return nil
}

// reference names one of the templates but the last, which nothing names.
func (d *drawn) reference() autoscaling.TemplateRef {
	return autoscaling.TemplateRef{ID: one(d, d.templates[:len(d.templates)-1]...), Version: one(d, "", "$Default", "$Latest", "1", "2", "3")}
}

func (d *drawn) groups(p *core.Place, now time.Time) error {
	for n := range 8 {
		var source autoscaling.Source
		switch {
		case n == 0:
			source.Config = "config-0"
		case n < 5:
			ref := d.reference()
			source.Template = &ref
		default:
			source.Mixed = &autoscaling.Mixed{Template: d.reference()}
			for i := range d.rng.IntN(4) {
				o := autoscaling.Override{InstanceType: fmt.Sprintf("m%d.large", 4+i)}
				if one(d, true, false) {
					ref := d.reference()
					o.Template = &ref
				}
				o.ImageID = one(d, append([]string{"", "", ""}, d.images...)...)
				source.Mixed.Overrides = append(source.Mixed.Overrides, o)
			}
		}
		spec := autoscaling.Spec{Source: source, Max: 1, Zones: []string{"eu-west-1a"}}
		if err := autoscaling.StoreOf(p).Create(now, "group-"+strconv.Itoa(n), spec); err != nil {
			return err
		}
	}
	return nil
}

// scan reads the place, and lists its launches.
func scan(t *testing.T, w *awssim.World) []assess.FutureLaunch {
	t.Helper()
	cfg, problems := policy.Parse([]byte("version: 1\norganization: {discover: self, regions: [eu-west-1]}\n"), "imdsctl.yaml", app.KindNames())
	if cfg == nil {
		t.Fatal(problems)
	}
	creds := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: string(account), SecretAccessKey: "secret"}, nil
	})
	a, err := app.New(app.Options{Config: cfg, DBPath: filepath.Join(t.TempDir(), "imdsctl.db"), Clock: clock.System(), Version: "test",
		AWS: func(context.Context) (aws.Config, error) {
			return aws.Config{Region: "eu-west-1", Credentials: creds, HTTPClient: w.Client(), BaseEndpoint: aws.String(awssim.BaseURL)}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	sum, err := a.Scan(t.Context(), app.ScanOptions{NoEvidence: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("resources %v, gaps %v", sum.Resources, sum.Gaps)
	var out []assess.FutureLaunch
	for p, err := range a.Launches(t.Context(), app.LaunchFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Gaps) > 0 {
			t.Errorf("gaps: %v", p.Gaps)
		}
		out = append(out, p.Launches...)
	}
	return out
}

// outcome is what the simulator makes of a launch.
type outcome struct {
	options fleet.Options
	refused bool
}

func (o outcome) String() string { return fmt.Sprintf("%+v refused %v", o.options, o.refused) }

func preview(t *testing.T, s *ec2.Store, ask ec2.LaunchSpec) outcome {
	t.Helper()
	made, _, err := s.Preview(ask)
	if err != nil {
		ask.Options.Tokens = fleet.TokensRequired // it must have been for the tokens
		if _, _, again := s.Preview(ask); again != nil {
			t.Fatalf("%+v: %v", ask, again)
		}
		return outcome{refused: true}
	}
	return outcome{options: made.Options}
}

// agrees tells whether a launch says of an outcome nothing that is wrong.
func agrees(l assess.Launch, o outcome) bool {
	if l.Refused != "" || o.refused {
		return (l.Refused != "") == o.refused || o.refused && l.MayRefuse != ""
	}
	for got, want := range map[assess.Setting]string{l.Tokens: o.options.Tokens, l.Endpoint: o.options.Endpoint,
		l.HopLimit: strconv.Itoa(o.options.HopLimit), l.IPv6: o.options.IPv6, l.Tags: o.options.Tags} {
		if got.Unknown == "" && got.Value != want {
			return false
		}
	}
	return true
}

// known tells whether nothing of a launch is unknown.
func known(l assess.Launch) bool {
	return l.Tokens.Unknown == "" && l.Endpoint.Unknown == "" && l.HopLimit.Unknown == "" && l.IPv6.Unknown == "" && l.Tags.Unknown == ""
}

func (d *drawn) compare(t *testing.T, p *core.Place, list []assess.FutureLaunch) {
	machines, groups := ec2.StoreOf(p), autoscaling.StoreOf(p)
	by := map[string][]assess.FutureLaunch{}
	for _, f := range list {
		by[f.By.Kind+"/"+f.By.ID] = append(by[f.By.Kind+"/"+f.By.ID], f)
	}
	for _, name := range groups.Groups() {
		asks, err := groups.Launches(name)
		if err != nil {
			t.Fatal(err)
		}
		ours := by[inventory.KindAutoScaling+"/"+name]
		source, _ := groups.SourceOf(name)
		if source.Mixed == nil && (len(ours) != 1 || !known(ours[0].Launch)) {
			t.Errorf("%s launches from one source, and we say %+v", name, ours)
		}
		for _, ask := range asks {
			d.matches(t, name, preview(t, machines, ask), ours)
		}
	}
	unused := d.templates[len(d.templates)-1]
	for _, f := range by[inventory.KindLaunchTemplate+"/"+unused] {
		o := preview(t, machines, ec2.LaunchSpec{TemplateID: unused, Version: f.Selector})
		if !agrees(f.Launch, o) || !known(f.Launch) {
			t.Errorf("%s %s: %v, and we say %+v", unused, f.Selector, o, f.Launch)
		}
	}
	if n := len(by[inventory.KindLaunchTemplate+"/"+unused]); n == 0 || n > 2 {
		t.Errorf("%d launches of %s", n, unused)
	}
	bare := by[inventory.KindAccountDefaults+"/metadata-defaults"]
	if len(bare) != 1 {
		t.Fatalf("RunInstances: %+v", bare)
	}
	for _, image := range d.images {
		if o := preview(t, machines, ec2.LaunchSpec{ImageID: image}); !agrees(bare[0].Launch, o) {
			t.Errorf("RunInstances of %s: %v, and we say %+v", image, o, bare[0].Launch)
		}
	}
}

// matches expects one of our launches to say what the simulator does, and none to call closed what is open.
func (d *drawn) matches(t *testing.T, name string, o outcome, ours []assess.FutureLaunch) {
	t.Helper()
	worst := assess.V1Closed
	for _, f := range ours {
		if f.V1 == assess.V1Open || f.V1 == assess.V1Unknown {
			worst = f.V1
		}
	}
	open := !o.refused && o.options.Tokens == fleet.TokensOptional && o.options.Endpoint == fleet.Enabled
	if open && worst == assess.V1Closed {
		t.Errorf("%s launches %v, and we say that nothing of it is open: %+v", name, o, ours)
	}
	for _, f := range ours {
		if agrees(f.Launch, o) {
			return
		}
	}
	t.Errorf("%s launches %v, and we say %+v", name, o, ours)
}
