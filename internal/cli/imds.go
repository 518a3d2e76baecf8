package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/imds"
)

type imdsOptions struct {
	listen          []string
	file, scanned   string
	tokens          string
	endpoint        string
	hops            int
	ipv6, tags      bool
	role            string
	instance, image string
	kind, account   string
	region, data    string
	tag             []string
}

func (s *session) imdsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "imds", Short: "Run the instance metadata service on this machine", GroupID: groupSetup, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(s.imdsServeCommand())
	return cmd
}

func (s *session) imdsServeCommand() *cobra.Command {
	var o imdsOptions
	cmd := &cobra.Command{
		Use: "serve", Short: "Answer as the metadata service of an EC2 instance does", Args: cobra.NoArgs,
		Long: `Answers as the instance metadata service until it is interrupted: tokens and their errors, IMDSv1 allowed or refused, the
hop limit of the token's answer (Linux), the tree of metadata with role credentials and the identity document. Each
call is a line on standard output that says who called, by v1 or v2; tokens and credentials are never written.

The instance is made up, read from a file (--state, YAML or JSON), or one that was scanned (--instance). Flags go over
what these say. SIGHUP reads the file or the database again. Credentials are made up and no AWS service takes them;
neither are signatures AWS's. At the end it says what CloudWatch would have counted as MetadataNoToken and
MetadataNoTokenRejected. It listens on this machine only, unless told otherwise, and has no protection at all.
See docs/imds.md.`,
		Example: `  imdsctl imds serve --tokens required --role web &
  AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1338 aws configure list
  imdsctl imds serve --instance i-0123456789abcdef0 --tokens required    # would its software still work?`,
		Annotations: formats("table json"),
		RunE:        func(cmd *cobra.Command, _ []string) error { return s.imdsServe(cmd, o) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.listen, "listen", []string{"127.0.0.1:1338"}, "`addresses` with ports, of IPv4 or IPv6; port 0 takes a free one")
	f.StringVar(&o.file, "state", "", "read the instance from this `file`")
	f.StringVar(&o.scanned, "instance", "", "play this scanned instance, by `id`")
	f.StringVar(&o.tokens, "tokens", "", "`optional` (v1 and v2), required (v2 alone), or unsupported (v1 alone, as no instance has it)")
	f.StringVar(&o.endpoint, "endpoint", "", "`enabled` or disabled")
	f.IntVar(&o.hops, "hop-limit", 0, "hop limit of the answers to token requests, 1 to 64")
	f.BoolVar(&o.ipv6, "ipv6", false, "answer over IPv6 too")
	f.BoolVar(&o.tags, "instance-tags", false, "show the instance's tags")
	f.StringVar(&o.role, "role", "", "`name` of the role; empty gives no credentials")
	f.StringVar(&o.instance, "instance-id", "", "`id` of the instance that is played")
	f.StringVar(&o.image, "image-id", "", "`id` of its image")
	f.StringVar(&o.kind, "instance-type", "", "its `type`")
	f.StringVar(&o.account, "account", "", "its account `id`")
	f.StringVar(&o.region, "region", "", "its `region`")
	f.StringVar(&o.data, "user-data", "", "`file` of its user data")
	f.StringArrayVar(&o.tag, "tag", nil, "a tag, `KEY=VALUE`")
	return cmd
}

func (s *session) imdsServe(cmd *cobra.Command, o imdsOptions) error {
	if o.file != "" && o.scanned != "" {
		return misuse("--state", "Give one of the two.", "an instance comes from a file or from the database")
	}
	ctx := cmd.Context()
	given := func(flag string) bool { return cmd.Flags().Changed(flag) }
	load := func() (imds.State, error) { return s.imdsState(ctx, o, given) }
	state, err := load()
	if err != nil {
		return err
	}
	log := &imdsLog{s: s}
	service, err := imds.New(imds.Config{State: state, Now: s.now, Observe: log.call})
	if err != nil {
		return usageError{err}
	}
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			_ = l.Close() // those that were served are closed already
		}
	}()
	for _, address := range o.listen {
		l, err := imdsListen(ctx, address, service.State())
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
	}
	if err := s.imdsBanner(service, listeners); err != nil {
		return err
	}
	stop := onHangUp(func() {
		next, err := load()
		if err == nil {
			err = service.SetState(next)
		}
		if err != nil {
			s.report(err)
			fmt.Fprintf(s.env.Err, "The old state goes on: %s.\n", imdsManner(service.State()))
			return
		}
		fmt.Fprintf(s.env.Err, "Read again: %s.\n", imdsManner(service.State()))
	})
	defer stop()
	err = service.Serve(ctx, listeners...)
	return errors.Join(err, log.failed(), s.imdsSummary(service.Counts()))
}

// imdsState is the instance to play: the file's or the scanned one, and the flags over it.
func (s *session) imdsState(ctx context.Context, o imdsOptions, given func(string) bool) (imds.State, error) {
	var state imds.State
	switch {
	case o.file != "":
		data, err := os.ReadFile(o.file)
		if err != nil {
			return state, misuse("--state", "Give a file of YAML or JSON: see docs/imds.md.", "%v", err)
		}
		if state, err = imds.ParseState(data, o.file); err != nil {
			return state, usageError{err}
		}
	case o.scanned != "":
		err := s.with(ctx, func(ctx context.Context, a *app.App) (err error) {
			var guess string
			if state, guess, err = a.InstanceMetadata(ctx, o.scanned); err == nil && guess != "" {
				fmt.Fprintln(s.env.Err, s.err.wrap("Note: "+guess+".", ""))
			}
			return err
		})
		if err != nil {
			return state, err
		}
	}
	return state, o.over(&state, given)
}

// over lays the flags that were given over a state.
func (o imdsOptions) over(state *imds.State, given func(string) bool) error {
	if given("hop-limit") {
		if err := fleet.ValidHopLimit(o.hops); err != nil {
			return misuse("--hop-limit", "Give a number from 1 to 64.", "%v", err)
		}
		state.Options.HopLimit = o.hops
	}
	enabled := func(on bool) string {
		if on {
			return fleet.Enabled
		}
		return fleet.Disabled
	}
	set := func(flag string, to *string, value string) {
		if given(flag) {
			*to = value
		}
	}
	set("tokens", &state.Options.Tokens, o.tokens)
	set("endpoint", &state.Options.Endpoint, o.endpoint)
	set("ipv6", &state.Options.IPv6, enabled(o.ipv6))
	set("instance-tags", &state.Options.Tags, enabled(o.tags))
	set("instance-id", &state.InstanceID, o.instance)
	set("image-id", &state.ImageID, o.image)
	set("instance-type", &state.InstanceType, o.kind)
	set("account", (*string)(&state.Account), o.account)
	set("region", (*string)(&state.Region), o.region)
	if given("region") && !strings.HasPrefix(state.Zone, o.region) {
		state.Zone, state.ZoneID = "", "" // those of another region
	}
	if given("role") && o.role != state.Role {
		state.Role, state.Profile = o.role, ""
	}
	for _, t := range o.tag {
		key, value, has := strings.Cut(t, "=")
		if !has {
			return misuse("--tag", "Give KEY=VALUE.", "%q has no value", t)
		}
		if state.Tags == nil {
			state.Tags = map[string]string{}
		}
		state.Tags[key] = value
	}
	if o.data != "" {
		data, err := os.ReadFile(o.data)
		if err != nil {
			return misuse("--user-data", "Give a file.", "%v", err)
		}
		state.UserData = data
	}
	return nil
}

// imdsListen opens one address. The service's own is only there where a host has it.
func imdsListen(ctx context.Context, address string, state imds.State) (net.Listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, misuse("--listen", "Give an address and a port, such as 127.0.0.1:1338, or [::1]:1338 with --ipv6.", "%q is none", address)
	}
	if at.Addr().Is6() && state.Options.IPv6 != fleet.Enabled {
		return nil, misuse("--listen", "Give --ipv6 as well.", "the instance has its IPv6 endpoint disabled, so that nothing would answer at %s", address)
	}
	l, err := imds.Listen(ctx, address)
	if err != nil && (address == imds.AddressIPv4 || address == imds.AddressIPv6) {
		return nil, fleet.Diagnostic{
			Severity: fleet.SeverityError, Where: "--listen", Summary: err.Error(),
			Remedy: "Put the address on an interface of this host first (`ip address add " + at.Addr().String() +
				" dev lo`, as root), never on an EC2 instance, or listen elsewhere and set AWS_EC2_METADATA_SERVICE_ENDPOINT.",
		}
	}
	return l, err
}

// imdsBanner says where the service is and how SDKs are pointed at it.
func (s *session) imdsBanner(service *imds.Service, listeners []net.Listener) error {
	state := service.State()
	var urls []string
	for _, l := range listeners {
		urls = append(urls, "http://"+l.Addr().String())
	}
	if s.format == "json" {
		line, err := json.Marshal(struct {
			Format    int           `json:"imdsctl_imds"`
			Listening []string      `json:"listening"`
			Instance  string        `json:"instance_id"`
			Options   fleet.Options `json:"options"`
			HopLimits bool          `json:"hop_limit_supported"`
		}{jsonVersion, urls, state.InstanceID, state.Options, imds.HopLimits})
		if err != nil {
			return err
		}
		fmt.Fprintln(s.env.Out, string(line))
	}
	if s.quiet {
		return nil
	}
	fmt.Fprintf(s.env.Err, "%s answers at %s: %s.\n\n", state.InstanceID, strings.Join(urls, " and "), imdsManner(state))
	fmt.Fprintf(s.env.Err, "  export AWS_EC2_METADATA_SERVICE_ENDPOINT=%s AWS_EC2_METADATA_DISABLED=false\n", urls[0])
	if state.Role != "" {
		fmt.Fprintf(s.env.Err, "\nThe credentials of %s are made up: no AWS service takes them.\n", state.Role)
	}
	for _, l := range listeners {
		if host, _, err := net.SplitHostPort(l.Addr().String()); err == nil {
			if a, err := netip.ParseAddr(host); err == nil && !a.IsLoopback() && !a.IsLinkLocalUnicast() && a.String() != "fd00:ec2::254" {
				fmt.Fprintf(s.env.Err, "%s can be reached from other machines, and asks nobody who they are.\n", l.Addr())
			}
		}
	}
	if !imds.HopLimits {
		fmt.Fprintln(s.env.Err, "On this system the hop limit is not applied: a token's answer travels any distance. Linux can.")
	}
	return nil
}

// imdsManner is how the options are set, in words.
func imdsManner(state imds.State) string {
	o := state.Options
	if o.Endpoint == fleet.Disabled {
		return "the endpoint is disabled"
	}
	words := "IMDSv1 and IMDSv2"
	switch o.Tokens {
	case fleet.TokensRequired:
		words = "IMDSv2 only"
	case imds.TokensUnsupported:
		return "IMDSv1 only, as a stand-in that knows no tokens; no instance is like that"
	}
	words += ", hop limit " + strconv.Itoa(o.HopLimit)
	if o.IPv6 == fleet.Enabled {
		words += ", IPv6 too"
	}
	if o.Tags == fleet.Enabled {
		words += ", with instance tags"
	}
	return words
}

// imdsLog writes a line for each call.
type imdsLog struct {
	s   *session
	mu  sync.Mutex
	err error
}

func (l *imdsLog) call(c imds.Call) {
	line, err := json.Marshal(c)
	if l.s.format != "json" {
		line = []byte(l.s.imdsLine(c))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		_, err = fmt.Fprintln(l.s.env.Out, string(line))
	}
	if l.err == nil && err != nil {
		l.err = fmt.Errorf("write the line of a call: %w", err)
	}
}

func (l *imdsLog) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// imdsLine is a call for people.
func (s *session) imdsLine(c imds.Call) string {
	status, colour := strconv.Itoa(c.Status), green
	switch {
	case c.Status == 0:
		status, colour = "closed", red
	case c.Status >= 400:
		colour = red
	}
	version := string(c.Version)
	if c.Version == imds.V1 {
		version = s.out.paint(yellow, version)
	}
	line := fmt.Sprintf("%s  %s  %s  %s %s", c.Time.Format("15:04:05.000"), version, s.out.paint(colour, status), plainly(c.Method), plainly(c.Path))
	if c.Why != "" {
		line += "  (" + plainly(c.Why) + ")"
	}
	if c.TokenID != "" {
		line += "  token " + c.TokenID[:6]
	}
	line += "  from " + c.Remote
	if c.UserAgent != "" {
		line += "  " + plainly(c.UserAgent)
	}
	return line
}

// plainly is text of strangers without what a terminal would obey.
func plainly(text string) string {
	quoted := strconv.Quote(text)
	if inside := quoted[1 : len(quoted)-1]; inside != text {
		return quoted
	}
	return text
}

// imdsSummary says what CloudWatch would have counted, and of whom.
func (s *session) imdsSummary(c imds.Counts) error {
	if s.format == "json" {
		type caller struct {
			imds.Client
			imds.Count
		}
		out := struct {
			imds.Count
			Paths   map[string]imds.Count `json:"paths,omitempty"`
			Callers []caller              `json:"callers,omitempty"`
		}{Count: c.Count, Paths: c.Paths}
		for _, who := range c.Callers() {
			out.Callers = append(out.Callers, caller{who, c.Clients[who]})
		}
		line, err := json.Marshal(map[string]any{"summary": out})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.env.Out, string(line))
		return err
	}
	if s.quiet {
		return nil
	}
	fmt.Fprintf(s.env.Err, "MetadataNoToken %d, MetadataNoTokenRejected %d.\n", c.NoToken, c.Rejected)
	for i, who := range c.Callers() {
		if i == 10 {
			fmt.Fprintf(s.env.Err, "  and %d more\n", len(c.Clients)-i)
			break
		}
		n := c.Clients[who]
		fmt.Fprintf(s.env.Err, "  %d of v1 and %d refused from %s %s\n", n.NoToken, n.Rejected, who.Address, plainly(who.UserAgent))
	}
	return nil
}
