package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/demo"
	"github.com/imdsctl/imdsctl/internal/policy"
)

func (s *session) simCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "sim", Short: "Run the AWS simulator for other tools", GroupID: groupSetup,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(s.serveCommand())
	return cmd
}

type serveOptions struct {
	listen, scenario string
	pace             float64
	seed             uint64
}

func (s *session) serveCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve a simulated AWS organization over HTTP", Args: cobra.NoArgs,
		Long: `Serves a simulated AWS (EC2, Auto Scaling, CloudWatch, STS, IAM, Organizations and the other services that
imdsctl reads or changes, each as far as imdsctl calls it) until it is interrupted. The first line on standard
output is JSON with the address; what to set for the AWS CLI, SDKs and imdsctl goes to standard error. Signatures
are not checked: an account's number is an access key of its administrator. It listens on this machine only,
unless told otherwise, and has no protection at all.`,
		Example: `  imdsctl sim serve --listen 127.0.0.1:4566 &
  AWS_ENDPOINT_URL=http://127.0.0.1:4566 AWS_ACCESS_KEY_ID=204310000117 AWS_SECRET_ACCESS_KEY=sim \
    AWS_REGION=eu-west-1 aws ec2 describe-instances`,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.serve(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "`address` to listen on; port 0 takes a free one")
	f.StringVar(&o.scenario, "scenario", "demo",
		"`demo` (16 accounts, 3,200 instances), small (12 accounts, 300 instances), or a seed file")
	f.Float64Var(&o.pace, "pace", 1, "how many times faster than this machine's the simulated clock runs")
	f.Uint64Var(&o.seed, "seed", 0, "another number makes another organization")
	return cmd
}

func (s *session) serve(ctx context.Context, o serveOptions) error {
	if o.pace <= 0 {
		return misuse("--pace", "Give a number above 0.", "a clock cannot run at %v", o.pace)
	}
	stage, err := s.stage(o)
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("serve the simulator: %w", err)
	}
	url := "http://" + l.Addr().String()
	line, err := json.Marshal(struct {
		Format     int    `json:"imdsctl_sim"`
		Listening  string `json:"listening"`
		Management string `json:"access_key_id"`
		Region     string `json:"region,omitempty"`
		Accounts   int    `json:"accounts"`
		Instances  int    `json:"instances,omitempty"`
	}{
		jsonVersion, url, string(stage.Summary.Management), region(stage), len(stage.Summary.Accounts), stage.Summary.Instances,
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(s.env.Out, string(line))
	if !s.quiet {
		fmt.Fprintf(s.env.Err, "%s is the administrator of the management account; every account's number is such a key.\n\n"+
			"  export AWS_ENDPOINT_URL=%s AWS_REGION=%s\n"+
			"  export AWS_ACCESS_KEY_ID=%s AWS_SECRET_ACCESS_KEY=sim AWS_SESSION_TOKEN=\n\n",
			stage.Summary.Management, url, region(stage), stage.Summary.Management)
		if o.scenario == "demo" || o.scenario == "small" {
			fmt.Fprintf(s.env.Err, "To enter all accounts, put this into imdsctl.yaml:\n\n"+
				"  organization: {discover: organizations, role: {external_id: %s}}\n\n", demo.ExternalID)
		}
	}
	return stage.Serve(ctx, l)
}

func region(stage *demo.Stage) string {
	if len(stage.Summary.Regions) == 0 {
		return "us-east-1"
	}
	return string(stage.Summary.Regions[0])
}

func (s *session) stage(o serveOptions) (*demo.Stage, error) {
	options := demo.Options{Seed: o.seed, Start: s.now(), Pace: o.pace, Kinds: app.Kinds(),
		FollowUps: app.FollowUpActions(policy.Default())}
	switch o.scenario {
	case "demo":
		return demo.New(options)
	case "small":
		options.Accounts, options.Instances = 12, 300
		return demo.New(options)
	}
	seed, err := os.ReadFile(o.scenario)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, misuse("--scenario", "Give demo, small or the path of a seed file.", "there is no scenario or file %q",
				o.scenario)
		}
		return nil, fmt.Errorf("read the scenario: %w", err)
	}
	stage, err := demo.FromSeed(seed, s.now(), o.pace)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.scenario, err)
	}
	return stage, nil
}
