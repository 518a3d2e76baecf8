package store

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// document is what is kept of a resource besides its identity, its status and its launch: what the instances of a group have
// in common, so that they share one row. Its JSON is canonical: maps are sorted, what is empty is left out.
type document struct {
	Name     string                   `json:"name,omitempty"`
	State    fleet.State              `json:"state,omitempty"`
	Attrs    map[string]string        `json:"attrs,omitempty"`
	Tags     map[string]string        `json:"tags,omitempty"`
	Owner    fleet.Owner              `json:"owner,omitzero"`
	Claims   []fleet.Owner            `json:"claims,omitempty"`
	Links    []link                   `json:"links,omitempty"`
	Launch   map[string]fleet.Options `json:"launch,omitempty"`
	Settling bool                     `json:"settling,omitempty"`
	Says     *fleet.Options           `json:"says,omitempty"`
}

// link is an inventory.Link whose target leaves out the place where that is the resource's own.
type link struct {
	Relation inventory.Relation `json:"rel"`
	To       string             `json:"to"`
	Selector string             `json:"sel,omitempty"`
	Field    string             `json:"field,omitempty"`
	Starts   bool               `json:"starts,omitempty"`
}

// here begins a target in the resource's own place; a reference never begins with a dot.
const here = "./"

func documentOf(r *inventory.Resource) document {
	d := document{Name: r.Name, State: r.State, Attrs: r.Attrs, Tags: r.Tags, Owner: r.Owner, Claims: r.Claims, Launch: r.Launch, Settling: r.Settling,
		Says: r.Says}
	for _, l := range r.Links {
		to := l.To.String()
		if l.To.Place == r.Ref.Place {
			to = here + l.To.Kind + "/" + l.To.ID
		}
		d.Links = append(d.Links, link{Relation: l.Relation, To: to, Selector: l.Selector, Field: l.Field, Starts: l.Starts})
	}
	return d
}

// links turns the links back for a resource of the place.
func (d *document) links(place fleet.Place) ([]inventory.Link, error) {
	if len(d.Links) == 0 {
		return nil, nil
	}
	out := make([]inventory.Link, len(d.Links))
	for i, l := range d.Links {
		to := l.To
		if rest, ok := strings.CutPrefix(to, here); ok {
			to = place.String() + "/" + rest
		}
		ref, err := fleet.ParseRef(to)
		if err != nil {
			return nil, fmt.Errorf("link in document: %w", err)
		}
		out[i] = inventory.Link{Relation: l.Relation, To: ref, Selector: l.Selector, Field: l.Field, Starts: l.Starts}
	}
	return out, nil
}

// documentHash identifies a document within its place. Half a SHA-256 keeps the index small, and a collision by accident
// out of reach.
type documentHash [16]byte

func hashDocument(canonical []byte) documentHash {
	sum := sha256.Sum256(canonical)
	return documentHash(sum[:16])
}

// The first byte of a stored document says how the rest is written.
const (
	bodyPlain    = 0
	bodyDeflate1 = 1 // deflate with dictionary1
)

// dictionary1 is text that documents have in common; a document shrinks to about a third of what deflate alone leaves. It
// may never change: a better one is another number.
const dictionary1 = `"rel":"launches-from","to":"./launch-template/lt-0","sel":"$Default","field":"LaunchTemplate.Version"` +
	`"launch":{"1":{"tokens":"optional","endpoint":"enabled","hop_limit":1,"ipv6":"disabled","instance_tags":"disabled"}` +
	`"desired-capacity":"aws:cloudformation:logical-id":"aws:cloudformation:stack-id":"arn:aws:cloudformation:` +
	`"aws:cloudformation:stack-name":"aws:ec2launchtemplate:id":"lt-0","aws:ec2launchtemplate:version":"1",` +
	`"aws:eks:cluster-name":"eks:nodegroup-name":"karpenter.sh/nodepool":"elasticbeanstalk:environment-name":"` +
	`"kubernetes.io/cluster/":"owned","Environment":"production","Owner":"Team":"Application":"CostCenter":"Service":"` +
	`"platform":"windows","public-ip":"true","managed-by":"account","us-east-1","eu-west-1","us-west-2","eu-central-1` +
	`"owner":{"type":"cloudformation","name":"","managed":true},"owner":{"type":"eks-nodegroup","name":"` +
	`{"DefaultVersion":"1","LatestVersion":"2"},{"LaunchTemplate.Version":"$Latest"` +
	`{"name":"","state":{"HttpEndpoint":"enabled","HttpProtocolIpv6":"disabled","HttpPutResponseHopLimit":"2",` +
	`"HttpTokens":"required","InstanceMetadataTags":"disabled"},"state":{"HttpEndpoint":"enabled","HttpProtocolIpv6":"disabled",` +
	`"HttpPutResponseHopLimit":"1","HttpTokens":"optional","InstanceMetadataTags":"disabled"},"attrs":{"image":"ami-0",` +
	`"instance-profile":"arn:aws:iam::123456789012:instance-profile/","instance-type":"m5.large"},"tags":{"Name":"` +
	`","aws:autoscaling:groupName":""},"owner":{"type":"auto-scaling-group","name":""},"links":[{"rel":"member-of",` +
	`"to":"./auto-scaling-group/"},{"rel":"launched-from","to":"./launch-template/lt-0","sel":"1"}]}`

// encoder packs documents. It is for one goroutine at a time.
type encoder struct {
	buf bytes.Buffer
	w   *flate.Writer
}

func newEncoder() (*encoder, error) {
	e := &encoder{}
	var err error
	if e.w, err = flate.NewWriterDict(&e.buf, flate.DefaultCompression, []byte(dictionary1)); err != nil {
		return nil, fmt.Errorf("prepare compression: %w", err)
	}
	return e, nil
}

func (e *encoder) pack(canonical []byte) ([]byte, error) {
	e.buf.Reset()
	e.buf.WriteByte(bodyDeflate1)
	e.w.Reset(&e.buf)
	if _, err := e.w.Write(canonical); err != nil {
		return nil, fmt.Errorf("compress document: %w", err)
	}
	if err := e.w.Close(); err != nil {
		return nil, fmt.Errorf("compress document: %w", err)
	}
	if e.buf.Len() > len(canonical) {
		return append([]byte{bodyPlain}, canonical...), nil
	}
	return bytes.Clone(e.buf.Bytes()), nil
}

// errDocument is a stored document that cannot be read.
var errDocument = errors.New("a stored document is damaged")

// maxDocument bounds what a packed document may unfold to, in bytes: a damaged file must not fill the memory.
const maxDocument = 64 << 20

// decoder unpacks documents. It is for one goroutine at a time.
type decoder struct{ r io.ReadCloser }

func (d *decoder) unpack(body []byte) (*document, error) {
	if len(body) == 0 {
		return nil, fmt.Errorf("%w: it is empty", errDocument)
	}
	canonical := body[1:]
	switch body[0] {
	case bodyPlain:
	case bodyDeflate1:
		var err error
		if canonical, err = d.inflate(body[1:]); err != nil {
			return nil, fmt.Errorf("%w: %w", errDocument, err)
		}
	default:
		return nil, fmt.Errorf("%w: it is written in a way (%d) this imdsctl does not know", errDocument, body[0])
	}
	var doc document
	if err := json.Unmarshal(canonical, &doc); err != nil {
		return nil, fmt.Errorf("%w: %w", errDocument, err)
	}
	return &doc, nil
}

func (d *decoder) inflate(packed []byte) ([]byte, error) {
	src := bytes.NewReader(packed)
	if d.r == nil {
		d.r = flate.NewReaderDict(src, []byte(dictionary1))
	} else if err := d.r.(flate.Resetter).Reset(src, []byte(dictionary1)); err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(d.r, maxDocument+1))
	if err == nil && len(out) > maxDocument {
		err = fmt.Errorf("it is larger than %d bytes", maxDocument)
	}
	return out, err
}

// documentCache remembers the ids of documents met lately: the instances of a group come one after another.
type documentCache struct {
	mu  sync.Mutex
	ids map[documentKey]int64
	enc *encoder // used inside write transactions only, of which there is one at a time
}

type documentKey struct {
	place int64
	hash  documentHash
}

// cachedDocuments bounds the cache, at about 80 bytes each.
const cachedDocuments = 50_000

func newDocumentCache() *documentCache { return &documentCache{ids: map[documentKey]int64{}} }

func (c *documentCache) get(k documentKey) (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id, ok := c.ids[k]
	return id, ok
}

// add remembers documents whose transaction is committed.
func (c *documentCache) add(ids map[documentKey]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ids)+len(ids) > cachedDocuments {
		clear(c.ids)
	}
	for k, id := range ids {
		c.ids[k] = id
	}
}

// encoder gives the one encoder of the writer.
func (c *documentCache) encoder() (*encoder, error) {
	if c.enc == nil {
		enc, err := newEncoder()
		if err != nil {
			return nil, err
		}
		c.enc = enc
	}
	return c.enc, nil
}
