package policy

import "testing"

func TestMayDisrupt(t *testing.T) {
	c := &Config{Targets: Targets{Disruptive: []DisruptiveRule{
		{Match: Match{Kind: []Glob{"eks-nodegroup"}, Tag: map[string][]Glob{"env": {"dev"}}}, Allow: DisruptReplace},
		{Match: Match{Kind: []Glob{"sagemaker-notebook"}}, Allow: DisruptRestart},
	}}}
	for _, tt := range []struct {
		kind, env, by string
		want          bool
	}{
		{"eks-nodegroup", "dev", "replace", true},
		{"eks-nodegroup", "dev", "restart", true},
		{"eks-nodegroup", "prod", "replace", false},
		{"sagemaker-notebook", "dev", "restart", true},
		{"sagemaker-notebook", "dev", "replace", false},
		{"sagemaker-notebook", "dev", "explode", false},
		{"batch-environment", "dev", "restart", false},
	} {
		r := ResourceFacts{Ref: ref("111122223333", "eu-west-1", tt.kind, "x"), Tags: map[string]string{"env": tt.env}}
		if got := c.MayDisrupt(r, tt.by); got != tt.want {
			t.Errorf("%s in %s, %s: got %v", tt.kind, tt.env, tt.by, got)
		}
	}
}

func TestMatchesWhatIsKnownOfContainers(t *testing.T) {
	r := ResourceFacts{Ref: ref("111122223333", "eu-west-1", "ec2-instance", "i-1"), Cluster: "shop", Containers: "ecs",
		NetworkModes: []string{"awsvpc", "bridge"}}
	for _, tt := range []struct {
		name string
		m    Match
		want bool
	}{
		{"one of its modes", Match{NetworkMode: []Glob{"bridge"}}, true},
		{"none of its modes", Match{NetworkMode: []Glob{"host"}}, false},
		{"cluster and containers", Match{Cluster: []Glob{"sh*"}, Containers: []Glob{"ecs"}}, true},
		{"another cluster", Match{Cluster: []Glob{"other"}, Containers: []Glob{"ecs"}}, false},
	} {
		if got := tt.m.Matches(r); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
	if (Match{NetworkMode: []Glob{"bridge"}}).Matches(ResourceFacts{}) {
		t.Error("a host of which nothing is known matches a network mode")
	}
}
