package awsx

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
)

// JSONService is a service of AWS's for which there is no client in Go: one that is spoken to in AWS JSON. Its calls go
// through the same steps as those of the SDK's clients, and so get what a Session gives (see the package's comment).
type JSONService struct {
	// ID is the SDK's name of the service ("Workspaces Instances"), from which the name of an action is made.
	ID string
	// Signing is the name in the signature's scope.
	Signing string
	// Target is what comes before the operation in X-Amz-Target.
	Target string
	// Version of the protocol: "1.0" or "1.1".
	Version string
	// Endpoint gives AWS's own endpoint in a region. That of a Config, from AWS_ENDPOINT_URL or the profile, comes first; one
	// that is for a single service (AWS_ENDPOINT_URL_…) is not looked at.
	Endpoint func(region string) string
}

// Call makes one call with a Session's Config: in is sent, the answer is read into out, and the request's id is given back.
// An error is a *fleet.CallError.
func (s JSONService) Call(ctx context.Context, cfg aws.Config, operation string, in, out any) (requestID string, err error) {
	return spoken{
		id: s.ID, signing: s.Signing, endpoint: s.Endpoint, write: s.write, read: json.Unmarshal,
		refusal: func(h http.Header, body []byte) error { return refusal(h.Get("X-Amzn-ErrorType"), body) },
	}.call(ctx, cfg, operation, in, out)
}

func (s JSONService) write(operation string, in any) (header map[string]string, body []byte, err error) {
	body, err = json.Marshal(in)
	return map[string]string{
		"Content-Type": "application/x-amz-json-" + s.Version, "X-Amz-Target": s.Target + "." + operation,
	}, body, err
}

// refusal reads an error in AWS JSON. Its code is in a header or in the body, with a namespace before or an address after
// it, or without.
func refusal(header string, body []byte) error {
	var e struct {
		Type    string `json:"__type"`
		Code    string `json:"code"`
		Message string `json:"message"`
		Capital string `json:"Message"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		e.Message = "" // a page of somebody on the way
	}
	api := &smithy.GenericAPIError{Code: "UnknownError", Message: e.Message}
	if api.Message == "" {
		api.Message = e.Capital
	}
	for _, code := range []string{header, e.Type, e.Code} {
		if code != "" {
			code, _, _ = strings.Cut(code, ":")
			api.Code = code[strings.LastIndex(code, "#")+1:]
			break
		}
	}
	return api
}
