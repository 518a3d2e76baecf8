package cli

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/product"
	"github.com/imdsctl/imdsctl/internal/software"
)

type softwareOptions struct {
	about, out, products string
	failOn, exclude      []string
	all                  bool
	unpacked             int
	subject              evidence.Subject
}

func (s *session) softwareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "software", Short: "Find SDKs and scripts that call IMDSv1, where they are installed", GroupID: groupSee, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(s.softwareScanCommand())
	return cmd
}

func (s *session) softwareScanCommand() *cobra.Command {
	var o softwareOptions
	cmd := &cobra.Command{
		Use: "scan PATH|image.tar|sbom.json...", Short: "Look for old AWS SDKs, and for calls without a token, in files, images and SBOMs",
		Args: cobra.MinimumNArgs(1),
		Long: `Looks into folders, container images (docker save, or an OCI layout, as a folder or a tar) and bills of materials
(CycloneDX, SPDX) for AWS SDKs, command lines and agents, inside Java archives and Go programs too, and says of
each version whether it speaks IMDSv2. Scripts, user data and sources are searched for lines that call
169.254.169.254 without a token. What each path is, is told by its content. Nothing that is found is run, and no
AWS call is made. What could not be read is a gap: it is listed, and the exit code is 3.

With --out the findings go to a file for ` + "`imdsctl evidence import`" + `, about the subject that --for names. A comment
with imdsctl:ignore on a line, or above it, keeps it out of the calls.`,
		Example: `  imdsctl software scan / --exclude var/lib/docker --for i-0123456789abcdef0 --out findings.jsonl
  docker save web:1.4 | gzip > web.tar.gz; imdsctl software scan web.tar.gz --for group/web --out web.jsonl
  imdsctl software scan . --fail-on raw --fail-on old        # for CI, in a repository`,
		Annotations: formats("table json csv"),
		RunE:        func(cmd *cobra.Command, args []string) error { return s.softwareScan(cmd.Context(), args, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.about, "for", "", "what the software runs on: `kind/id`, such as group/web, ami/ami-0abc, i-0abc, role/name, tag/key=value")
	f.StringVar(&o.out, "out", "", "write the findings to this `file`; needs --for")
	f.StringVar(&o.products, "products", "", "`file` of your own products, in the format of the table: see docs/software.md")
	f.StringSliceVar(&o.failOn, "fail-on", nil, "end with 3 if more than N are `WORD[=N]`: old, able, unclear, raw; or gap")
	f.StringSliceVar(&o.exclude, "exclude", nil, "leave out these `paths`, relative to what is scanned")
	f.BoolVar(&o.all, "all", false, "AWS packages that the table does not know too")
	f.IntVar(&o.unpacked, "max-unpacked", 16, "decompress at most this many `GiB` of an image, and of an archive")
	return cmd
}

// softwareWords are what --fail-on may name, with the judgements that count; "raw" and "gap" are counted apart.
func softwareWords() map[string][]product.Judgement {
	return map[string][]product.Judgement{
		"old": {product.Old, product.NoFix}, "able": {product.Able}, "unclear": {product.Unclear}, "raw": nil, "gap": nil,
	}
}

// softwareThresholds reads --fail-on.
func softwareThresholds(given []string) (map[string]int, error) {
	return thresholds(given, "old=10", func(name string) error {
		if _, ok := softwareWords()[name]; !ok {
			return misuse("--fail-on", "Give old, able, unclear, raw or gap.", "%q is nothing that is counted", name)
		}
		return nil
	})
}

func (s *session) softwareScan(ctx context.Context, paths []string, o softwareOptions) error {
	limits, err := softwareThresholds(o.failOn)
	if err != nil {
		return err
	}
	if o.about != "" {
		if o.subject, err = evidence.ParseSubject(o.about); err != nil {
			return misuse("--for", "See `imdsctl software scan --help`.", "%v", err)
		}
	}
	if o.out != "" && o.about == "" {
		return misuse("--out", "Say with --for what the software runs on, such as --for group/web.", "findings need a subject")
	}
	if o.unpacked < 1 {
		return misuse("--max-unpacked", "Give a number of GiB, at least 1.", "%d is no limit", o.unpacked)
	}
	table, err := productTable(o.products)
	if err != nil {
		return err
	}
	var reports []*software.Report
	made := time.Now()
	for _, path := range paths {
		show, stop := s.softwareProgress(path)
		found, err := software.Scan(ctx, path, software.Options{
			Products: table, All: o.all, Exclude: o.exclude, Limits: software.Limits{Unpacked: int64(o.unpacked) << 30}, Progress: show,
		})
		stop()
		if err != nil {
			return err
		}
		reports = append(reports, found...)
	}
	if o.out != "" {
		if err := writeSoftware(o, reports, made); err != nil {
			return err
		}
	}
	if err := s.showSoftware(reports, o); err != nil {
		return err
	}
	return softwareExceeded(reports, limits)
}

// productTable is the table, with a user's own products.
func productTable(file string) (*product.Table, error) {
	if file == "" {
		return product.Default(), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, misuse("--products", "Give a file of products: see docs/software.md.", "%v", err)
	}
	table, err := product.Default().With(data, file)
	if err != nil {
		return nil, usageError{err}
	}
	return table, nil
}

// softwareExceeded tells whether the reports need attention: a gap always does, unless --fail-on gap=N allows some.
func softwareExceeded(reports []*software.Report, limits map[string]int) error {
	counts := map[string]int{}
	for _, r := range reports {
		counts["gap"] += r.GapCount
		counts["raw"] += r.RawCount
		for j, n := range r.Counts() {
			for word, judgements := range softwareWords() {
				if slices.Contains(judgements, j) {
					counts[word] += n
				}
			}
		}
	}
	if counts["gap"] > limits["gap"] {
		return attention{"gaps"}
	}
	for word, n := range limits {
		if counts[word] > n {
			return attention{word}
		}
	}
	return nil
}

// writeSoftware writes the findings of all reports, each once.
func writeSoftware(o softwareOptions, reports []*software.Report, made time.Time) error {
	h := evidence.FileHeader{Source: evidence.SourceSoftware, Made: made.UTC(), Subject: o.subject}
	var origins, lost []string
	for _, r := range reports {
		origins = append(origins, r.Origin)
		if l := r.Lost(); l != "" {
			lost = append(lost, r.Origin+": "+l)
		}
	}
	h.Origin, h.Lost = few(origins), few(lost)
	findings := func(yield func(evidence.Finding) bool) {
		for _, r := range reports {
			for f := range r.Findings(o.subject, made.UTC()) {
				if len(reports) > 1 {
					f.Detail = r.Origin + ": " + f.Detail
				}
				if !yield(f) {
					return
				}
			}
		}
	}
	err := writeFile(o.out, true, func(w io.Writer) error { return evidence.WriteFindings(w, h, findings) })
	if err != nil {
		return fmt.Errorf("write the findings %s: %w", o.out, err)
	}
	return nil
}

// few joins texts, as many as a header of a findings file may hold.
func few(texts []string) string {
	out := strings.Join(texts, ", ")
	if len(out) > 2000 {
		out = fmt.Sprintf("%s… and others, %d in all", strings.ToValidUTF8(out[:2000], ""), len(texts))
	}
	return out
}

type softwareJSON struct {
	Format  int                `json:"imdsctl_software"`
	Reports []*software.Report `json:"reports"`
	Out     string             `json:"out,omitempty"`
}

func (s *session) showSoftware(reports []*software.Report, o softwareOptions) error {
	switch s.format {
	case "json":
		return writeJSON(s.env.Out, softwareJSON{jsonVersion, reports, o.out})
	case "csv":
		return writeCSV(s.env.Out, []string{"origin", "what", "product", "version", "judgement", "first", "path", "line", "fix"},
			softwareRecords(reports))
	}
	for i, r := range reports {
		if i > 0 {
			fmt.Fprintln(s.env.Out)
		}
		s.showReport(r)
	}
	if o.out != "" {
		fmt.Fprintf(s.env.Out, "\nFindings about %s are in %s.\n", o.subject, o.out)
		s.hint("Next: `imdsctl evidence import %s`.", o.out)
	}
	return nil
}

// softwareRecords are the rows of all reports: a place of a product, a call or a gap each.
func softwareRecords(reports []*software.Report) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		for _, r := range reports {
			for _, i := range r.Items {
				for _, p := range i.Places {
					if !yield([]string{r.Origin, "software", i.Name, i.Version, string(i.Verdict.Judgement), i.Verdict.First, p.Path, "",
						i.Verdict.Fix}, nil) {
						return
					}
				}
			}
			for _, c := range r.Raw {
				if !yield([]string{r.Origin, "raw-call", "", "", "", "", c.Path, strconv.Itoa(c.Line), c.Fix}, nil) {
					return
				}
			}
			for _, g := range r.Gaps {
				if !yield([]string{r.Origin, "gap", "", "", "", "", g.Path, "", g.Reason}, nil) {
					return
				}
			}
		}
	}
}

func judgementStyle(j product.Judgement) style {
	switch j {
	case product.Old, product.NoFix:
		return red
	case product.Able, product.Unclear:
		return yellow
	default:
		return green
	}
}

// showReport prints one report for people.
func (s *session) showReport(r *software.Report) {
	fmt.Fprintln(s.env.Out, s.out.wrap(fmt.Sprintf("%s: looked at %s in %s%s.", s.out.paint(bold, r.Origin), plural(r.Files, "file"),
		size(r.Bytes), opened(r)), ""))
	if len(r.Items) > 0 {
		var rows [][]string
		for _, i := range r.Items {
			first := i.Verdict.First
			if i.Verdict.Judgement == product.Speaks {
				first = ""
			}
			rows = append(rows, []string{i.Name, i.Version, s.out.paint(judgementStyle(i.Verdict.Judgement), string(i.Verdict.Judgement)),
				first, places(i.Places)})
		}
		fmt.Fprintln(s.env.Out)
		fmt.Fprint(s.env.Out, s.out.table([]column{
			{title: "PRODUCT"}, {title: "VERSION"}, {title: "IMDSV2"}, {title: "FIRST GOOD"}, {title: "WHERE", flexible: true, floor: 24},
		}, rows))
	}
	s.showRaw(r)
	fmt.Fprintln(s.env.Out, "\n"+s.out.wrap(softwareSummary(r), ""))
	s.showSoftwareGaps(r)
}

// opened says what is in the files, too.
func opened(r *software.Report) string {
	var parts []string
	if r.Archives > 0 {
		parts = append(parts, plural(r.Archives, "archive")+" opened")
	}
	if r.Unopened > 0 {
		parts = append(parts, plural(r.Unopened, "archive")+" of other forms left closed")
	}
	if r.Links > 0 {
		parts = append(parts, plural(r.Links, "link"))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// places is the first place of an item and how many more there are.
func places(all []software.Place) string {
	text := printable(all[0].Path)
	if all[0].Declared {
		text += " (declared)"
	}
	if len(all) > 1 {
		text += fmt.Sprintf(" and %d more", len(all)-1)
	}
	return text
}

// mostShown bounds the calls and the gaps that a table shows; the other formats have all.
const mostShown = 50

func (s *session) showRaw(r *software.Report) {
	if r.RawCount == 0 {
		return
	}
	fmt.Fprintf(s.env.Out, "\n%s the metadata service without a token:\n", s.out.paint(red+bold, plural(r.RawCount, "line")+" ask"+third(r.RawCount)))
	var fixes []string
	for i, c := range r.Raw {
		if i == mostShown {
			fmt.Fprintf(s.env.Out, "  … and %s more\n", count(r.RawCount-i))
			break
		}
		fmt.Fprintf(s.env.Out, "  %s:%d\n", printable(c.Path), c.Line)
		if !slices.Contains(fixes, c.Fix) {
			fixes = append(fixes, c.Fix)
		}
	}
	for _, f := range fixes {
		fmt.Fprintln(s.env.Out, s.out.wrap("  "+s.out.paint(dim, f), "  "))
	}
}

// third is the ending of a verb about one.
func third(n int) string {
	if n == 1 {
		return "s"
	}
	return ""
}

func (s *session) showSoftwareGaps(r *software.Report) {
	for _, g := range r.LeftOut {
		fmt.Fprintf(s.env.Out, "Left out: %s: %s\n", printable(g.Path), g.Reason)
	}
	if r.GapCount == 0 {
		return
	}
	fmt.Fprintf(s.env.Out, "\n%s could not be read; what is there is %s, not absent:\n",
		s.out.paint(yellow+bold, plural(r.GapCount, "place")), s.out.paint(bold, "unknown"))
	for i, g := range r.Gaps {
		if i == mostShown {
			fmt.Fprintf(s.env.Out, "  … and %s more\n", count(r.GapCount-i))
			break
		}
		fmt.Fprintln(s.env.Out, s.out.wrap("  "+printable(g.Path)+": "+printable(g.Reason), "    "))
	}
}

// softwareSummary counts a report in one line.
func softwareSummary(r *software.Report) string {
	counts := r.Counts()
	var parts []string
	for _, j := range []product.Judgement{product.NoFix, product.Old, product.Able, product.Unclear, product.Speaks} {
		if n := counts[j]; n > 0 {
			parts = append(parts, count(n)+" "+string(j))
		}
	}
	if len(parts) == 0 {
		parts = []string{"no AWS SDK, command line or agent"}
	}
	calls := "no call without a token"
	if r.RawCount > 0 {
		calls = plural(r.RawCount, "call") + " without a token"
	}
	return strings.Join(parts, ", ") + "; " + calls + "."
}

// size is bytes in the unit that suits them.
func size(n int64) string {
	for _, u := range []struct {
		name  string
		shift uint
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if n >= 1<<u.shift {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(int64(1)<<u.shift), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// printable shows a path that strangers chose: characters that would move the cursor, or hide what follows, are shown as what they are.
func printable(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) < 0 {
		return text
	}
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}

// softwareProgress shows on standard error how far a scan is, while a person looks at it. stop takes it away.
func (s *session) softwareProgress(path string) (show func(files, bytes int64), stop func()) {
	if s.quiet || !s.err.terminal {
		return nil, func() {}
	}
	bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(s.env.Err), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetElapsedTime(false), progressbar.OptionThrottle(100*time.Millisecond))
	return func(files, bytes int64) {
		if files%64 == 0 {
			bar.Describe(fmt.Sprintf("%s: %s files, %s", printable(path), count(files), size(bytes)))
			_ = bar.Add(1) // a bar that cannot be drawn is no failure of the scan
		}
	}, func() { _ = bar.Finish() }
}
