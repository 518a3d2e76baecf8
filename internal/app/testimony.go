package app

import (
	"cmp"
	"context"
	"os"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/store"
)

// known is all evidence of one place.
type known struct {
	windows map[fleet.Ref][]*evidence.Window
	history map[fleet.Ref][]*evidence.Window
	testimony
}

// testimony is what sources other than metrics saw of an account, and when that was taken in.
type testimony struct {
	findings []evidence.Finding
	imports  []evidence.Import
}

// witness reads testimonies, and keeps the last: the places of an account come one after another.
type witness struct {
	db      *store.Store
	account fleet.AccountID
	read    bool
	last    testimony
}

func (w *witness) of(ctx context.Context, account fleet.AccountID) (testimony, error) {
	if w.read && w.account == account {
		return w.last, nil
	}
	imports, err := w.db.Imports(ctx)
	if err != nil {
		return testimony{}, err
	}
	var findings []evidence.Finding
	if len(imports) > 0 {
		if findings, err = w.db.Findings(ctx, account); err != nil {
			return testimony{}, err
		}
	}
	w.account, w.read, w.last = account, true, testimony{findings, imports}
	return w.last, nil
}

// findingsOf gives the findings of an account.
func (w *witness) findingsOf(ctx context.Context, account fleet.AccountID) ([]evidence.Finding, error) {
	t, err := w.of(ctx, account)
	return t.findings, err
}

// knownOf reads all evidence of a place.
func (w *witness) knownOf(ctx context.Context, place fleet.Place) (k known, err error) {
	if k.windows, err = w.db.EvidenceOf(ctx, place); err != nil {
		return k, err
	}
	if k.history, err = w.db.HistoryOf(ctx, place); err != nil {
		return k, err
	}
	k.testimony, err = w.of(ctx, place.Account)
	return k, err
}

// DatabaseExists tells whether there is a database of the name already, as far as that can be told without opening it.
func DatabaseExists(name string) bool {
	if store.IsPostgres(name) {
		return true
	}
	_, err := os.Stat(name)
	return name != "" && err == nil
}

// SourceStatus is what is at hand of one source of evidence.
type SourceStatus struct {
	Source evidence.Source `json:"source"`
	// From and To bound the time that it speaks for; zero where it does not tell.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Imports is how often something of it was taken in and still holds, Findings how many findings that were; 0 for the metric, which
	// scans read.
	Imports  int   `json:"imports,omitempty"`
	Findings int64 `json:"findings,omitempty"`
	// Read is when it was read or taken in last, AgeSeconds how long ago that was.
	Read       time.Time `json:"read"`
	AgeSeconds int64     `json:"age_seconds"`
	// Lost counts the imports that lost events or are samples: what they do not show means nothing.
	Lost int `json:"lost_or_sample,omitempty"`
}

// sourceStatus lists the metric as the last scan read it, and all that was taken in.
func (a *App) sourceStatus(ctx context.Context, db *store.Store, last *ScanInfo) ([]SourceStatus, error) {
	imports, err := db.Imports(ctx)
	if err != nil {
		return nil, err
	}
	by := map[evidence.Source]*SourceStatus{}
	if last != nil {
		by[evidence.SourceCloudWatch] = &SourceStatus{Source: evidence.SourceCloudWatch, From: last.Started.Add(-last.Window), To: last.Started,
			Read: last.Started}
	}
	for i := range imports {
		in := &imports[i]
		if in.ReplacedBy != 0 {
			continue
		}
		s := by[in.Source]
		if s == nil {
			s = &SourceStatus{Source: in.Source}
			by[in.Source] = s
		}
		s.add(in)
	}
	out := make([]SourceStatus, 0, len(by))
	for _, s := range by {
		s.AgeSeconds = int64(a.clock.Now().Sub(s.Read) / time.Second)
		out = append(out, *s)
	}
	slices.SortFunc(out, func(x, y SourceStatus) int { return cmp.Compare(x.Source, y.Source) })
	return out, nil
}

func (s *SourceStatus) add(in *evidence.Import) {
	s.Imports++
	s.Findings += in.Findings
	if in.At.After(s.Read) {
		s.Read = in.At
	}
	if !in.From.IsZero() && (s.From.IsZero() || in.From.Before(s.From)) {
		s.From = in.From
	}
	if in.To.After(s.To) {
		s.To = in.To
	}
	if in.Lost != "" || in.Sample {
		s.Lost++
	}
}
