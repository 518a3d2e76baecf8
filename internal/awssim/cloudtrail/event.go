package cloudtrail

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
)

// Event is one event.
type Event struct {
	At         time.Time
	ID         string
	Management bool
	ReadOnly   bool
	Source     string // "s3.amazonaws.com"
	Name       string
	Agent      string
	// Of calls with an instance's credentials; Delivery is "1.0" or "2.0", and empty of all other calls.
	Account, Role, Instance, Delivery, AccessKey string
	// Username is what LookupEvents shows.
	Username string

	document document
}

// document is an event as CloudTrail writes it (CloudTrail User Guide, "CloudTrail record contents").
type document struct {
	EventVersion string         `json:"eventVersion"`
	UserIdentity map[string]any `json:"userIdentity"`
	EventTime    string         `json:"eventTime"`
	EventSource  string         `json:"eventSource"`
	EventName    string         `json:"eventName"`
	AWSRegion    string         `json:"awsRegion"`
	SourceIP     string         `json:"sourceIPAddress"`
	UserAgent    string         `json:"userAgent"`
	Request      map[string]any `json:"requestParameters"`
	Response     map[string]any `json:"responseElements"`
	RequestID    string         `json:"requestID"`
	EventID      string         `json:"eventID"`
	ReadOnly     bool           `json:"readOnly"`
	EventType    string         `json:"eventType"`
	Management   bool           `json:"managementEvent"`
	Recipient    string         `json:"recipientAccountId"`
	Category     string         `json:"eventCategory"`
	TLS          map[string]any `json:"tlsDetails,omitempty"`
}

// JSON is the event as a log file has it.
func (e *Event) JSON() json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e.document); err != nil { // texts always encode
		panic(err)
	}
	return bytes.TrimSpace(b.Bytes())
}

// gather makes the events of a place in [from, to), in Unix seconds, by time. The place is locked at least for reading.
func gather(hosts Hosts, p *core.Place, from, to int64) []*Event {
	var out []*Event
	for h := range hosts.Hosts(p, "") {
		role := roleOf(p, h.Life.ID)
		if role == "" {
			continue
		}
		for _, program := range h.Programs {
			if len(program.APICalls) == 0 {
				continue
			}
			for at, outcome := range h.Rounds(program, from-callsWithin, to) {
				delivery := outcome.Delivery()
				if delivery == "" {
					continue
				}
				for n, call := range program.APICalls {
					if when := at + int64(n) + 1; when >= from && when < to {
						out = append(out, called(p, h, program, role, delivery, call, n, when, at))
					}
				}
			}
		}
	}
	for at := floor(from); at < to; at += slotSeconds {
		for n := range others {
			if when := at + int64(n+1)*slotSeconds/(others+1); when >= from && when < to {
				out = append(out, other(p, n, when))
			}
		}
	}
	slices.SortFunc(out, func(a, b *Event) int { return cmp.Or(a.At.Compare(b.At), strings.Compare(a.ID, b.ID)) })
	return out
}

// callsWithin is how long after a round its calls are made at most, in seconds.
const callsWithin = 64

// others is how many events of people and services there are in each slot.
const others = 3

// roleOf is the role of an instance, which has the name of its profile; "" where it has none.
func roleOf(p *core.Place, id string) string {
	i := ec2.StoreOf(p).Recall(id)
	if i == nil {
		return ""
	}
	arn := i.Newest().ProfileARN
	return arn[strings.LastIndexByte(arn, '/')+1:]
}

// dataEvents are calls on what is within a resource, which a trail logs only where it is told to ("Logging data events").
var dataEvents = map[string][]string{
	"s3": {"GetObject", "PutObject", "DeleteObject", "HeadObject", "ListObjects", "ListObjectsV2", "CopyObject", "UploadPart"},
	"dynamodb": {"GetItem", "PutItem", "Query", "Scan", "UpdateItem", "DeleteItem", "BatchGetItem", "BatchWriteItem",
		"TransactGetItems", "TransactWriteItems"},
	"lambda": {"Invoke", "InvokeAsync"},
	"sqs":    {"SendMessage", "ReceiveMessage", "DeleteMessage"},
}

func called(p *core.Place, h *workload.Host, program *workload.Program, role, delivery, call string, n int, at, round int64) *Event {
	service, operation, _ := strings.Cut(call, ":")
	key := hash(h.Life.ID, program.Name, "key", round-round%(6*60*60), 0)
	e := &Event{
		At: time.Unix(at, 0).UTC(), Source: service + ".amazonaws.com", Name: operation, Agent: program.UserAgent,
		Account: string(p.Account), Role: role, Instance: h.Life.ID, Delivery: delivery, Username: h.Life.ID,
		AccessKey: fmt.Sprintf("ASIA%016X", key), Management: !slices.Contains(dataEvents[service], operation),
		ReadOnly: readOnly(operation), ID: uuid(h.Life.ID, program.Name, call, at, uint64(n)),
	}
	if e.Agent == "" {
		e.Agent = program.Agent + "/" + program.Version
	}
	shown := e.Agent
	if service == "s3" {
		shown = "[" + shown + "]" // as S3 writes it
	}
	issuer := fmt.Sprintf("AROA%016X", hash(string(p.Account), role, "role", 0, 0))
	e.document = document{
		UserIdentity: map[string]any{
			"type": "AssumedRole", "principalId": issuer + ":" + h.Life.ID,
			"arn":       fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", p.Partition, p.Account, role, h.Life.ID),
			"accountId": e.Account, "accessKeyId": e.AccessKey,
			"sessionContext": map[string]any{
				"sessionIssuer": map[string]any{
					"type": "Role", "principalId": issuer, "arn": fmt.Sprintf("arn:%s:iam::%s:role/%s", p.Partition, p.Account, role),
					"accountId": e.Account, "userName": role,
				},
				"attributes":      map[string]any{"creationDate": stamp(round), "mfaAuthenticated": "false"},
				"ec2RoleDelivery": delivery,
			},
		},
		UserAgent: shown,
	}
	e.complete(p)
	return e
}

// complete fills in what all events have.
func (e *Event) complete(p *core.Place) {
	d := &e.document
	d.EventVersion, d.EventTime, d.EventSource, d.EventName = "1.11", stamp(e.At.Unix()), e.Source, e.Name
	d.AWSRegion, d.EventID, d.ReadOnly, d.EventType = string(p.Region), e.ID, e.ReadOnly, "AwsApiCall"
	d.Management, d.Recipient, d.Category = e.Management, string(p.Account), "Management"
	if !e.Management {
		d.Category = "Data"
	}
	if d.SourceIP == "" {
		d.SourceIP = fmt.Sprintf("198.51.100.%d", 1+hash(e.Instance, "", "", 0, 0)%254)
	}
	d.RequestID = uuid(e.ID, "", "", 0, 1)
	d.TLS = map[string]any{"tlsVersion": "TLSv1.3", "cipherSuite": "TLS_AES_128_GCM_SHA256",
		"clientProvidedHostHeader": strings.TrimSuffix(e.Source, ".amazonaws.com") + "." + string(p.Region) + ".amazonaws.com"}
}

// other is an event with credentials that no metadata service delivered.
func other(p *core.Place, n int, at int64) *Event {
	account := string(p.Account)
	e := &Event{At: time.Unix(at, 0).UTC(), Account: account, Management: true, ReadOnly: true,
		ID: uuid(account, string(p.Region), "other", at, uint64(n))}
	d := &e.document
	switch n % others {
	case 0:
		e.Source, e.Name, e.Username, e.Agent = "sts.amazonaws.com", "AssumeRole", "", "ec2.amazonaws.com"
		d.UserIdentity = map[string]any{"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}
		d.SourceIP = "ec2.amazonaws.com"
		d.Request = map[string]any{"roleArn": fmt.Sprintf("arn:%s:iam::%s:role/app", p.Partition, account), "roleSessionName": "i-0"}
	case 1:
		e.Source, e.Name, e.Username = "ec2.amazonaws.com", "DescribeInstances", "alice"
		e.Agent = "aws-cli/2.27.1 md/awscrt#0.26.1 ua/2.1 os/macos#24.4.0 md/arch#arm64 lang/python#3.13.3 md/command#ec2.describe-instances"
		d.UserIdentity = map[string]any{"type": "IAMUser", "principalId": "AIDACKCEVSQ6C2EXAMPLE", "userName": "alice",
			"arn":       fmt.Sprintf("arn:%s:iam::%s:user/alice", p.Partition, account),
			"accountId": account, "accessKeyId": "AKIAIOSFODNN7EXAMPLE"}
		e.AccessKey = "AKIAIOSFODNN7EXAMPLE"
	default:
		e.Source, e.Name, e.Username, e.ReadOnly = "logs.amazonaws.com", "CreateLogStream", "ship", false
		e.Agent = "Boto3/1.35.0 md/Botocore#1.35.0 ua/2.0 os/linux#6.1 md/arch#x86_64 lang/python#3.12.1 Botocore/1.35.0"
		d.UserIdentity = map[string]any{"type": "AssumedRole", "principalId": "AROAIOSFODNN7EXAMPLE:ship",
			"arn":       fmt.Sprintf("arn:%s:sts::%s:assumed-role/ship/ship", p.Partition, account),
			"accountId": account, "accessKeyId": "ASIAIOSFODNN7EXAMPLE"}
		e.AccessKey = "ASIAIOSFODNN7EXAMPLE"
	}
	d.UserAgent = e.Agent
	e.complete(p)
	return e
}

func readOnly(operation string) bool {
	for _, verb := range []string{"Get", "List", "Describe", "Head", "Lookup", "BatchGet", "Query", "Scan"} {
		if strings.HasPrefix(operation, verb) {
			return true
		}
	}
	return false
}

func stamp(at int64) string { return time.Unix(at, 0).UTC().Format("2006-01-02T15:04:05Z") }

// hash is the same for the same arguments on every machine.
func hash(a, b, c string, at int64, n uint64) uint64 {
	h := fnv.New64a()
	for _, s := range []string{a, b, c} {
		_, _ = h.Write([]byte(s)) // never fails
		_, _ = h.Write([]byte{0})
	}
	var tail [16]byte
	binary.BigEndian.PutUint64(tail[:], uint64(at))
	binary.BigEndian.PutUint64(tail[8:], n)
	_, _ = h.Write(tail[:])
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func uuid(a, b, c string, at int64, n uint64) string {
	x, y := hash(a, b, c, at, n), hash(c, b, a, at, ^n)
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", x>>32, x>>16&0xffff, x&0xfff, y>>48&0xfff, y&0xffffffffffff)
}

// Group is what a question to Athena groups events by: day, account, arn, principal, role, delivery, user agent.
func (e *Event) Group() [7]string {
	who := e.document.UserIdentity
	arn, _ := who["arn"].(string)
	principal, _ := who["principalId"].(string)
	return [7]string{e.At.Format(time.DateOnly), e.Account, arn, principal, e.Role, e.Delivery, e.document.UserAgent}
}

// Delivered is when the file of an event is there.
func Delivered(at time.Time) time.Time { return time.Unix(floor(at.Unix())+slotSeconds+delay, 0).UTC() }
