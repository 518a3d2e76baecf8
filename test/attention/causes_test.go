package attention

import (
	"time"

	"github.com/imdsctl/imdsctl/internal/attention"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/sagemaker"
	"github.com/imdsctl/imdsctl/internal/awssim/ssm"
	"github.com/imdsctl/imdsctl/internal/evidence"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// days is a time in days.
const days = 24 * time.Hour

// everyCause is a fleet in which each cause occurs, each with an owner of its own where that is possible.
func everyCause() *world {
	w := &world{regions: map[fleet.Region]*region{}}
	w.images()
	w.seenCallers()
	w.agents()
	w.foundCallers()
	w.patterns()
	w.settings()
	w.unseen()
	w.well()
	return w
}

func (w *world) images() {
	p := w.place(ireland)
	p.machines.Images = append(p.machines.Images,
		ec2.ImageSeed{ID: appliance, Name: "PA-VM-AWS-9.1.3-8736b7c7-9dbf-45ee", Owner: "679593333241", OwnerAlias: "aws-marketplace", Public: true,
			Created: start.AddDate(-5, 0, 0)},
		ec2.ImageSeed{ID: amazon1, Name: "amzn-ami-hvm-2018.03.0.20200514.0-x86_64-gp2", Owner: "137112412989", OwnerAlias: "amazon", Public: true,
			Created: start.AddDate(-6, 0, 0)})
}

// seenCallers are named by CloudTrail.
func (w *world) seenCallers() {
	ids := w.group(ireland, "billing", "", machine{tags: team("payments")}, machine{tags: team("payments")})
	w.runs("billing", calling(v1(), oldBoto), ids...)
	w.expect(want{"billing", attention.OldSDK, attention.Certain, "payments", "Upgrade boto3 to 1.12.6", "1.9.2 (botocore 1.12.2) knows only IMDSv1", 2})

	// A container that nobody recognised as one.
	id := w.instance(ireland, machine{tags: team("search", "Name", "indexer")})
	w.runs("indexer", calling(map[string]any{"speaks": "v2-then-v1", "every": "15m", "extra_hops": 1}, newBoto), id)
	w.expect(want{"indexer", attention.FallsBack, attention.Certain, "search", "Find what stands between it and the metadata service",
		"speaks IMDSv2, and got its credentials by IMDSv1", 1})

	ids = w.group(ireland, "tasks", "", machine{tags: team("checkout", "aws:ecs:clusterName", "shop")})
	w.runs("tasks", calling(map[string]any{"speaks": "v2-then-v1", "every": "15m", "extra_hops": 1}, newBoto), ids...)
	w.expect(want{"tasks", attention.HopLimitLow, attention.Certain, "checkout", "Raise the hop limit to 2 (it is 1)", "speaks IMDSv2", 1})

	id = w.instance(ireland, machine{tags: team("platform", "Name", "kiam-node"), hops: 2})
	w.runs("kiam", calling(v1(), kiamServer), id)
	w.expect(want{"kiam-node", attention.CredentialProxy, attention.Certain, "platform", "kiam", "kiam", 1})
}

// agents run beside applications.
func (w *world) agents() {
	agent := func() map[string]any { return map[string]any{"speaks": "v1-first", "every": "30m"} }
	p := w.place(ireland)
	managed := func(version string, ids ...string) {
		for _, id := range ids {
			p.agents = append(p.agents, ssm.AgentSeed{Instance: id, Version: version})
		}
	}
	// Only the agent: the application has nothing to do.
	ids := w.group(ireland, "quiet", "", machine{tags: team("ops")}, machine{tags: team("ops")})
	w.runs("agents of quiet", agent(), ids...)
	managed("2.3.1319.0", ids...)
	w.expect(want{"quiet", attention.SSMAgent, attention.Likely, "ops", "Update the SSM agent to 3.0.431.0", "2.3.1319.0", 2})

	// The agent and an application, both seen calling.
	ids = w.group(ireland, "orders", "", machine{tags: team("orders")})
	w.runs("agent of orders", calling(agent(), oldAgent), ids...)
	w.runs("orders", calling(v1(), oldBoto), ids...)
	managed("2.3.1319.0", ids...)
	w.expect(want{"orders", attention.OldSDK, attention.Certain, "orders", "Upgrade boto3 to 1.12.6", "1.9.2", 1})
	w.expect(want{"orders", attention.SSMAgent, attention.Certain, "orders", "Update the SSM agent to 3.0.431.0", "2.3.1319.0", 1})

	// An old agent on one of two that call: there must be something else.
	ids = w.group(ireland, "mixed", "", machine{tags: team("returns")}, machine{tags: team("returns")})
	w.runs("agent of mixed", agent(), ids[0])
	w.runs("mixed", v1(), ids[1])
	managed("2.3.1319.0", ids[0])
	managed("3.3.1611.0", ids[1])
	w.expect(want{"mixed", attention.SSMAgent, attention.Possible, "returns", "Update the SSM agent", "2.3.1319.0", 2})
	w.expect(want{"mixed", attention.UnknownCaller, attention.Certain, "returns", "Find out who calls", "no source has named it", 2})

	id := w.instance(ireland, machine{tags: team("metrics", "Name", "collector")})
	w.runs("datadog", v1(), id)
	w.found(evidence.WhatSoftware, "datadog-agent", "7.17.0", "/opt/datadog-agent", id)
	w.expect(want{"collector", attention.OtherAgent, attention.Likely, "metrics", "Datadog", "7.17.0", 1})
}

// foundCallers are in what a look at the software found, or in the image.
func (w *world) foundCallers() {
	id := w.instance(ireland, machine{tags: team("reports", "Name", "nightly")})
	w.runs("nightly", v1(), id)
	w.installed(id, map[string]string{"usr/lib/python3/dist-packages/boto3-1.9.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: boto3\nVersion: 1.9.2\n",
		"usr/lib/python3/dist-packages/requests-2.31.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: requests\nVersion: 2.31.0\n"})
	w.expect(want{"nightly", attention.OldSDK, attention.Likely, "reports", "Upgrade boto3 to 1.12.6", "1.9.2 knows only IMDSv1", 1})

	id = w.instance(ireland, machine{tags: team("backup", "Name", "backup")})
	w.runs("backup", v1(), id)
	w.installed(id, map[string]string{"usr/local/bin/backup.sh": "#!/bin/sh\nset -e\n" +
		"ROLE=$(curl -s http://169.254.169.254/latest/meta-data/iam/security-credentials/)\naws s3 sync /data s3://backup-$ROLE\n"})
	w.expect(want{"backup", attention.RawCall, attention.Likely, "backup", "Ask for a token first, and send it with each request, in usr/local/bin/backup.sh:3",
		"backup.sh:3", 1})

	id = w.instance(ireland, machine{tags: team("legacy", "Name", "importer")})
	w.runs("importer", v1(), id)
	w.found(evidence.WhatRefused, "", "", "/opt/importer/run --once", id)
	w.expect(want{"importer", attention.NotCertified, attention.Certain, "legacy", "certify it again", "/opt/importer/run", 1})

	id = w.instance(ireland, machine{tags: team("network", "Name", "firewall"), image: appliance})
	w.runs("firewall", v1(), id)
	w.expect(want{"firewall", attention.Appliance, attention.Likely, "network", "PAN-OS", "VM-Series", 1})

	id = w.instance(ireland, machine{tags: team("archive", "Name", "old-box"), image: amazon1})
	w.runs("old-box", v1(), id)
	w.expect(want{"old-box", attention.OldImage, attention.Likely, "archive", "current image", "Amazon Linux 1", 1})
}

// patterns are callers that nobody named, but for when they call.
func (w *world) patterns() {
	id := w.instance(ireland, machine{tags: team("finance", "Name", "weekly"), launched: 90 * days})
	w.runs("weekly", map[string]any{"speaks": "v1-only", "every": "168h", "anchor": start.Add(-2 * days)}, id)
	w.expect(want{"weekly", attention.ScheduledCaller, attention.Likely, "finance", "Look at what runs at these times", "every week", 1})

	id = w.instance(ireland, machine{tags: team("web", "Name", "booter"), launched: 5 * days})
	w.runs("booter", map[string]any{"speaks": "v1-only", "at_boot": true}, id)
	w.expect(want{"booter", attention.BootCaller, attention.Likely, "web", "Look at what runs at boot", "when an instance boots", 1})

	// Three instances of one application, made one by one, are one piece of work.
	for range 3 {
		id := w.instance(ireland, machine{tags: team("games", "app", "lobby")})
		w.runs("lobby on "+id, v1(), id)
	}
	w.expect(want{"app=lobby", attention.UnknownCaller, attention.Certain, "games", "Find out who calls", "no source has named it", 3})

	// Where tokens are required already, refused calls fail now.
	id = w.instance(ireland, machine{tags: team("mail", "Name", "refused"), tokens: fleet.TokensRequired})
	w.runs("refused", v1(), id)
	w.expect(want{"refused", attention.UnknownCaller, attention.Certain, "mail", "Find out who calls", "no source has named it", 1})

	id = w.instance(ireland, machine{tags: team("tax", "Name", "monthly"), launched: 100 * days})
	w.runs("monthly", map[string]any{"speaks": "v1-only", "every": "720h", "anchor": start.Add(-20 * days)}, id)
	w.restarted = append(w.restarted, id)
	w.expect(want{"monthly", attention.ScheduleOpen, attention.Certain, "tax", "Wait until 2026-03-", "no full period of it was quiet yet", 1})
}

// settings belong to somebody else, or are about to go wrong.
func (w *world) settings() {
	w.instance(ireland, machine{tags: team("cluster", "karpenter.sh/nodepool", "default")})
	w.expect(want{"default", attention.Managed, attention.Certain, "cluster", "metadataOptions.httpTokens: required in the EC2NodeClass", "karpenter default", 1})

	w.group(ireland, "done", fleet.TokensOptional, machine{tags: team("front"), tokens: fleet.TokensRequired})
	w.expect(want{"done", attention.LaunchAllowsV1, attention.Certain, "front", "Require tokens in a new version of launch template done",
		"next launch would not", 1})

	w.group(virginia, "enforced", fleet.TokensOptional, machine{tags: team("us"), tokens: fleet.TokensRequired})
	w.place(virginia).machines.Defaults = &ec2.DefaultsSeed{HTTPTokensEnforced: fleet.Enabled}
	w.expect(want{"enforced", attention.LaunchRefused, attention.Certain, "us", "Require tokens in a new version of launch template enforced",
		"its next launch fails", 1})

	w.instance(ireland, machine{tags: team("x", "exception", "over"), hops: 1})
	w.expect(want{"tag exception=over", attention.ExceptionOver, attention.Certain, "legal", "renew it", "expired after 2026-02-01", 1})
	w.instance(ireland, machine{tags: team("x", "exception", "ending")})
	w.expect(want{"tag exception=ending", attention.ExceptionEnding, attention.Certain, "legal", "before it ends", "expires after 2026-03-10", 1})

	w.group(ireland, "stacked", "", machine{tags: team("infra", "aws:cloudformation:stack-name", "edge")})
	w.expect(want{"edge", attention.CodeDrift, attention.Certain, "infra", "MetadataOptions: {HttpTokens: required}", "its code would change it back", 1})

	w.instance(ireland, machine{tags: team("tools", "Name", "far"), hops: 5})
	w.expect(want{"far", attention.HopLimitHigh, attention.Likely, "tools", "Lower the hop limit to 1", "the hop limit is 5", 1})
}

// unseen is of what too little is known.
func (w *world) unseen() {
	w.instance(ireland, machine{tags: team("one", "Name", "never-booted"), launched: 60 * days})
	w.expect(want{"never-booted", attention.NoBoot, attention.Certain, "one", "boot inside the window", "booted", 1})

	w.instance(ireland, machine{tags: team("two", "Name", "young"), launched: 3 * days})
	w.expect(want{"young", attention.NotCovered, attention.Certain, "two", "keep it running", "too little of the window", 1})

	w.instance(ireland, machine{tags: team("three", "Name", "parked"), launched: 60 * days, stopped: 40 * days})
	w.expect(want{"parked", attention.NoDatapoint, attention.Certain, "three", "Start one of its instances", "stopped", 1})

	w.place(ireland).books = append(w.place(ireland).books, sagemaker.NotebookSeed{Name: "lab", MinimumVersion: "1"})
	w.expect(want{"lab", attention.NoMetric, attention.Certain, "shop-prod", "accept it by an override", "counts no IMDSv1 calls", 1})

	w.expect(want{"appstream", attention.Gap, attention.Certain, "shop-prod", "Allow appstream:DescribeFleets", "could not be read (denied)", 0})
}

// well needs nothing.
func (w *world) well() {
	modern := func() map[string]any { return map[string]any{"speaks": "v2-then-v1", "every": "15m", "at_boot": true} }
	ready := w.group(ireland, "ready", "", machine{tags: team("well")}, machine{tags: team("well")})
	w.runs("ready", calling(modern(), newBoto), ready...)
	done := w.group(ireland, "finished", fleet.TokensRequired, machine{tags: team("well"), tokens: fleet.TokensRequired})
	w.runs("finished", calling(modern(), newBoto), done...)
	exempt := w.instance(ireland, machine{tags: team("well", "exception", "long")})
	w.runs("exempt", v1(), exempt)
	accepted := w.instance(ireland, machine{tags: team("well", "accepted", "yes")})
	w.runs("accepted", v1(), accepted)
	agent := w.instance(ireland, machine{tags: team("well", "Name", "new-agent")})
	w.runs("new agent", modern(), agent)
	w.place(ireland).agents = append(w.place(ireland).agents, ssm.AgentSeed{Instance: agent, Version: "3.3.1611.0"})
	w.found(evidence.WhatSoftware, "botocore", "1.34.0", "/usr/lib/python3", ready[0])
}
