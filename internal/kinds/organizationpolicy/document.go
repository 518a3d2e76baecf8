package organizationpolicy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// words are what a policy names where it concerns metadata options: condition keys and actions of EC2, in lower case. The
// action stands without its end, for patterns such as ec2:ModifyInstanceMetadata* are the same matter. See "Actions,
// resources, and condition keys for Amazon EC2".
func words(kind string) []string {
	if kind == typeDeclarative {
		return []string{"instance_metadata_defaults"}
	}
	return []string{
		"ec2:attribute/http", "ec2:metadatahttpendpoint", "ec2:metadatahttpputresponsehoplimit", "ec2:metadatahttptokens",
		"ec2:modifyinstancemetadata", "ec2:roledelivery",
	}
}

// mentioned lists the words that a document names. It is ours if there is one.
func mentioned(kind, content string) []string {
	content = strings.ToLower(content)
	return slices.DeleteFunc(words(kind), func(word string) bool { return !strings.Contains(content, word) })
}

// says is what a document says of metadata options; nil where it says nothing that can be compared.
func says(kind, content string) *fleet.Options {
	if kind == typeDeclarative {
		o := declared(content)
		return &o
	}
	if deniesOptional(content) {
		return &fleet.Options{Tokens: fleet.TokensRequired}
	}
	return nil
}

// The path of declared defaults, the operator that gives a value, and the value that gives none. See "Declarative policy
// syntax and examples" in the Organizations User Guide.
const (
	attributes   = "ec2_attributes"
	defaults     = "instance_metadata_defaults"
	tokens       = "http_tokens"
	assign       = "@@assign"
	noPreference = "no_preference"
)

// declared are the defaults that a declarative policy gives. What it leaves out, leaves open or says in a way that is not
// understood is unset.
func declared(content string) fleet.Options {
	get := func(field string) string {
		start, end, err := locate([]byte(content), attributes, defaults, field, assign)
		var value string
		if err != nil || json.Unmarshal([]byte(content[start:end]), &value) != nil || value == noPreference {
			return ""
		}
		return value
	}
	oneOf := func(value string, known ...string) string {
		if slices.Contains(known, value) {
			return value
		}
		return ""
	}
	o := fleet.Options{
		Tokens:   oneOf(get(tokens), fleet.TokensOptional, fleet.TokensRequired),
		Endpoint: oneOf(get("http_endpoint"), fleet.Enabled, fleet.Disabled),
		Tags:     oneOf(get("instance_metadata_tags"), fleet.Enabled, fleet.Disabled),
	}
	if n, err := strconv.Atoi(get("http_put_response_hop_limit")); err == nil && fleet.ValidHopLimit(n) == nil {
		o.HopLimit = n
	}
	return o
}

// requireTokens gives the document with required tokens. Everything else in it stays as it is, to the last blank.
func requireTokens(content string) (string, error) {
	start, end, err := locate([]byte(content), attributes, defaults, tokens, assign)
	if err != nil {
		return "", err
	}
	var value string
	if err := json.Unmarshal([]byte(content[start:end]), &value); err != nil {
		return "", fmt.Errorf("http_tokens assigns %s, which is no text", content[start:end])
	}
	if value != fleet.TokensOptional && value != noPreference {
		return "", fmt.Errorf("http_tokens assigns %q, which is neither optional nor no_preference", value)
	}
	return content[:start] + strconv.Quote(fleet.TokensRequired) + content[end:], nil
}

// locate tells where in a JSON document the value of a path of keys stands. A key that is there twice is an error: it
// could not be told which one counts.
func locate(document []byte, path ...string) (start, end int, err error) {
	if len(path) == 0 {
		return 0, len(document), nil
	}
	d := json.NewDecoder(bytes.NewReader(document))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return 0, 0, fmt.Errorf("there is no object where %s is looked for", path[0])
	}
	found := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return 0, 0, fmt.Errorf("the document cannot be read: %w", err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return 0, 0, fmt.Errorf("the document cannot be read: %w", err)
		}
		if key != path[0] {
			continue
		}
		if found {
			return 0, 0, fmt.Errorf("it has %s twice", path[0])
		}
		found, end = true, int(d.InputOffset())
		start = end - len(value)
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return 0, 0, fmt.Errorf("the document cannot be read: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return 0, 0, errors.New("there is something after the end of the document")
	}
	if !found {
		return 0, 0, fmt.Errorf("it has no %s", path[0])
	}
	from, to, err := locate(document[start:end], path[1:]...)
	return start + from, start + to, err
}

// statement is a statement of a service control policy.
type statement struct {
	Sid       string
	Effect    string
	Action    oneOrMany
	Resource  oneOrMany
	Condition map[string]map[string]oneOrMany
}

// oneOrMany is a text or a list of texts.
type oneOrMany []string

// UnmarshalJSON reads either.
func (o *oneOrMany) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*o = oneOrMany{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(o))
}

// deniesOptional tells whether a service control policy denies, to everybody, launches whose tokens are not required. It
// knows the statement that the EC2 User Guide gives for that ("Work with instance metadata" among the example policies) and
// nothing else: a further condition or an exception may let launches through.
func deniesOptional(content string) bool {
	var doc struct{ Statement json.RawMessage }
	if json.Unmarshal([]byte(content), &doc) != nil {
		return false
	}
	raw := []json.RawMessage{doc.Statement}
	if bytes.HasPrefix(bytes.TrimSpace(doc.Statement), []byte("[")) && json.Unmarshal(doc.Statement, &raw) != nil {
		return false
	}
	return slices.ContainsFunc(raw, func(r json.RawMessage) bool {
		var s statement
		d := json.NewDecoder(bytes.NewReader(r))
		d.DisallowUnknownFields() // NotAction, NotResource: exceptions
		return d.Decode(&s) == nil && s.deniesOptional()
	})
}

func (s *statement) deniesOptional() bool {
	launches := slices.ContainsFunc(s.Action, func(a string) bool { return strings.EqualFold(a, "ec2:RunInstances") })
	instances := slices.ContainsFunc(s.Resource, func(r string) bool {
		_, rest, ok := strings.Cut(r, ":ec2:")
		return r == "*" || ok && strings.HasPrefix(r, "arn:") && rest == "*:*:instance/*"
	})
	if s.Effect != "Deny" || !launches || !instances || len(s.Condition) != 1 {
		return false
	}
	keys := s.Condition["StringNotEquals"]
	for key, values := range keys {
		if len(keys) != 1 || !strings.EqualFold(key, "ec2:MetadataHttpTokens") {
			return false
		}
		return slices.Equal(values, []string{fleet.TokensRequired})
	}
	return false
}
