package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/certify"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

type certifyOptions struct {
	imdsOptions
	v1, env                      string
	allowed                      int
	container, outside, loopback bool
	image                        certifyImageOptions
	compare, trust               bool
	success                      string
	timeout                      time.Duration
	name, about, out             string
	junit, report, products      string
	subject                      evidence.Subject
}

// certifyRole is the role of the instance that a certification plays where nobody says another: without one there are no credentials,
// which most programs ask for.
const certifyRole = "certify"

func (s *session) certifyCommand() *cobra.Command {
	var o certifyOptions
	cmd := &cobra.Command{
		Use: "certify [flags] -- COMMAND [ARGS...]", Short: "Run a command where IMDSv1 is refused, and judge whether it can live with that",
		GroupID: groupSee,
		Long: `Runs a command in a network namespace in which 169.254.169.254 is a metadata service of ours (Linux; as root or as
anybody), with IMDSv1 refused, and says of each call who made it, by which version, and what became of it: fallbacks,
tokens that are not used again, the time that was lost. With --container, or --image, a routed hop lies in between, as
on a host of containers: hop limit 1 is tried first, and 2 where tokens were lost. The credentials are made up.

It passes if the command succeeds and got what it asked for by IMDSv2. It fails if a caller was sent away for good, even
where the command then ends with 0: see --trust-success. A command that never calls, or fails though nothing was
refused, is inconclusive, which is no pass. The command's output is its own; the report goes to standard error, and
with --report to a file. With --out the result becomes evidence about the subject that --for names. Exit codes: 0 it
passes, 3 it does not, or needs a hop limit above --allow-hop-limit, 1 it could not be run. See docs/certify.md.`,
		Example: `  imdsctl certify -- python3 app.py
  imdsctl certify --container --hop-limit 2 --junit imds.xml -- ./integration-test.sh
  imdsctl certify --success running --timeout 2m -- java -jar server.jar
  docker save web:1.4 -o web.tar; imdsctl certify --image web.tar
  imdsctl certify --for group/web --out certified.jsonl -- ./app --once; imdsctl evidence import certified.jsonl`,
		Annotations: formats("text json"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && o.image.file == "" {
				return errors.New("it needs a command, such as `imdsctl certify -- python3 app.py`")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return s.certify(cmd, args, o) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVar(&o.v1, "v1", "refused", "IMDSv1 is `refused` or allowed")
	f.IntVar(&o.hops, "hop-limit", 0, "hop `limit`, 1 to 64, and no other; else 1, and 2 where tokens were lost behind a hop")
	f.IntVar(&o.allowed, "allow-hop-limit", 2, "highest hop `limit` that a pass may need")
	f.BoolVar(&o.container, "container", false, "put a routed hop between the command and the service")
	f.BoolVar(&o.outside, "outside", false, "give the command this host's network too (root)")
	f.BoolVar(&o.loopback, "endpoint", false, "no namespaces: only tell the command by AWS_EC2_METADATA_SERVICE_ENDPOINT where the service is")
	o.image.flags(f)
	f.BoolVar(&o.compare, "compare", false, "run what did not succeed once more, with IMDSv1 allowed and hop limit 64")
	f.StringVar(&o.success, "success", string(certify.SuccessExit),
		"the command succeeds by ending with 0 (`exit`), by getting credentials, or by running until --timeout")
	f.BoolVar(&o.trust, "trust-success", false, "a command that succeeds can do without what it was refused")
	f.DurationVar(&o.timeout, "timeout", 0, "stop the command after this `time`")
	f.StringVar(&o.env, "env", "clean", "`clean` takes away credentials, profiles and proxies that keep a program from asking; keep leaves all")
	f.StringVar(&o.file, "state", "", "read the instance from this `file`, as `imdsctl imds serve` does")
	f.StringVar(&o.scanned, "instance", "", "play this scanned instance, by `id`")
	f.StringVar(&o.role, "role", certifyRole, "`name` of the role; empty gives no credentials")
	f.StringVar(&o.region, "region", "", "the instance's `region`")
	f.BoolVar(&o.ipv6, "ipv6", false, "answer over IPv6 too")
	f.BoolVar(&o.tags, "instance-tags", false, "show the instance's tags")
	f.StringArrayVar(&o.tag, "tag", nil, "a tag, `KEY=VALUE`")
	f.StringVar(&o.data, "user-data", "", "`file` of the instance's user data")
	f.StringVar(&o.about, "for", "", "`KIND/ID` that runs the command: group/web, image/ami-…, role/app, tag/app=billing, instance/i-…")
	f.StringVar(&o.out, "out", "", "write the result to this `file`, for `imdsctl evidence import`; needs --for")
	f.StringVar(&o.name, "name", "", "`name` of the certification, where the command line differs from run to run")
	f.StringVar(&o.junit, "junit", "", "write the result to this `file`, for CI")
	f.StringVar(&o.report, "report", "", "write the report to this `file`, in the format of --format")
	f.StringVar(&o.products, "products", "", "`file` of your own products: see docs/software.md")
	return cmd
}

func (s *session) certify(cmd *cobra.Command, argv []string, o certifyOptions) error {
	given := func(flag string) bool { return cmd.Flags().Changed(flag) }
	if err := o.check(given); err != nil {
		return err
	}
	options, err := s.certifyOptions(cmd.Context(), o, argv, given)
	if err != nil {
		return err
	}
	o.allowed = max(o.allowed, options.HopLimits[0]) // what was asked for, or the instance has
	report, err := app.Certify(cmd.Context(), options)
	if err != nil {
		return err
	}
	if err := s.showCertification(report, o); err != nil {
		return err
	}
	if !report.Accepted(o.allowed) {
		if report.Verdict.Passed() {
			fmt.Fprintln(s.env.Err, "\n"+s.err.wrap(fmt.Sprintf("It needs hop limit %d, and %d is allowed: --allow-hop-limit %d accepts that.",
				report.HopLimit, o.allowed, report.HopLimit), ""))
		}
		return attention{string(report.Verdict)}
	}
	return nil
}

// check refuses what cannot be meant.
func (o *certifyOptions) check(given func(string) bool) (err error) {
	one := func(flag, value string, of ...string) {
		if err == nil && !slices.Contains(of, value) {
			err = misuse(flag, "Give "+strings.Join(of, " or ")+".", "%q is none of these", value)
		}
	}
	one("--v1", o.v1, "refused", "allowed")
	one("--env", o.env, "clean", "keep")
	var successes []string
	for _, known := range certify.Successes() {
		successes = append(successes, string(known))
	}
	one("--success", o.success, successes...)
	if err != nil {
		return err
	}
	for flag, n := range map[string]int{"hop-limit": o.hops, "allow-hop-limit": o.allowed} {
		if wrong := fleet.ValidHopLimit(n); given(flag) && wrong != nil {
			return misuse("--"+flag, "Give a number from 1 to 64.", "%v", wrong)
		}
	}
	if o.about != "" {
		if o.subject, err = evidence.ParseSubject(o.about); err != nil {
			return misuse("--for", "See `imdsctl certify --help`.", "%v", err)
		}
	}
	if err := o.image.check(o.container); err != nil {
		return err
	}
	switch {
	case o.out != "" && o.about == "":
		return misuse("--out", "Say with --for what runs the command, such as --for group/web.", "evidence needs a subject")
	case o.file != "" && o.scanned != "":
		return misuse("--state", "Give one of the two.", "an instance comes from a file or from the database")
	case o.loopback && (o.container || o.outside || o.image.file != ""):
		return misuse("--endpoint", "Leave --container, --outside and --image out.", "they need namespaces, and --endpoint makes none")
	case o.loopback && given("hop-limit"):
		return misuse("--endpoint", "Leave --hop-limit out.", "on the loopback interface no answer is ever lost")
	case o.success == string(certify.SuccessRunning) && o.timeout <= 0:
		return misuse("--success", "Say with --timeout how long it should run.", "a command that succeeds by running needs an end")
	case o.timeout < 0:
		return misuse("--timeout", "Give a time, such as 5m.", "%s is none", o.timeout)
	}
	return nil
}

// certifyOptions are the flags as the App wants them.
func (s *session) certifyOptions(ctx context.Context, o certifyOptions, argv []string, given func(string) bool) (app.CertifyOptions, error) {
	none := app.CertifyOptions{}
	table, err := productTable(o.products)
	if err != nil {
		return none, err
	}
	state, err := s.imdsState(ctx, o.imdsOptions, given)
	if err != nil {
		return none, err
	}
	if o.file == "" && o.scanned == "" && !given("role") {
		state.Role = o.role
	}
	limits := []int{cmp.Or(o.hops, state.Options.HopLimit, 1)}
	routed := o.container || o.image.file != "" && !o.image.hostNetwork
	if routed && o.hops == 0 && limits[0] == 1 {
		limits = append(limits, 2)
	}
	return app.CertifyOptions{
		Command: argv, Name: o.name, State: state, V1Allowed: o.v1 == "allowed", HopLimits: limits, Routed: routed, Outside: o.outside,
		Endpoint: o.loopback, Image: s.certifyImage(o.image, given), Compare: o.compare, Success: certify.Success(o.success), TrustSuccess: o.trust,
		Environment: os.Environ(), KeepEnvironment: o.env == "keep", Timeout: o.timeout,
		Stdin: s.env.In, Stdout: s.results.w, Stderr: s.env.Err, Products: table, Clock: s.clock(),
		Begin: func(why string) {
			if !s.quiet {
				fmt.Fprintln(s.env.Err, s.err.paint(dim, s.err.wrap("imdsctl runs the command again: "+why+".", "")))
			}
		},
	}, nil
}

// showCertification writes the report to where it is wanted.
func (s *session) showCertification(r *certify.Report, o certifyOptions) error {
	paint := map[certify.Tone]style{certify.Strong: bold, certify.Faint: dim, certify.Good: green + bold, certify.Doubtful: yellow + bold,
		certify.Bad: red + bold}
	write := func(w io.Writer, text certify.TextOptions) error {
		if s.format == "json" {
			return writeJSON(w, certifyJSON{jsonVersion, r})
		}
		return r.Text(w, text)
	}
	var problems []error
	for _, file := range []struct {
		path  string
		write func(io.Writer) error
	}{
		{o.report, func(w io.Writer) error { return write(w, certify.TextOptions{}) }},
		{o.junit, func(w io.Writer) error { return r.JUnit(w, o.allowed) }},
	} {
		if file.path == "" {
			continue
		}
		if err := writeFile(file.path, true, file.write); err != nil {
			problems = append(problems, fmt.Errorf("write %s: %w", file.path, err))
		}
	}
	screen := certify.TextOptions{Width: s.err.width, Paint: func(t certify.Tone, words string) string { return s.err.paint(paint[t], words) }}
	var err error
	if s.format == "json" && o.report != "" {
		err = r.Text(s.env.Err, screen)
	} else {
		fmt.Fprintln(s.env.Err)
		err = write(s.env.Err, screen)
	}
	return errors.Join(append(problems, err, s.certificationFindings(r, o))...)
}

// certificationFindings writes the evidence, where there is any.
func (s *session) certificationFindings(r *certify.Report, o certifyOptions) error {
	if o.out == "" {
		return nil
	}
	header, findings, ok := r.Findings(o.subject)
	if !ok {
		fmt.Fprintln(s.env.Err, "\n"+s.err.wrap(fmt.Sprintf("Nothing was written to %s: what is inconclusive is no evidence.", o.out), ""))
		return nil
	}
	err := writeFile(o.out, true, func(w io.Writer) error { return evidence.WriteFindings(w, header, slices.Values(findings)) })
	if err != nil {
		return fmt.Errorf("write the findings %s: %w", o.out, err)
	}
	fmt.Fprintf(s.env.Err, "\nThe result about %s is in %s.\n", o.subject, o.out)
	s.hint("Next: `imdsctl evidence import %s`.", o.out)
	return nil
}

type certifyJSON struct {
	Format int `json:"imdsctl_certify"`
	*certify.Report
}
