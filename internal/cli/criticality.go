package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/policy"
)

func (s *session) criticalityCommand() *cobra.Command {
	return &cobra.Command{
		Use: "criticality", Short: "Say how critical each account is, by which rule, and propose it from what runs there", GroupID: groupSee,
		Args: cobra.NoArgs,
		Long: `Says for each account that was scanned what the configuration decides, by which rule and in which wave, and
beside it a proposal: a score from what the account is called, its organizational unit and tags say, and from what
runs there (hosts, public addresses, load balancers, Auto Scaling groups, clusters, callers of IMDSv1), with the points of each part.
A proposal is for people: no plan looks at it. --format yaml prints an accounts section for imdsctl.yaml, in the
place of the one that is there: it keeps its entries, adds one for each account that only the default decides, and has
as comments what is proposed against an entry or a rule. No AWS call is made.`,
		Example: `  imdsctl criticality
  imdsctl criticality --format yaml > accounts.yaml`,
		Annotations: formats("table json yaml"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.with(cmd.Context(), s.criticality)
		},
	}
}

func (s *session) criticality(ctx context.Context, a *app.App) error {
	accounts, err := a.Criticality(ctx)
	if err != nil {
		return err
	}
	switch s.format {
	case "json":
		return s.criticalityJSON(accounts)
	case "yaml":
		_, err := io.WriteString(s.env.Out, accountsYAML(a.Config(), accounts))
		return err
	}
	s.showCriticality(accounts)
	return nil
}

// criticalityRow is one account in the JSON list.
type criticalityRow struct {
	Account  fleet.AccountID            `json:"account"`
	Name     string                     `json:"name,omitempty"`
	OU       string                     `json:"ou,omitempty"`
	Decided  policy.Criticality         `json:"criticality"`
	By       policy.Reason              `json:"decided_by"`
	Wave     string                     `json:"wave,omitempty"`
	WaveBy   policy.Reason              `json:"wave_by,omitzero"`
	Skipped  string                     `json:"skipped,omitempty"`
	Proposal assess.CriticalityProposal `json:"proposal"`
	Runs     *assess.Footprint          `json:"runs"`
}

func (s *session) criticalityJSON(accounts []app.AccountCriticality) error {
	l := newList(s.env.Out, "criticality")
	for _, c := range accounts {
		row := criticalityRow{
			Account: c.Account.ID, Name: c.Account.Name, OU: c.Account.OU, Decided: c.Decided, By: c.By, Wave: c.Wave, WaveBy: c.WaveBy,
			Skipped: c.Skipped, Proposal: c.Proposal, Runs: c.Footprint,
		}
		if err := l.add(row); err != nil {
			return err
		}
	}
	return l.end()
}

func (s *session) showCriticality(accounts []app.AccountCriticality) {
	var rows [][]string
	open, differ := 0, 0
	for i := range accounts {
		c := &accounts[i]
		proposed := string(c.Proposal.Value)
		switch {
		case c.Skipped != "":
			proposed = s.out.paint(dim, proposed)
		case c.Proposal.Value != c.Decided:
			differ++
			proposed = s.out.paint(yellow, proposed)
		}
		by, wave := c.By.String(), cmp.Or(c.Wave, s.out.paint(red, "none"))
		if c.ByDefault && c.Skipped == "" {
			open++
		}
		if c.Skipped != "" {
			by, wave = "left out: "+oneLine(c.Skipped), s.out.paint(dim, "·")
		}
		rows = append(rows, []string{
			string(c.Account.ID), c.Account.Name, string(c.Decided), by, wave, proposed, fmt.Sprint(c.Proposal.Score), becauseOf(&c.Proposal),
		})
	}
	fmt.Fprint(s.env.Out, s.out.table([]column{
		{title: "ACCOUNT"}, {title: "NAME", flexible: true, floor: 10}, {title: "CRITICALITY"}, {title: "DECIDED BY", flexible: true, floor: 14},
		{title: "WAVE", flexible: true, floor: 8}, {title: "PROPOSED"}, {title: "SCORE", right: true}, {title: "BECAUSE", flexible: true, floor: 20},
	}, rows))
	fmt.Fprintln(s.env.Out, "\n"+s.out.wrap(fmt.Sprintf("Only the default decides %s; for %s something else is proposed than is decided. A proposal changes "+
		"nothing: `imdsctl criticality --format yaml` prints it for imdsctl.yaml. Below 0 is low, below 30 medium, below 60 high.",
		plural(open, "account"), plural(differ, "account")), ""))
}

// becauseOf lists the parts of a score.
func becauseOf(p *assess.CriticalityProposal) string {
	var parts []string
	for _, part := range p.Parts {
		parts = append(parts, fmt.Sprintf("%+d %s", part.Points, oneLine(part.Text)))
	}
	words := strings.Join(parts, "; ")
	if p.Floor != "" {
		words += "; " + p.Floor
	}
	return strings.TrimPrefix(words, "; ")
}

// accountsYAML is the `accounts` section of the configuration with what is proposed: as values where nobody has decided, as
// comments where an entry or a rule says something else.
func accountsYAML(config *policy.Config, accounts []app.AccountCriticality) string {
	byID := map[fleet.AccountID]*app.AccountCriticality{}
	for i := range accounts {
		byID[accounts[i].Account.ID] = &accounts[i]
	}
	var lines []policy.AccountLine
	for _, entry := range config.Accounts {
		l := policy.AccountLine{Account: entry}
		if c := byID[entry.ID]; c != nil && entry.Skip == "" {
			l.Comments = commentsOf(c)
			switch {
			case c.ByDefault:
				l.Criticality = c.Proposal.Value
			case c.Proposal.Value != c.Decided:
				l.Suggest = c.Proposal.Value
			}
		}
		lines = append(lines, l)
	}
	for i := range accounts {
		c := &accounts[i]
		if _, listed := config.AccountOf(c.Account.ID); listed || !c.ByDefault && c.Proposal.Value == c.Decided {
			continue
		}
		lines = append(lines, policy.AccountLine{
			Account: policy.Account{ID: c.Account.ID, Criticality: c.Proposal.Value}, Comments: commentsOf(c), Off: !c.ByDefault,
		})
	}
	head := "# Proposed by `imdsctl criticality`. It takes the place of the section `accounts` of imdsctl.yaml.\n"
	if d := config.Organization.Discover; d != policy.DiscoverList {
		head += fmt.Sprintf("# Have `organization.discover: %s` there as well: unless it is said, accounts that are listed are taken for all there are.\n", d)
	}
	return head + policy.AccountsSection(lines)
}

func commentsOf(c *app.AccountCriticality) []string {
	first := string(c.Account.ID)
	if c.Account.Name != "" {
		first = c.Account.Name
	}
	if !c.ByDefault {
		first += fmt.Sprintf(": %s, because %s", c.Decided, c.By.Rule)
	}
	return []string{first, fmt.Sprintf("proposed %s, score %d: %s", c.Proposal.Value, c.Proposal.Score, becauseOf(&c.Proposal))}
}
