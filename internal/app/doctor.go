package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/imdsctl/imdsctl/internal/app/discovery"
	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/scan"
)

// DoctorOptions say what is checked.
type DoctorOptions struct {
	// Accounts chooses some; empty means all.
	Accounts []fleet.AccountID
	// Write also checks the roles that write, with a dry run.
	Write bool
	// Progress is told of each check when it is done.
	Progress func(Check)
}

// CheckStatus is how a check ended.
type CheckStatus string

// Check statuses.
const (
	CheckOK      CheckStatus = "ok"
	CheckWarning CheckStatus = "warning"
	CheckFailed  CheckStatus = "failed"
	CheckSkipped CheckStatus = "skipped"
)

// Check is one thing that was looked at.
type Check struct {
	// Area is "config", "database", "credentials", "clock", "organization", "role", "regions", "service" or "dry-run".
	Area    string      `json:"area"`
	Subject string      `json:"subject,omitempty"`
	Status  CheckStatus `json:"status"`
	Detail  string      `json:"detail,omitempty"`
	// Remedy says what to do about a check that is not ok.
	Remedy string `json:"remedy,omitempty"`
}

// Doctor checks all that a scan, and an apply, depend on. An error means that it could not go on; a check that fails is
// none.
func (a *App) Doctor(ctx context.Context, o DoctorOptions) ([]Check, error) {
	d := &doctor{app: a, opt: o}
	d.configuration()
	d.database(ctx)
	if !d.credentials(ctx) {
		return d.checks, ctx.Err()
	}
	accounts := d.accounts(ctx)
	for _, account := range accounts {
		if ctx.Err() != nil {
			break
		}
		d.account(ctx, account)
	}
	d.organization(ctx, accounts)
	return d.checks, ctx.Err()
}

type doctor struct {
	app    *App
	opt    DoctorOptions
	edge   *awsx.Edge
	finder *discovery.Finder
	checks []Check
}

func (d *doctor) say(c Check) {
	d.checks = append(d.checks, c)
	if d.opt.Progress != nil {
		d.opt.Progress(c)
	}
}

// judge says ok with a detail, or failed with what the error tells.
func (d *doctor) judge(area, subject string, err error, detail, remedy string) bool {
	if err == nil {
		d.say(Check{Area: area, Subject: subject, Status: CheckOK, Detail: detail})
		return true
	}
	if known, ok := errors.AsType[fleet.Diagnostic](err); ok {
		d.say(Check{Area: area, Subject: subject, Status: CheckFailed, Detail: known.Summary, Remedy: known.Remedy})
		return false
	}
	d.say(Check{Area: area, Subject: subject, Status: CheckFailed, Detail: err.Error(), Remedy: remedy})
	return false
}

func (d *doctor) configuration() {
	path := d.app.opt.ConfigPath
	expired := d.app.ExpiredExceptions()
	for _, e := range expired {
		d.say(Check{Area: "config", Subject: e.Where, Status: CheckWarning, Detail: e.Summary, Remedy: e.Remedy})
	}
	if len(expired) == 0 {
		d.say(Check{Area: "config", Subject: path, Status: CheckOK, Detail: "digest " + short(d.app.config.Digest())})
	}
}

func (d *doctor) database(ctx context.Context) {
	if d.app.opt.DBPath == "" {
		d.say(Check{Area: "database", Status: CheckSkipped, Detail: "none is named"})
		return
	}
	db, err := d.app.database()
	if err == nil {
		err = db.Check(ctx)
	}
	d.judge("database", d.app.opt.DBPath, err, "it is whole, and its journal's chain is unbroken",
		"Restore a copy, or start a new file with --db.")
}

// Bounds on the difference between our clock and AWS's, which refuses signatures that are five minutes off.
const (
	skewWarning = time.Minute
	skewFailure = 5 * time.Minute
)

func (d *doctor) credentials(ctx context.Context) bool {
	var err error
	if d.edge, d.finder, err = d.app.cloud(ctx); err != nil {
		return d.judge("credentials", "", err, "", "Check AWS_PROFILE, AWS_REGION and ~/.aws/config.")
	}
	id, err := d.edge.Caller(ctx)
	ok := d.judge("credentials", id.ARN, err, "account "+string(id.Account)+", partition "+string(id.Partition),
		"Log in (aws sso login, or AWS_PROFILE), and check that AWS can be reached.")
	if skew, known := d.edge.Skew(); !known {
		d.say(Check{Area: "clock", Status: CheckSkipped, Detail: "no answer told its time"})
	} else {
		c := Check{Area: "clock", Status: CheckOK, Detail: fmt.Sprintf("%s off", skew.Abs())}
		if skew.Abs() > skewWarning {
			c.Status, c.Remedy = CheckWarning, "Set this machine's clock (NTP): AWS refuses requests that are five minutes off."
		}
		if skew.Abs() > skewFailure {
			c.Status = CheckFailed
		}
		d.say(c)
	}
	return ok
}

// accounts lists the accounts to check.
func (d *doctor) accounts(ctx context.Context) []inventory.Account {
	all, notes, err := d.finder.Accounts(ctx)
	for _, n := range notes {
		d.say(Check{Area: "organization", Subject: n.Where, Status: CheckWarning, Detail: n.Summary, Remedy: n.Remedy})
	}
	if !d.judge("organization", string(d.app.config.Organization.Discover), err, fmt.Sprintf("%d accounts", len(all)),
		"Allow the listing of accounts, or name them under `accounts`.") {
		return nil
	}
	var out []inventory.Account
	for _, account := range all {
		_, skip := d.app.config.Skipped(account.ID)
		if !skip && (len(d.opt.Accounts) == 0 || slices.Contains(d.opt.Accounts, account.ID)) {
			out = append(out, account)
		}
	}
	for _, id := range d.opt.Accounts {
		if !slices.ContainsFunc(all, func(account inventory.Account) bool { return account.ID == id }) {
			d.say(Check{Area: "organization", Subject: string(id), Status: CheckFailed,
				Detail: "the account is not among those found",
				Remedy: "Check its number."})
		}
	}
	return out
}

// account checks the roles, the regions and one call of each service in the account's first region.
func (d *doctor) account(ctx context.Context, account inventory.Account) {
	place := fleet.Place{Partition: account.Partition, Account: account.ID, Region: account.Partition.HomeRegion()}
	if !d.role(ctx, place, false) {
		return
	}
	if d.opt.Write {
		d.role(ctx, place, true)
	}
	enabled, _, err := d.finder.Regions(ctx, account)
	use, missing := d.app.config.SelectRegions(enabled)
	if !d.judge("regions", string(account.ID), err, fmt.Sprintf("%d in use", len(use)),
		"Allow ec2:DescribeRegions to the role that reads.") {
		return
	}
	for _, r := range missing {
		d.say(Check{Area: "regions", Subject: string(account.ID) + "/" + string(r), Status: CheckWarning,
			Detail: "the configuration asks for it, and the account has not enabled it",
			Remedy: "Enable the region in the account, or take it out of `organization.regions`."})
	}
	if len(use) == 0 {
		return
	}
	place.Region = ""
	d.global(ctx, place, false, "Allow the role that reads what `imdsctl roles` prints.")
	place.Region = use[0]
	sample := d.services(ctx, place)
	if d.opt.Write {
		d.dryRun(ctx, place, sample)
	}
}

// organization checks what an organization has once, if the account that manages it is among those that are looked at.
func (d *doctor) organization(ctx context.Context, accounts []inventory.Account) {
	place, ok, err := d.finder.Management(ctx)
	mine := slices.ContainsFunc(accounts, func(a inventory.Account) bool { return a.ID == place.Account })
	if ctx.Err() != nil || !mine || !ok && err == nil {
		return
	}
	const remedy = "Deploy the roles that `imdsctl roles --management` prints in the account that manages the organization."
	if err == nil {
		err = d.finder.Enter(ctx, place, false)
	}
	if err != nil {
		d.judge("organization", place.String(), err, "", remedy)
		return
	}
	d.global(ctx, place, true, remedy)
}

// global lists what lives in an account's global place: what an organization has once, or what every account has.
func (d *doctor) global(ctx context.Context, place fleet.Place, once bool, remedy string) {
	for _, r := range openPlace(d.finder.Session(place, false), d.app.clock, d.app.protocol()).Kinds {
		if r.Once == once && !d.app.config.Excludes(r.Kind) {
			d.judge("service", place.String(), d.first(ctx, r, nil), r.Kind+" can be listed", remedy)
		}
	}
}

// first lists a kind up to its first resource, which look is shown.
func (d *doctor) first(ctx context.Context, r scan.Reader, look func(*inventory.Resource)) error {
	err := r.Driver.List(kind.WithPageSize(ctx, 100), func(res inventory.Resource) error {
		if look != nil {
			look(&res)
		}
		return errSeen
	})
	if errors.Is(err, errSeen) {
		return nil
	}
	return err
}

func (d *doctor) role(ctx context.Context, place fleet.Place, write bool) bool {
	if err := d.finder.Enter(ctx, place, write); err != nil {
		return d.judge("role", string(place.Account), err, "", "Log in again.")
	}
	kindOf := "read"
	if write {
		kindOf = "write"
	}
	id, err := d.finder.Session(place, write).Identity(ctx)
	detail := kindOf + "s as " + id.ARN
	if d.finder.Role(place, write).IsZero() {
		detail += ", the caller's own credentials"
	}
	return d.judge("role", string(place.Account), err, detail,
		"Deploy the role with what `imdsctl roles` prints, and let its trust policy name you and the external id of the configuration.")
}

// errSeen ends a listing at its first resource.
var errSeen = errors.New("one is enough")

// nobody is an id that no instance has: asking for its metrics costs next to nothing and needs the same permission.
const nobody = "i-00000000000000000"

// services makes one harmless call of each kind and of CloudWatch, and gives an instance for a dry run.
func (d *doctor) services(ctx context.Context, place fleet.Place) (sample *inventory.Resource) {
	opened := openPlace(d.finder.Session(place, false), d.app.clock, d.app.protocol())
	answered := false // for some kind, so that the network is well
	for _, r := range opened.Kinds {
		if d.app.config.Excludes(r.Kind) {
			continue
		}
		err := d.first(ctx, r, func(res *inventory.Resource) {
			o := res.State.Options()
			running := res.Ref.Kind == inventory.KindInstance && res.Status == inventory.StatusRunning
			if sample == nil && running && o.Endpoint == fleet.Enabled && !res.Settling && !res.Owner.Managed {
				sample = res
			}
		})
		if answered && fleet.ClassOf(err) == fleet.ErrNotOffered {
			d.say(Check{Area: "service", Subject: place.String(), Status: CheckSkipped,
				Detail: "AWS does not offer " + r.Kind + " in this region"})
			continue
		}
		answered = answered || err == nil
		d.judge("service", place.String(), err, r.Kind+" can be listed",
			"Allow the role that reads what `imdsctl roles` prints.")
	}
	subject := []fleet.Ref{{Place: place, Kind: inventory.KindInstance, ID: nobody}}
	var gap error
	err := opened.Evidence.History(ctx, subject, d.app.settings().Span(d.app.clock.Now()), func(o scan.Observation) error {
		gap = o.Gap
		return nil
	})
	d.judge("service", place.String(), errors.Join(err, gap), "CloudWatch answers",
		"Allow cloudwatch:GetMetricData; a stand-in may need --cloudwatch-protocol json.")
	return sample
}

// dryRun asks EC2 whether the role that writes might change an instance. It sends what the instance has already, so
// that even a stand-in that takes a dry run for real changes nothing.
func (d *doctor) dryRun(ctx context.Context, place fleet.Place, sample *inventory.Resource) {
	if sample == nil {
		d.say(Check{Area: "dry-run", Subject: place.String(), Status: CheckSkipped,
			Detail: "no running instance to try it on"})
		return
	}
	o := sample.State.Options()
	in := &ec2.ModifyInstanceMetadataOptionsInput{
		DryRun: aws.Bool(true), InstanceId: &sample.Ref.ID, HttpEndpoint: types.InstanceMetadataEndpointStateEnabled,
		HttpTokens: types.HttpTokensState(o.Tokens), HttpPutResponseHopLimit: aws.Int32(int32(o.HopLimit)),
	}
	client := ec2.NewFromConfig(d.finder.Session(place, true).Config())
	_, err := client.ModifyInstanceMetadataOptions(ctx, in)
	if awsx.DryRunOK(err) {
		err = nil
	}
	if err != nil {
		err = awsx.Plain(err)
	}
	d.judge("dry-run", sample.Ref.String(), err, "the role that writes may change it",
		"Allow the role that writes what `imdsctl roles` prints, and look for a policy above it that denies.")
}
