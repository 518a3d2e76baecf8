package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/attention"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/notify"
	"github.com/imdsctl/imdsctl/internal/policy"
	"github.com/imdsctl/imdsctl/internal/store"
)

// AttentionFilter chooses items: every part that is set must hold.
type AttentionFilter struct {
	Causes   []attention.Cause
	Owners   []policy.Glob
	Accounts []fleet.AccountID
	Statuses []assess.Status
}

// AttentionReport is the work that was found.
type AttentionReport struct {
	Items []attention.Item
	// Places is how many were looked at; none before the first scan. Taken is when the oldest of them was read.
	Places int
	Taken  time.Time
	Gaps   []inventory.Scope
}

// Attention lists what needs work, by what the database knows.
func (a *App) Attention(ctx context.Context, f AttentionFilter) (*AttentionReport, error) {
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	imports, err := db.Imports(ctx)
	if err != nil {
		return nil, err
	}
	settings := attention.Settings{Policy: a.config, Products: a.products, Manners: manners(), Now: a.clock.Now()}
	out := &AttentionReport{}
	var items []attention.Item
	for p, err := range a.Assess(ctx) {
		if err != nil {
			return nil, err
		}
		if len(f.Accounts) > 0 && !slices.Contains(f.Accounts, p.Snapshot.Place.Account) {
			continue
		}
		out.Places++
		out.Gaps = append(out.Gaps, p.Gaps...)
		if out.Taken.IsZero() || !p.Taken.IsZero() && p.Taken.Before(out.Taken) {
			out.Taken = p.Taken
		}
		items = append(items, attention.Find(attention.Place{Report: p.Report, Snapshot: p.Snapshot, Evidence: p.Windows, Span: p.Span,
			Gaps: p.Gaps, Account: a.config.Known(p.Facts), Imports: importsFor(imports, p.Snapshot.Place)}, settings)...)
	}
	for _, i := range attention.Merge(items) {
		if f.takes(&i) {
			out.Items = append(out.Items, i)
		}
	}
	return out, nil
}

// importsFor are the imports that may tell of a place.
func importsFor(all []evidence.Import, p fleet.Place) []evidence.Import {
	return slices.DeleteFunc(slices.Clone(all), func(in evidence.Import) bool {
		return in.Subject.Account != "" && in.Subject.Account != p.Account || in.Subject.Region != "" && in.Subject.Region != p.Region
	})
}

func (f *AttentionFilter) takes(i *attention.Item) bool {
	return (len(f.Causes) == 0 || slices.Contains(f.Causes, i.Cause)) &&
		(len(f.Owners) == 0 || slices.ContainsFunc(f.Owners, func(g policy.Glob) bool { return g.Match(i.Owner.Name) })) &&
		(len(f.Statuses) == 0 || slices.Contains(f.Statuses, i.Status))
}

// Delivery is what became of telling one owner by one route.
type Delivery struct {
	Owner string `json:"owner"`
	// Target names where to, without secrets; empty where no route leads anywhere.
	Target string `json:"target,omitempty"`
	// Items were sent, or would be; Known are those that were sent before and have not changed; Left did not fit.
	Items []string `json:"items"`
	Known int      `json:"already_sent"`
	Left  int      `json:"left_out"`
	// Body is the message, where nothing is sent.
	Body []byte `json:"-"`
	// Problem says why nothing arrived; empty where all is well.
	Problem string `json:"problem,omitempty"`
}

// SendAttention tells owners of items by the routes of the configuration, one message for an owner and a place, and records what was
// sent. What was sent within attention.repeat and has not changed is left out. dry makes the messages and sends none. A message that
// does not arrive is a Problem of its delivery and keeps no other from being sent.
func (a *App) SendAttention(ctx context.Context, items []attention.Item, dry bool) ([]Delivery, error) {
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	known, err := a.sentBefore(ctx, db)
	if err != nil {
		return nil, err
	}
	sender := &notify.Sender{HTTP: a.hooks(), Clock: a.clock, Env: os.LookupEnv, File: readSecret}
	var out []Delivery
	for _, batch := range deliveries(items) {
		d := Delivery{Owner: batch.owner}
		if batch.route == nil || batch.route.Silent() {
			d.Problem = "no route leads anywhere"
			d.Left = len(batch.items)
			out = append(out, d)
			continue
		}
		d.Target = batch.route.Target()
		m := notify.Message{Owner: batch.owner, At: a.clock.Now()}
		for _, i := range batch.items {
			if known[sentKey{i.ID, d.Target}] == i.Digest {
				d.Known++
				continue
			}
			m.Items = append(m.Items, i)
		}
		if len(m.Items) > 0 {
			a.deliver(ctx, sender, batch.route, m, dry, &d)
			if err := a.recordSent(ctx, db, &d, m, dry); err != nil {
				return append(out, d), err
			}
		}
		out = append(out, d)
		if err := ctx.Err(); err != nil {
			return out, err
		}
	}
	return out, nil
}

// deliver sends one message, or makes it where dry is set.
func (a *App) deliver(ctx context.Context, sender *notify.Sender, r *policy.Route, m notify.Message, dry bool, d *Delivery) {
	var sent []attention.Item
	var err error
	if dry {
		var req *notify.Request
		if req, sent, err = sender.Prepare(*r, m); err == nil {
			d.Body = req.Body
		}
	} else {
		sent, err = sender.Send(ctx, *r, m)
	}
	if err != nil {
		d.Problem = err.Error()
	}
	for _, i := range sent {
		d.Items = append(d.Items, i.ID)
	}
	d.Left = len(m.Items) - len(sent)
}

// recordSent keeps what was sent. It does so even where the command is being interrupted: the message has arrived.
func (a *App) recordSent(ctx context.Context, db *store.Store, d *Delivery, m notify.Message, dry bool) error {
	if dry || len(d.Items) == 0 {
		return nil
	}
	var sent []store.Sent
	for _, i := range m.Items {
		if slices.Contains(d.Items, i.ID) {
			sent = append(sent, store.Sent{Item: i.ID, Digest: i.Digest, Owner: d.Owner, Target: d.Target, At: m.At})
		}
	}
	if err := db.PutSent(context.WithoutCancel(ctx), sent); err != nil {
		return fmt.Errorf("%s was told, and that could not be recorded, so that the next time says it again: %w", d.Owner, err)
	}
	return nil
}

type sentKey struct{ item, target string }

// sentBefore gives what was said of each item to each place within the time in which it is not said again.
func (a *App) sentBefore(ctx context.Context, db *store.Store) (map[sentKey]string, error) {
	sent, err := db.SentSince(ctx, a.clock.Now().Add(-a.config.Attention.Repeat))
	if err != nil {
		return nil, err
	}
	out := map[sentKey]string{}
	for _, s := range sent { // in order of time: the last word counts
		out[sentKey{s.Item, s.Target}] = s.Digest
	}
	return out, nil
}

// parcel is what one owner is told at one place.
type parcel struct {
	owner string
	route *policy.Route
	items []attention.Item
}

// deliveries puts items together by owner and route, sorted.
func deliveries(items []attention.Item) []*parcel {
	target := func(r *policy.Route) string {
		if r == nil {
			return ""
		}
		return r.Target()
	}
	byKey := map[sentKey]*parcel{}
	var out []*parcel
	for _, i := range items {
		k := sentKey{i.Owner.Name, target(i.Route)}
		if byKey[k] == nil {
			byKey[k] = &parcel{owner: i.Owner.Name, route: i.Route}
			out = append(out, byKey[k])
		}
		byKey[k].items = append(byKey[k].items, i)
	}
	slices.SortStableFunc(out, func(x, y *parcel) int {
		return cmp.Or(strings.Compare(x.owner, y.owner), strings.Compare(target(x.route), target(y.route)))
	})
	return out
}

// hooks is how messages are sent: never by the client of AWS calls, which tests and the demo lead into a simulator.
func (a *App) hooks() *http.Client {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1, TLSHandshakeTimeout: 10 * time.Second}
	return &http.Client{Transport: transport}
}

// readSecret reads a file that holds a secret, with its permissions.
func readSecret(path string) ([]byte, uint32, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errors.New(path + " is no regular file")
	}
	b, err := io.ReadAll(io.LimitReader(file, 1<<16))
	if runtime.GOOS == "windows" { // whose permissions are not in these bits
		return b, 0o600, err
	}
	return b, uint32(info.Mode().Perm()), err
}
