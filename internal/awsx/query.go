package awsx

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"
)

// QueryService is a service that is spoken to in the AWS Query protocol without a client of the SDK's: a form is sent, XML comes
// back. Its calls get what a Session gives (see the package's comment).
// https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
type QueryService struct {
	// ID is the SDK's name of the service ("IAM"), from which the name of an action is made.
	ID string
	// Signing is the name in the signature's scope.
	Signing string
	// Version of the API: "2010-05-08".
	Version string
	// Endpoint gives AWS's own endpoint in a region, as in JSONService.
	Endpoint func(region string) string
}

// Call makes one call with a Session's Config: the parameters are sent, the element OperationResult of the answer is read into
// out, which is a pointer to a struct with tags of encoding/xml, and the request's id is given back. An error is a
// *fleet.CallError.
func (s QueryService) Call(ctx context.Context, cfg aws.Config, operation string, in url.Values, out any) (requestID string, err error) {
	return spoken{
		id: s.ID, signing: s.Signing, endpoint: s.Endpoint, write: s.write,
		read:    func(body []byte, out any) error { return queryResult(body, operation, out) },
		refusal: queryRefusal,
	}.call(ctx, cfg, operation, in, out)
}

func (s QueryService) write(operation string, in any) (header map[string]string, body []byte, err error) {
	form := url.Values{"Action": {operation}, "Version": {s.Version}}
	given, ok := in.(url.Values)
	if !ok {
		return nil, nil, fmt.Errorf("parameters of type %T", in)
	}
	for name, values := range given {
		form[name] = values
	}
	return map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, []byte(form.Encode()), nil
}

// queryResult reads the element <Operation>Result within <Operation>Response. An answer that was cut short, or is of another
// operation, is an error.
func queryResult(body []byte, operation string, out any) error {
	dec := xml.NewDecoder(bytes.NewReader(body))
	found := false
	for depth := 0; ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.StartElement:
			switch {
			case depth == 0 && t.Name.Local != operation+"Response":
				return fmt.Errorf("an answer in <%s>, not <%sResponse>", t.Name.Local, operation)
			case depth == 1 && t.Name.Local == operation+"Result" && !found:
				if err := dec.DecodeElement(out, &t); err != nil {
					return err
				}
				found = true
				continue
			}
			depth++
		case xml.EndElement:
			depth--
		}
	}
	if !found {
		return fmt.Errorf("an answer without <%sResult>", operation)
	}
	return nil
}

// queryRefusal reads an error in the AWS Query protocol.
func queryRefusal(_ http.Header, body []byte) error {
	var e struct {
		XMLName xml.Name `xml:"ErrorResponse"`
		Code    string   `xml:"Error>Code"`
		Message string   `xml:"Error>Message"`
	}
	api := &smithy.GenericAPIError{Code: "UnknownError"}
	if err := xml.Unmarshal(body, &e); err == nil && e.Code != "" { // else it is a page of somebody on the way
		api.Code, api.Message = e.Code, e.Message
	}
	return api
}
