package ssm_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdkec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	sdk "github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/imdsctl/imdsctl/internal/awssim"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/ssm"
	"github.com/imdsctl/imdsctl/internal/clock"
)

const (
	account = "111122223333"
	first   = "i-0123456789abcdef0"
	second  = "i-0123456789abcdef1"
	stopped = "i-0123456789abcdef2"
	agent   = "i-0123456789abcdef3" // has none
	broken  = "i-0123456789abcdef4"
)

const seed = `{"accounts": [{"id": "111122223333", "regions": {"eu-west-1": {
	"ec2": {"images": [{"id": "ami-0123456789abcdef0"}], "instances": [
		{"id": "i-0123456789abcdef0", "image": "ami-0123456789abcdef0", "tags": {"app": "shop"}},
		{"id": "i-0123456789abcdef1", "image": "ami-0123456789abcdef0"},
		{"id": "i-0123456789abcdef2", "image": "ami-0123456789abcdef0", "state": "stopped"},
		{"id": "i-0123456789abcdef3", "image": "ami-0123456789abcdef0"},
		{"id": "i-0123456789abcdef4", "image": "ami-0123456789abcdef0"}]},
	"ssm": {"documents": ["restart-shop"], "unmanaged": ["i-0123456789abcdef3"], "exit_codes": {"i-0123456789abcdef4": 7}}}}}],
	"services": {"workload": {"programs": [{"name": "shop", "speaks": "v2-then-v1", "sticky": true, "extra_hops": 1,
		"every": "1m", "at_boot": true, "where": {"tags": ["app=shop"]}}]}}}`

type world struct {
	*core.World
	clock *clock.Manual
	place *core.Place
	ssm   *sdk.Client
}

func enter(t *testing.T, o core.Options) world {
	t.Helper()
	c := clock.NewManual(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))
	o.Clock = c
	w := awssim.New(o)
	if err := w.Load([]byte(seed)); err != nil {
		t.Fatal(err)
	}
	p, err := w.Place(account, "eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	return world{w, c, p, sdk.New(sdk.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(account, "dummy", ""),
	})}
}

func restart(instances ...string) *sdk.SendCommandInput {
	return &sdk.SendCommandInput{
		DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: instances, Comment: aws.String("mark"),
		Parameters: map[string][]string{"commands": {"systemctl restart shop"}}, TimeoutSeconds: aws.Int32(60),
	}
}

func (w world) send(t *testing.T, in *sdk.SendCommandInput) string {
	t.Helper()
	out, err := w.ssm.SendCommand(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if len(*out.Command.CommandId) != 36 || out.Command.Status != ssmtypes.CommandStatusPending {
		t.Errorf("sent as %q, %s", *out.Command.CommandId, out.Command.Status)
	}
	return *out.Command.CommandId
}

func (w world) list(t *testing.T, in *sdk.ListCommandsInput) []ssmtypes.Command {
	t.Helper()
	out, err := w.ssm.ListCommands(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out.Commands
}

func TestACommandRunsAndIsSeenLate(t *testing.T) {
	w := enter(t, core.Options{Consistency: time.Second, Settle: 10 * time.Second})
	id := w.send(t, restart(first))
	byInstance := &sdk.ListCommandsInput{InstanceId: aws.String(first)}
	for _, step := range []struct {
		after time.Duration
		want  string
	}{
		{0, ""}, {time.Second, "Pending"}, {5 * time.Second, "InProgress"}, {5 * time.Second, "Success"},
	} {
		w.clock.Advance(step.after)
		got := ""
		for _, c := range w.list(t, byInstance) {
			got += string(c.Status)
			if *c.CommandId != id || *c.Comment != "mark" || c.Parameters["commands"][0] != "systemctl restart shop" {
				t.Errorf("%+v", c)
			}
		}
		if got != step.want {
			t.Errorf("after %s more: %q, want %q", step.after, got, step.want)
		}
	}
	if runs := ssm.Runs(w.place, first); len(runs) != 1 || runs[0].Command != id || runs[0].Comment != "mark" {
		t.Errorf("ran %+v", runs)
	}
	if n := len(programs.Restarts(w.place, first)); n != 1 {
		t.Errorf("%d restarts, want one", n)
	}
	if found := w.list(t, &sdk.ListCommandsInput{InstanceId: aws.String(second)}); len(found) > 0 {
		t.Errorf("listed for another instance: %+v", found)
	}
}

// A program that fell back to v1 at its start is cured of it by a command, and by nothing else.
func TestACommandCuresWhatRemembers(t *testing.T) {
	w := enter(t, core.Options{})
	client := sdkec2.New(sdkec2.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(awssim.BaseURL), HTTPClient: w.Client(),
		Credentials: credentials.NewStaticCredentialsProvider(account, "dummy", ""),
	})
	_, err := client.ModifyInstanceMetadataOptions(t.Context(), &sdkec2.ModifyInstanceMetadataOptionsInput{
		InstanceId: aws.String(first), HttpPutResponseHopLimit: aws.Int32(2), HttpTokens: types.HttpTokensStateRequired,
		HttpEndpoint: types.InstanceMetadataEndpointStateEnabled,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(10 * time.Minute)
	if h := programs.Health(w.World); len(h.Broken) != 1 || !strings.Contains(h.Broken[0].Why, "restart it") {
		t.Fatalf("before the restart: %+v", h.Broken)
	}
	w.send(t, restart(first))
	w.clock.Advance(10 * time.Minute)
	if h := programs.Health(w.World); len(h.Broken) != 0 {
		t.Errorf("after the restart: %+v", h.Broken)
	}
}

func TestFailures(t *testing.T) {
	tests := []struct {
		name            string
		in              *sdk.SendCommandInput
		before          func(w world)
		status, details string
		code            int32
		runs            int
	}{
		{name: "the script fails", in: func() *sdk.SendCommandInput {
			in := restart(first)
			in.Parameters["commands"] = []string{"systemctl restart shop", " exit 3"}
			return in
		}(), status: "Failed", details: "Failed", code: 3, runs: 1},
		{name: "the instance fails everything", in: restart(broken), status: "Failed", details: "Failed", code: 7, runs: 1},
		{name: "one of two fails", in: restart(first, broken), status: "Failed", details: "Failed", runs: 1},
		{name: "stopped before delivery", in: restart(first), before: func(w world) { w.stop(first) },
			status: "TimedOut", details: "DeliveryTimedOut", code: -1},
		{name: "the agent is gone", in: restart(first), before: func(w world) { ssm.SetManaged(w.place, first, false) },
			status: "TimedOut", details: "DeliveryTimedOut", code: -1},
		{name: "stopped while it ran", in: restart(first), before: func(w world) {
			w.clock.Advance(1100 * time.Millisecond) // the agent takes a command up within a second
			w.stop(first)
		}, status: "Failed", details: "Undeliverable", code: -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := enter(t, core.Options{Consistency: -1})
			id := w.send(t, tt.in)
			if tt.before != nil {
				tt.before(w)
			}
			w.clock.Advance(2 * time.Minute)
			found := w.list(t, &sdk.ListCommandsInput{CommandId: aws.String(id)})
			if len(found) != 1 || string(found[0].Status) != tt.status || *found[0].StatusDetails != tt.details {
				t.Fatalf("%+v", found)
			}
			instance := tt.in.InstanceIds[0]
			got, err := w.ssm.GetCommandInvocation(t.Context(), &sdk.GetCommandInvocationInput{
				CommandId: aws.String(id), InstanceId: aws.String(instance),
			})
			if err != nil || got.ResponseCode != tt.code {
				t.Errorf("%+v, %v, want code %d", got, err, tt.code)
			}
			if n := len(ssm.Runs(w.place, instance)); n != tt.runs {
				t.Errorf("%d runs, want %d", n, tt.runs)
			}
			if tt.status != "Success" && len(tt.in.InstanceIds) == 1 && len(programs.Restarts(w.place, instance)) > 0 {
				t.Error("programs were restarted")
			}
		})
	}
}

func (w world) stop(id string) {
	w.place.With(func(now time.Time) { ec2.StoreOf(w.place).Stop(now, ec2.StoreOf(w.place).Instance(id)) })
}

func TestRefusals(t *testing.T) {
	w := enter(t, core.Options{})
	with := func(change func(*sdk.SendCommandInput)) *sdk.SendCommandInput {
		in := restart(first)
		change(in)
		return in
	}
	tests := []struct {
		code string
		in   *sdk.SendCommandInput
	}{
		{"InvalidInstanceId", restart(stopped)},
		{"InvalidInstanceId", restart(agent)},
		{"InvalidInstanceId", restart("i-0123456789abcdeff")},
		{"DuplicateInstanceId", restart(first, first)},
		{"ValidationException", restart("first")},
		{"ValidationException", restart()},
		{"InvalidDocument", with(func(in *sdk.SendCommandInput) { in.DocumentName = aws.String("restart-other") })},
		{"InvalidParameters", with(func(in *sdk.SendCommandInput) { in.Parameters = nil })},
		{"InvalidParameters", with(func(in *sdk.SendCommandInput) { in.Parameters["command"] = []string{"ls"} })},
		{"ValidationException", with(func(in *sdk.SendCommandInput) { in.Comment = aws.String(strings.Repeat("x", 101)) })},
		{"ValidationException", with(func(in *sdk.SendCommandInput) { in.TimeoutSeconds = aws.Int32(29) })},
		{"ValidationException", with(func(in *sdk.SendCommandInput) { in.Targets = []ssmtypes.Target{{}} })},
	}
	for n, tt := range tests {
		_, err := w.ssm.SendCommand(t.Context(), tt.in)
		if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != tt.code {
			t.Errorf("%d: %v, want %s", n, err, tt.code)
		}
	}
	w.clock.Advance(time.Hour)
	if found := w.list(t, &sdk.ListCommandsInput{}); len(found) > 0 {
		t.Errorf("what was refused is listed: %+v", found)
	}
}

// Every page size gives each command and each invocation once, the newest first, whatever is filtered.
func TestPages(t *testing.T) {
	w := enter(t, core.Options{Unthrottled: true})
	var sent []string
	began := w.Now()
	for n := range 13 {
		in := restart(first)
		if n%3 == 0 {
			in.InstanceIds = append(in.InstanceIds, second)
		}
		if n%4 == 0 {
			in.DocumentName, in.Parameters = aws.String("restart-shop"), nil
		}
		sent = append(sent, w.send(t, in))
		w.clock.Advance(time.Minute)
	}
	slices.Reverse(sent)
	for size := int32(1); size <= 14; size++ {
		var got []string
		pages := sdk.NewListCommandsPaginator(w.ssm, &sdk.ListCommandsInput{MaxResults: aws.Int32(size)})
		for pages.HasMorePages() {
			out, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range out.Commands {
				got = append(got, *c.CommandId)
			}
		}
		if !slices.Equal(got, sent) {
			t.Errorf("in pages of %d: %q, want %q", size, got, sent)
		}
		for instance, want := range map[string]int{first: 13, second: 5, "": 18} {
			got := invocations(t, w, instance, size)
			if len(got) != want || len(slices.Compact(slices.Sorted(slices.Values(got)))) != want {
				t.Errorf("in pages of %d, %q has invocations %q, want %d", size, instance, got, want)
			}
		}
	}
	filter := func(key ssmtypes.CommandFilterKey, value string) int {
		return len(w.list(t, &sdk.ListCommandsInput{Filters: []ssmtypes.CommandFilter{{Key: key, Value: aws.String(value)}}}))
	}
	at := began.Add(10 * time.Minute).Format(time.RFC3339)
	for _, tt := range []struct {
		key   ssmtypes.CommandFilterKey
		value string
		want  int
	}{
		{"InvokedAfter", at, 3}, {"InvokedBefore", at, 10}, {"DocumentName", "restart-shop", 4}, {"Status", "Success", 13},
		{"Status", "Failed", 0},
	} {
		if got := filter(tt.key, tt.value); got != tt.want {
			t.Errorf("%s %s: %d commands, want %d", tt.key, tt.value, got, tt.want)
		}
	}
	for _, in := range []*sdk.ListCommandsInput{
		{NextToken: aws.String("x")}, {MaxResults: aws.Int32(51)},
		{Filters: []ssmtypes.CommandFilter{{Key: "Colour", Value: aws.String("red")}}},
		{Filters: []ssmtypes.CommandFilter{{Key: "InvokedAfter", Value: aws.String("today")}}},
	} {
		if _, err := w.ssm.ListCommands(t.Context(), in); err == nil {
			t.Errorf("accepted %+v", in)
		}
	}
}

func invocations(t *testing.T, w world, instance string, size int32) (out []string) {
	t.Helper()
	in := &sdk.ListCommandInvocationsInput{MaxResults: aws.Int32(size)}
	if instance != "" {
		in.InstanceId = aws.String(instance)
	}
	pages := sdk.NewListCommandInvocationsPaginator(w.ssm, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.CommandInvocations {
			out = append(out, *v.CommandId+" "+*v.InstanceId)
		}
	}
	return out
}

// A role is asked for the document and for each instance.
func TestPermissions(t *testing.T) {
	allow := func(resources string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ssm:SendCommand",` +
			`"Resource":[` + resources + `]}]}`
	}
	const (
		document  = `"arn:aws:ssm:eu-west-1::document/AWS-RunShellScript"`
		own       = `"arn:aws:ssm:eu-west-1:111122223333:document/restart-shop"`
		instances = `"arn:aws:ec2:eu-west-1:111122223333:instance/*"`
	)
	tests := []struct {
		name, resources, document string
		want                      bool
	}{
		{"both", document + "," + instances, "AWS-RunShellScript", true},
		{"no instance", document, "AWS-RunShellScript", false},
		{"another document", own + "," + instances, "AWS-RunShellScript", false},
		{"the account's own", own + "," + instances, "restart-shop", true},
		{"not the account's own", document + "," + instances, "restart-shop", false},
		{"by its ARN", own + "," + instances, "arn:aws:ssm:eu-west-1:111122223333:document/restart-shop", true},
	}
	for n, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := enter(t, core.Options{})
			name := fmt.Sprint("role-", n)
			trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"*"}}]}`
			if err := w.PutRole(account, name, trust, allow(tt.resources)); err != nil {
				t.Fatal(err)
			}
			role, _ := w.Role(account, name)
			keys, _, err := w.MintSession(role, "person", time.Hour, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			session := credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken)
			in := restart(first)
			in.DocumentName = aws.String(tt.document)
			_, err = w.ssm.SendCommand(t.Context(), in, func(o *sdk.Options) { o.Credentials = session })
			api, refused := errors.AsType[smithy.APIError](err)
			if (err == nil) != tt.want || refused && api.ErrorCode() != "AccessDeniedException" {
				t.Errorf("%v", err)
			}
		})
	}
}
