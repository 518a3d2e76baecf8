package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/cloudtrail"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/product"
	"github.com/imdsctl/imdsctl/internal/store"
	"github.com/imdsctl/imdsctl/internal/tracer"
)

// What faces need of package cloudtrail.
type (
	TrailSummary  = cloudtrail.Summary
	TrailGap      = cloudtrail.Gap
	TrailMissing  = cloudtrail.Missing
	TrailProgress = cloudtrail.Progress
)

// ImportOptions say what evidence is taken in, and from where.
type ImportOptions struct {
	// Paths are files, folders and s3:// addresses: CloudTrail's log files, trace files, and findings files of other commands.
	Paths []string
	// Since and Until restrict CloudTrail's records and traced calls; zero is open.
	Since, Until time.Time
	// For replaces the subject of findings files and of traces; zero leaves what they say.
	For evidence.Subject
	// Role is the ARN of a role to read a bucket, or Athena, with; empty is the caller.
	Role string
	// Region is where Athena is asked; empty is the caller's.
	Region fleet.Region
	// Athena is DATABASE.TABLE of a table of the logs, and the rest how it is asked.
	Athena, Workgroup, Output, Partition string
	// Lookup asks LookupEvents in all places, or in those of Accounts and Regions, for LookupEvents events each, and only for those of
	// Instances, if there are any.
	Lookup       bool
	LookupEvents int
	Instances    []string
	Accounts     []fleet.AccountID
	Regions      []fleet.Region
	// Progress is told after each file, from one goroutine at a time.
	Progress func(TrailProgress)
}

// Imported is one import, as it was kept and with what a person wants to know of it.
type Imported struct {
	// Import has no id where nothing new was found, and nothing was kept.
	Import evidence.Import `json:"import"`
	// Delivered records had credentials that the metadata service delivered, Outside of them were of another time.
	Delivered int64 `json:"delivered,omitempty"`
	Outside   int64 `json:"outside,omitempty"`
	// Pruned files are of another time by their names, Digests are digest and insight files, Unnamed have no name of AWS's.
	Pruned  int64 `json:"pruned_files,omitempty"`
	Digests int64 `json:"digest_files,omitempty"`
	Unnamed int64 `json:"unnamed_files,omitempty"`
	// Stored and Bytes are the sizes of what was read, before and after decompression.
	Stored int64 `json:"stored_bytes,omitempty"`
	Bytes  int64 `json:"bytes,omitempty"`
	// Skipped says what could not be understood, with counts.
	Skipped []string       `json:"skipped,omitempty"`
	Gaps    []TrailGap     `json:"gaps,omitempty"`
	Missing []TrailMissing `json:"missing,omitempty"`
	// Calls is what CloudTrail shows, and Trace what a tracer saw; nil for other sources.
	Calls *TrailSummary   `json:"calls,omitempty"`
	Trace *tracer.Summary `json:"trace,omitempty"`
	// Query and Dollars are Athena's: the query's id and what it costs by what it has read, ScannedBytes.
	Query        string  `json:"query,omitempty"`
	ScannedBytes int64   `json:"scanned_bytes,omitempty"`
	Dollars      float64 `json:"dollars,omitempty"`
	// Places is how many were asked by LookupEvents.
	Places int `json:"places,omitempty"`
}

// Attention tells whether something was skipped, could not be read or is missing. Days on which a single region has no files are shown,
// and are no reason by themselves: where nobody calls, CloudTrail writes none.
func (i *Imported) Attention() bool {
	gone := slices.ContainsFunc(i.Missing, func(m TrailMissing) bool { return m.Whole })
	return i.Import.Skipped > 0 || len(i.Gaps) > 0 || gone || i.Import.Lost != "" && !i.Import.Sample
}

// ImportEvidence takes evidence in. Each findings file, all log files together, and what trace files tell of one instance are one import
// in one transaction: an error leaves those before it, and nothing of its own.
func (a *App) ImportEvidence(ctx context.Context, o ImportOptions) ([]*Imported, error) {
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	in := &importer{app: a, db: db, o: o, now: a.clock.Now().UTC(), own: map[string]bool{}}
	files, logs, err := in.sort(ctx)
	if err != nil {
		return nil, err
	}
	var out []*Imported
	steps := make([]func(context.Context) (*Imported, error), 0, len(files)+3)
	for _, path := range files {
		steps = append(steps, func(ctx context.Context) (*Imported, error) { return in.findings(ctx, path) })
	}
	if len(logs) > 0 { // before traces, which may lie among them in a bucket
		steps = append(steps, func(ctx context.Context) (*Imported, error) { return in.logs(ctx, logs) })
	}
	if o.Athena != "" {
		steps = append(steps, in.athena)
	}
	if o.Lookup {
		steps = append(steps, in.lookup)
	}
	for _, step := range steps {
		one, err := step(ctx)
		if one != nil {
			out = append(out, one)
		}
		if err != nil {
			return out, err
		}
	}
	traced, err := in.traces(ctx)
	return append(out, traced...), err
}

// Imports lists what was taken in, the newest first.
func (a *App) Imports(ctx context.Context) ([]evidence.Import, error) {
	db, err := a.database()
	if err != nil {
		return nil, err
	}
	out, err := db.Imports(ctx)
	slices.Reverse(out)
	return out, err
}

// ForgetImport drops an import with all its findings. Its files can then be taken in again.
func (a *App) ForgetImport(ctx context.Context, id int64) error {
	db, err := a.database()
	if err != nil {
		return err
	}
	if err := db.DropImport(ctx, id); errors.Is(err, store.ErrNoImport) {
		return fleet.Diagnostic{Severity: fleet.SeverityError, Where: "evidence", Summary: fmt.Sprintf("there is no import %d", id),
			Remedy: "See `imdsctl evidence list`."}
	} else if err != nil {
		return err
	}
	return nil
}

// importer is one run of ImportEvidence.
type importer struct {
	app *App
	db  *store.Store
	o   ImportOptions
	now time.Time
	// traceFiles are those found among the paths; own are the names of the files, trace and findings, that are no logs.
	traceFiles []cloudtrail.File
	own        map[string]bool
}

// sort looks at what each path is: findings files, trace files, and sources of log files.
func (in *importer) sort(ctx context.Context) (findings []string, logs []string, err error) {
	for _, path := range in.o.Paths {
		if strings.HasPrefix(path, "s3://") {
			if _, _, err := cloudtrail.Address(path); err != nil {
				return nil, nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: path, Summary: err.Error()}
			}
			logs = append(logs, path)
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: path, Summary: "it cannot be read: " + err.Error(),
				Remedy: "Give a file or a folder that is there, or an address s3://bucket/prefix."}
		}
		own := 0
		for f, err := range cloudtrail.Folder(path) {
			if err != nil || ctx.Err() != nil {
				continue // told when it is read
			}
			switch {
			case isFindings(f.Name):
				findings = append(findings, f.Name)
			case isTrace(f.Name):
				in.traceFiles = append(in.traceFiles, f)
			default:
				continue
			}
			in.own[f.Name] = true
			own++
		}
		if info.IsDir() || own == 0 {
			logs = append(logs, path)
		}
	}
	buckets := slices.ContainsFunc(logs, func(path string) bool { return strings.HasPrefix(path, "s3://") })
	if in.o.For != (evidence.Subject{}) && len(findings)+len(in.traceFiles) == 0 && !buckets {
		return nil, nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: "--for",
			Summary: "there is no findings file and no trace file among the paths; CloudTrail's logs say themselves of whom they are",
			Remedy:  "Leave --for out."}
	}
	return findings, logs, ctx.Err()
}

// isFindings looks at the beginning of a file that its name does not tell to be CloudTrail's.
func isFindings(path string) bool {
	if _, ok := cloudtrail.ParseName(path); ok || strings.HasSuffix(path, ".gz") {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	line, err := bufio.NewReaderSize(f, 4096).ReadSlice('\n')
	return (err == nil || errors.Is(err, bufio.ErrBufferFull) || errors.Is(err, io.EOF)) &&
		bytes.Contains(line, []byte(`"`+evidence.FormatFindings+`"`))
}

// findings takes one findings file in.
func (in *importer) findings(ctx context.Context, path string) (*Imported, error) {
	digest, size, err := digestOf(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read findings: %w", err)
	}
	defer f.Close()
	h, findings, err := evidence.ReadFindings(f, path)
	if err != nil {
		return nil, err
	}
	imp := h.Import()
	imp.At, imp.By, imp.Files = in.now, in.app.opt.Actor, 1
	if in.o.For != (evidence.Subject{}) {
		imp.Subject = in.o.For
		digest += " for " + in.o.For.String()
	}
	if imp.Origin == "" {
		imp.Origin = path
	}
	out := &Imported{Import: imp, Stored: size, Bytes: size}
	if known, err := in.db.HasFile(ctx, h.Source, digest); err != nil {
		return nil, err
	} else if known {
		out.Import.Files, out.Import.Known = 0, 1
		return out, nil
	}
	var records int64
	out.Import, err = in.db.PutFindings(ctx, imp, []string{digest}, in.about(findings, &records))
	out.Import.Records = records
	if err != nil {
		return nil, fmt.Errorf("take in %s: %w", path, err)
	}
	return out, nil
}

// about replaces the subject of findings, if another was given, and counts them.
func (in *importer) about(findings iter.Seq2[evidence.Finding, error], n *int64) iter.Seq2[evidence.Finding, error] {
	return func(yield func(evidence.Finding, error) bool) {
		for f, err := range findings {
			if in.o.For != (evidence.Subject{}) && err == nil {
				f.Subject = in.o.For
			}
			*n++
			if !yield(f, err) {
				return
			}
		}
	}
}

func digestOf(path string) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("read findings: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return "", 0, fmt.Errorf("read findings: %w", err)
	}
	return "sha256 " + hex.EncodeToString(h.Sum(nil)), n, nil
}

// logs takes the log files of folders and buckets in.
func (in *importer) logs(ctx context.Context, paths []string) (*Imported, error) {
	var sources []iter.Seq2[cloudtrail.File, error]
	for _, path := range paths {
		if !strings.HasPrefix(path, "s3://") {
			sources = append(sources, in.others(cloudtrail.Folder(path)))
			continue
		}
		sessions, region, err := in.sessions(ctx)
		if err != nil {
			return nil, err
		}
		bucket, err := cloudtrail.OpenBucket(ctx, sessions, region, path)
		if err != nil {
			return nil, err
		}
		sources = append(sources, in.others(bucket.Files(ctx, in.span())))
	}
	report, err := cloudtrail.ReadFiles(ctx, cloudtrail.Concat(sources...), cloudtrail.Options{
		Span: in.span(), Parse: speaker(in.app.products), Known: in.known(evidence.SourceCloudTrail), Progress: in.o.Progress,
	})
	if err != nil {
		return nil, err
	}
	if report.Files+report.Known+report.Pruned+report.Besides == 0 && len(report.Gaps) == 0 {
		if len(in.traceFiles)+len(in.own) > 0 {
			return nil, nil
		}
		return nil, fleet.Diagnostic{Severity: fleet.SeverityError, Where: strings.Join(paths, ", "),
			Summary: "there is no log file, no trace file and no findings file: none ends in .json, .json.gz, .jsonl or .ndjson",
			Remedy:  "Give the folder or the prefix above AWSLogs/, or a file."}
	}
	out := in.imported(evidence.SourceCloudTrail, strings.Join(paths, ", "), report.Result, report.Tally)
	out.Import.Files, out.Import.Known = report.Files, report.Known
	out.Pruned, out.Digests, out.Unnamed, out.Stored = report.Pruned, report.Besides+report.Digests, report.Unnamed, report.Stored
	out.Gaps, out.Missing = report.Gaps, report.Days.Missing()
	if days := report.Days.Span(); !days.From.IsZero() && report.Unnamed == 0 {
		out.Import.From, out.Import.To = in.clip(days)
	}
	out.noteFiles()
	return out, in.keep(ctx, out, report.Tally, report.Taken)
}

// others passes findings files and trace files, which are taken in by themselves. Trace files of a bucket are noted as they are found.
func (in *importer) others(files iter.Seq2[cloudtrail.File, error]) iter.Seq2[cloudtrail.File, error] {
	return func(yield func(cloudtrail.File, error) bool) {
		for f, err := range files {
			if err == nil && in.own[f.Name] {
				continue
			}
			if err == nil && strings.HasPrefix(f.Name, "s3://") && namedTrace(f.Name) {
				in.traceFiles = append(in.traceFiles, f)
				continue
			}
			if !yield(f, err) {
				return
			}
		}
	}
}

// clip is the part of the days that was asked for, and not in the future.
func (in *importer) clip(s cloudtrail.Span) (from, to time.Time) {
	from, to = s.From, s.To
	if from.Before(in.o.Since) {
		from = in.o.Since.UTC()
	}
	if !in.o.Until.IsZero() && in.o.Until.Before(to) {
		to = in.o.Until.UTC()
	}
	if in.now.Before(to) {
		to = in.now
	}
	if to.Before(from) {
		to = from
	}
	return from, to
}

// noteFiles says in the import itself what was not read, for those who look at it later.
func (i *Imported) noteFiles() {
	if n := len(i.Gaps); n > 0 {
		i.Import.Lost = fmt.Sprintf("%d of the files or folders could not be read, or not to the end, %s among them: %s", n,
			i.Gaps[0].Where, i.Gaps[0].Reason)
	}
	const most = 20
	for n, m := range i.Missing {
		if n == most {
			i.Import.Notes = append(i.Import.Notes, fmt.Sprintf("no file of %d further stretches of days", len(i.Missing)-most))
			break
		}
		i.Import.Notes = append(i.Import.Notes, fmt.Sprintf("no file of account %s in %s from %s to %s", m.Account, m.Region,
			m.From.Format(time.DateOnly), m.To.Format(time.DateOnly)))
	}
	if i.Unnamed > 0 {
		i.Import.Notes = append(i.Import.Notes, fmt.Sprintf("%d files have no name of CloudTrail's, so nothing tells whether others are missing",
			i.Unnamed))
	}
}

// imported begins what all sources of CloudTrail's come to.
func (in *importer) imported(source evidence.Source, origin string, r cloudtrail.Result, t *cloudtrail.Tally) *Imported {
	calls := t.Summary()
	return &Imported{
		Import: evidence.Import{At: in.now, Made: in.now, Source: source, Origin: origin, By: in.app.opt.Actor, From: r.From, To: r.To,
			Records: r.Records, Skipped: r.SkippedTotal(), Notes: append(t.Notes(), r.Reasons()...)},
		Delivered: r.Delivered, Outside: r.Outside, Bytes: r.Bytes, Skipped: r.Reasons(), Calls: &calls,
	}
}

// keep stores an import, unless nothing new was read.
func (in *importer) keep(ctx context.Context, out *Imported, t *cloudtrail.Tally, digests []string) error {
	if len(digests) == 0 {
		return nil
	}
	kept, err := in.db.PutFindings(ctx, out.Import, digests, func(yield func(evidence.Finding, error) bool) {
		for f := range t.Findings(out.Import.Source, out.Import.Origin) {
			f.Sample = out.Import.Sample || out.Import.Lost != ""
			if !yield(f, nil) {
				return
			}
		}
	})
	if err != nil {
		return fmt.Errorf("take in what CloudTrail shows: %w", err)
	}
	out.Import = kept
	return nil
}

func (in *importer) span() cloudtrail.Span { return cloudtrail.Span{From: in.o.Since, To: in.o.Until} }

func (in *importer) known(source evidence.Source) func(context.Context, string) (bool, error) {
	return func(ctx context.Context, digest string) (bool, error) { return in.db.HasFile(ctx, source, digest) }
}

// sessions gives the way to a bucket or to Athena: as the caller, or in the role that was named.
func (in *importer) sessions(ctx context.Context) (cloudtrail.Sessions, fleet.Region, error) {
	edge, _, err := in.app.cloud(ctx)
	if err != nil {
		return nil, "", err
	}
	caller, err := edge.Caller(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("find out whose credentials these are: %w", err)
	}
	place, role := fleet.Place{Partition: caller.Partition, Account: caller.Account}, awsx.Role{}
	if in.o.Role != "" {
		parsed, err := arn.Parse(in.o.Role)
		o := in.app.config.Organization.Role
		role = awsx.Role{ARN: in.o.Role, ExternalID: o.ExternalID, SessionName: o.SessionName, Duration: o.Duration}
		if err == nil {
			err = role.Validate()
		}
		if err != nil {
			return nil, "", fleet.Diagnostic{Severity: fleet.SeverityError, Where: "--role", Summary: err.Error(),
				Remedy: "Give the ARN of a role: arn:aws:iam::111122223333:role/imdsctl-trail."}
		}
		place.Account = fleet.AccountID(parsed.AccountID)
	}
	region := in.o.Region
	if region == "" {
		region = edge.Region()
	}
	if region == "" {
		region = caller.Partition.HomeRegion()
	}
	return func(r fleet.Region) *awsx.Session {
		at := place
		at.Region = r
		return edge.Session(at, role)
	}, region, nil
}

// speaker tells the product that a user agent names first.
func speaker(t *product.Table) cloudtrail.Parser {
	return func(agent string) (product.ID, string) {
		if said := t.ParseAgent(agent); len(said) > 0 {
			return said[0].Product, said[0].Version
		}
		return "", ""
	}
}
