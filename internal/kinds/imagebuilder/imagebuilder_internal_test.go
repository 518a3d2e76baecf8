package imagebuilder

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

const arn = "arn:aws:imagebuilder:eu-west-1:111122223333:infrastructure-configuration/golden"

var place = fleet.Place{Partition: "aws", Account: "111122223333", Region: "eu-west-1"}

// answer has members that this program's SDK does not know, one of them among the options.
const answer = `{"requestId": "r", "infrastructureConfiguration": {
	"arn": "` + arn + `", "name": "golden", "dateCreated": "2025", "dateUpdated": "2026", "tags": {"a": "b"},
	"description": "the \"golden\" one", "instanceProfileName": "builder", "terminateInstanceOnFailure": false,
	"resourceTags": {"c": "d"}, "parentInstance": {"autoScalingGroup": {"name": "builders", "capacityWaitTimeoutSeconds": 0}},
	"instanceMetadataOptions": {"httpTokens": "optional", "httpPutResponseHopLimit": 3, "httpEndpoint": "enabled"}}}`

// service answers every read with the answer, and keeps the body of the update.
type service struct {
	answer string
	sent   string
}

func (s *service) Do(r *http.Request) (*http.Response, error) {
	body := s.answer
	if r.Method == http.MethodPut {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		s.sent, body = string(b), `{"requestId": "r"}`
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}, nil
}

func (s *service) write(t *testing.T, before, after fleet.State) error {
	t.Helper()
	d := Open(aws.Config{
		Region: "eu-west-1", HTTPClient: s, BaseEndpoint: aws.String("http://aws.sim"), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("x", "y", ""),
	}, place, clock.System())
	_, err := d.Write(t.Context(), kind.Write{
		Place: place, ID: arn, Verb: VerbSetOptions, Before: before, After: after, Token: "token-1",
	})
	return err
}

func TestAnUpdateSendsWhatTheSDKDoesNotKnow(t *testing.T) {
	before := fleet.State{fleet.FieldTokens: "optional", fleet.FieldHopLimit: "3"}
	s := &service{answer: answer}
	if err := s.write(t, before, before.With(fleet.State{fleet.FieldTokens: "required"})); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(s.sent), &got); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"clientToken", "description", "infrastructureConfigurationArn", "instanceMetadataOptions", "instanceProfileName",
		"parentInstance", "resourceTags", "terminateInstanceOnFailure",
	}
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want) {
		t.Errorf("sent %q, not %q", names, want)
	}
	options, _ := json.Marshal(got["instanceMetadataOptions"])
	parent, _ := json.Marshal(got["parentInstance"])
	if string(options) != `{"httpEndpoint":"enabled","httpPutResponseHopLimit":3,"httpTokens":"required"}` ||
		string(parent) != `{"autoScalingGroup":{"capacityWaitTimeoutSeconds":0,"name":"builders"}}` ||
		got["clientToken"] != "token-1" || got["description"] != `the "golden" one` {
		t.Errorf("sent %s", s.sent)
	}
}

func TestAnUpdateIsNotMadeOfAnythingElse(t *testing.T) {
	before := fleet.State{fleet.FieldTokens: "optional", fleet.FieldHopLimit: "3"}
	for _, tt := range []struct {
		name, answer  string
		before, patch fleet.State
		class         fleet.ErrorClass
	}{
		{"changed in between", answer, fleet.State{}, fleet.State{fleet.FieldTokens: "required"}, fleet.ErrConflict},
		{"a word that is none", answer, before, fleet.State{fleet.FieldTokens: "never"}, fleet.ErrInvalid},
		{"a limit that is none", answer, before, fleet.State{fleet.FieldHopLimit: "065"}, fleet.ErrInvalid},
		{"another field", answer, before, fleet.State{"description": "x"}, fleet.ErrInvalid},
		{"nothing", answer, before, nil, fleet.ErrInvalid},
		{"no configuration", `{}`, before, fleet.State{fleet.FieldTokens: "required"}, fleet.ErrGone},
	} {
		s := &service{answer: tt.answer}
		if err := s.write(t, tt.before, tt.before.With(tt.patch)); fleet.ClassOf(err) != tt.class || s.sent != "" {
			t.Errorf("%s: %v, sent %q", tt.name, err, s.sent)
		}
	}
}

func TestOptionsThatNobodySaidAreTakenAway(t *testing.T) {
	b, err := whole([]byte(answer), kind.Write{ID: arn, Token: "t", After: fleet.State{}})
	if err != nil || !strings.Contains(string(b), `"instanceMetadataOptions":{"httpEndpoint":"enabled"}`) {
		t.Errorf("%s %v", b, err)
	}
	plain := strings.Replace(answer, `, "httpEndpoint": "enabled"`, "", 1)
	if b, err = whole([]byte(plain), kind.Write{ID: arn, Token: "t", After: fleet.State{}}); err != nil ||
		strings.Contains(string(b), memberOptions) {
		t.Errorf("%s %v", b, err)
	}
}

func TestPropose(t *testing.T) {
	for _, tt := range []struct {
		name   string
		state  fleet.State
		status assess.Status
		want   fleet.Options
		patch  fleet.State
	}{
		{"ready", fleet.State{}, assess.Ready, fleet.Options{Tokens: "required"}, fleet.State{fleet.FieldTokens: "required"}},
		{"both", fleet.State{fleet.FieldTokens: "optional"}, assess.Ready, fleet.Options{Tokens: "required", HopLimit: 2},
			fleet.State{fleet.FieldTokens: "required", fleet.FieldHopLimit: "2"}},
		{"as wanted", fleet.State{fleet.FieldTokens: "required"}, assess.Ready, fleet.Options{Tokens: "required"}, nil},
		{"unknown", fleet.State{}, assess.Unknown, fleet.Options{Tokens: "required"}, nil},
		{"blocked", fleet.State{}, assess.Blocked, fleet.Options{Tokens: "required"}, nil},
	} {
		r := &inventory.Resource{Ref: fleet.Ref{Place: place, Kind: inventory.KindImageBuilder, ID: arn}, State: tt.state}
		needs, manuals := propose(kind.Case{Resource: r, Verdict: &assess.Verdict{Status: tt.status, Want: tt.want}})
		if len(manuals) != 0 || (len(needs) == 1) != (tt.patch != nil) || len(needs) == 1 && !needs[0].Patch.Equal(tt.patch) {
			t.Errorf("%s: %v and %v", tt.name, needs, manuals)
		}
	}
}

func TestCommands(t *testing.T) {
	optional := fleet.State{fleet.FieldTokens: "optional"}
	for _, tt := range []struct {
		name, id      string
		before, after fleet.State
		want          []string // parts of the one command; none for no command
	}{
		{"both", arn, optional, fleet.State{fleet.FieldTokens: "required", fleet.FieldHopLimit: "2"}, []string{
			`aws imagebuilder update-infrastructure-configuration --region eu-west-1 --cli-input-json "$(aws imagebuilder ` +
				`get-infrastructure-configuration --region eu-west-1 --infrastructure-configuration-arn ` + arn,
			`| jq -c 'del(.arn,.name,.dateCreated,.dateUpdated,.tags)|.infrastructureConfigurationArn="` + arn + `"|`,
			`.instanceMetadataOptions.httpTokens="required"|.instanceMetadataOptions.httpPutResponseHopLimit=2|`,
		}},
		{"back to nothing", arn, optional, fleet.State{}, []string{
			"del(.instanceMetadataOptions.httpTokens)|del(.instanceMetadataOptions.httpPutResponseHopLimit)",
			"if .instanceMetadataOptions=={} then del(.instanceMetadataOptions) else . end",
		}},
		{"a word that is none", arn, optional, fleet.State{fleet.FieldTokens: `"|halt|"`}, nil},
		{"a limit that is none", arn, optional, fleet.State{fleet.FieldHopLimit: "1|halt"}, nil},
		{"no ARN", "golden", optional, fleet.State{}, nil},
		{"another field", arn, optional, fleet.State{"x": "y"}, nil},
		{"nothing", arn, optional, optional, nil},
	} {
		got := commands(kind.Write{Place: place, ID: tt.id, Verb: VerbSetOptions, Before: tt.before, After: tt.after})
		if (len(got) == 1) != (len(tt.want) > 0) {
			t.Errorf("%s: got %q", tt.name, got)
			continue
		}
		for _, part := range tt.want {
			if !strings.Contains(got[0], part) {
				t.Errorf("%s: %s\nis without %s", tt.name, got[0], part)
			}
		}
	}
}

// FuzzWhole: whatever AWS answers, what is sent has the options asked for, and every other member as it was.
func FuzzWhole(f *testing.F) {
	f.Add([]byte(answer), true, true)
	f.Add([]byte(`{"infrastructureConfiguration":{"instanceMetadataOptions":null,"x":[1.50]}}`), false, true)
	f.Fuzz(func(t *testing.T, answer []byte, tokens, hops bool) {
		after := fleet.State{}
		if tokens {
			after[fleet.FieldTokens] = fleet.TokensRequired
		}
		if hops {
			after[fleet.FieldHopLimit] = "2"
		}
		b, err := whole(answer, kind.Write{ID: arn, Token: "t", After: after})
		if err != nil {
			return
		}
		var was struct {
			Config map[string]json.RawMessage `json:"infrastructureConfiguration"`
		}
		var sent map[string]json.RawMessage
		if err := json.Unmarshal(answer, &was); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &sent); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		own := append(readOnly(), memberOptions, memberARN, "clientToken")
		for name := range was.Config {
			if _, ok := sent[name]; !ok && !slices.Contains(own, name) {
				t.Errorf("%q is left out of %s", name, b)
			}
		}
		var options map[string]json.RawMessage
		if raw, ok := sent[memberOptions]; ok {
			if err := json.Unmarshal(raw, &options); err != nil {
				t.Fatal(err)
			}
		}
		if _, has := options[memberTokens]; has != tokens {
			t.Errorf("tokens: %s", b)
		}
		if _, has := options[memberHopLimit]; has != hops {
			t.Errorf("hop limit: %s", b)
		}
	})
}
