// Package wire speaks the protocols of the AWS APIs from the server's side: EC2 Query, AWS Query, JSON 1.0/1.1,
// REST-JSON and Smithy RPC v2 CBOR. A request of any of them becomes a Value, a tree of named parameters; a response is
// written once, against Writer, and comes out in the protocol of its request.
//
// REST-JSON names an operation by method and path, so its services bring Routes, one for each action:
// "POST /clusters/{name}/updates?include[]&nextToken". Labels of the path, parameters of the query and the members of
// the JSON body become one Value under their names on the wire, which are the service's own (lowerCamel, mostly). A
// query parameter that the route does not name is refused, and so is a name that comes from two places. Members bound
// to headers and payloads that are no structure are not spoken; no service here has them. An error is a status, the
// header X-Amzn-Errortype and a body with the message.
//
// What clients speak, by the Go SDK's schemas and by botocore's models ("protocols", the first is taken): EKS, Batch
// and Image Builder REST-JSON; ECS, EMR, SageMaker, Lightsail, Organizations and Systems Manager JSON 1.1; AppStream
// JSON 1.1 from Go and CBOR from botocore; WorkSpaces Instances JSON 1.0 from Go and CBOR from botocore; CloudWatch CBOR
// from Go; Auto Scaling, Beanstalk, CloudFormation, IAM and STS Query. Services that differ by client answer both.
//
// It knows no service, no account and no state. Sources: the Smithy protocol specifications (aws.protocols#ec2Query,
// #awsQuery, #awsJson1_1, #restJson1, smithy.protocols#rpcv2Cbor).
package wire

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// Protocol is the way in which one request is written, and so its response.
type Protocol int

// The protocols.
const (
	// EC2Query is EC2's own dialect of Query: lists are flattened, response lists hold <item>.
	EC2Query Protocol = iota + 1
	// Query is the classic form-encoded protocol: lists are X.member.N.
	Query
	// JSON10 is application/x-amz-json-1.0 with X-Amz-Target.
	JSON10
	// JSON11 is application/x-amz-json-1.1 with X-Amz-Target.
	JSON11
	// CBOR is smithy-rpc-v2-cbor: /service/S/operation/O.
	CBOR
	// RESTJSON is REST with bodies of JSON: method and path name the operation.
	RESTJSON
	// RESTXML is S3's REST with bodies of XML or none: its service reads requests itself and writes whole responses.
	RESTXML
)

func (p Protocol) String() string {
	switch p {
	case EC2Query:
		return "ec2Query"
	case Query:
		return "awsQuery"
	case JSON10:
		return "awsJson1_0"
	case JSON11:
		return "awsJson1_1"
	case CBOR:
		return "rpcv2Cbor"
	case RESTJSON:
		return "restJson1"
	case RESTXML:
		return "restXml"
	}
	return "unknown"
}

// ContentType is the media type of responses.
func (p Protocol) ContentType() string {
	switch p {
	case JSON10:
		return "application/x-amz-json-1.0"
	case JSON11:
		return "application/x-amz-json-1.1"
	case CBOR:
		return "application/cbor"
	case RESTJSON:
		return "application/json"
	case RESTXML:
		return "application/xml"
	default:
		return "text/xml;charset=UTF-8"
	}
}

// MaxBody bounds a request's body after decompression, in bytes.
const MaxBody = 16 << 20

// Request is one API request, decoded.
type Request struct {
	Protocol Protocol
	// Target is the service's name on the wire (the prefix of X-Amz-Target, the service of a CBOR path); empty in Query
	// and REST.
	Target  string
	Action  string
	Version string // Query only
	Params  Value
}

// Dialect is how the service that a request was signed for reads what names no protocol itself: EC2's requests look like
// any other Query request, and those of a REST service are known by its routes alone.
type Dialect struct {
	EC2    bool
	Routes Routes
}

// Parse decodes an HTTP request. The error is a *Error in AWS's words; the returned request then at least names its
// protocol.
func Parse(r *http.Request, d Dialect) (Request, error) {
	req := Request{Protocol: protocolOf(r, d)}
	body, err := readBody(r)
	if err != nil {
		return req, err
	}
	switch req.Protocol {
	case JSON10, JSON11:
		target := r.Header.Get("X-Amz-Target")
		dot := strings.LastIndexByte(target, '.')
		if dot < 0 {
			return req, &Error{Code: "UnknownOperationException", Status: http.StatusBadRequest}
		}
		req.Target, req.Action = target[:dot], target[dot+1:]
		req.Params, err = ParseJSON(body)
	case CBOR:
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		if len(parts) != 4 || parts[0] != "service" || parts[2] != "operation" {
			return req, &Error{Code: "UnknownOperationException", Status: http.StatusNotFound}
		}
		req.Target, req.Action = parts[1], parts[3]
		req.Params, err = ParseCBOR(body)
	case RESTJSON:
		req.Action, req.Params, err = d.Routes.parse(r, body)
	default:
		if err := parseForm(r, body, &req); err != nil {
			return req, err
		}
	}
	return req, err
}

func protocolOf(r *http.Request, d Dialect) Protocol {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.Header.Get("Smithy-Protocol") == "rpc-v2-cbor" || err == nil && media == "application/cbor":
		return CBOR
	case err == nil && media == "application/x-amz-json-1.0":
		return JSON10
	case err == nil && media == "application/x-amz-json-1.1", r.Header.Get("X-Amz-Target") != "":
		return JSON11
	case d.EC2:
		return EC2Query
	case len(d.Routes) > 0:
		return RESTJSON
	}
	return Query
}

func parseForm(r *http.Request, body []byte, req *Request) error {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return &Error{Code: "MalformedQueryString", Message: "The query string is malformed.", Status: http.StatusBadRequest}
	}
	for k, v := range r.URL.Query() {
		if strings.HasPrefix(k, "X-Amz-") {
			continue // the signature of a presigned request
		}
		form[k] = append(form[k], v...)
	}
	req.Action, req.Version = form.Get("Action"), form.Get("Version")
	form.Del("Action")
	form.Del("Version")
	if req.Action == "" {
		return &Error{Code: "MissingAction", Message: "The request must contain the parameter Action",
			Status: http.StatusBadRequest}
	}
	req.Params, err = ParseForm(form)
	return err
}

func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	var in io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, &Error{Code: "SerializationException", Message: "the body is not gzip", Status: http.StatusBadRequest}
		}
		in = z
	}
	var buf bytes.Buffer
	n, err := buf.ReadFrom(io.LimitReader(in, MaxBody+1))
	if err != nil {
		return nil, fmt.Errorf("reading the request: %w", err)
	}
	if n > MaxBody {
		return nil, &Error{Code: "RequestEntityTooLarge", Message: "the body is too large",
			Status: http.StatusRequestEntityTooLarge}
	}
	return buf.Bytes(), nil
}

// Error is a refusal in AWS's terms.
type Error struct {
	// Code is what a person and a retry policy see: "InvalidInstanceID.NotFound".
	Code string
	// Shape is the model's name of the exception where it differs from Code (CBOR of services that were Query before).
	Shape   string
	Message string
	// Status is the HTTP status; 0 means 400.
	Status int
}

// Errorf makes an error with status 400.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest}
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// HTTPStatus is Status, 400 where it is unset.
func (e *Error) HTTPStatus() int {
	if e.Status == 0 {
		return http.StatusBadRequest
	}
	return e.Status
}

// AsError finds the *Error within err; anything else becomes an InternalFailure that keeps its text.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Code: "InternalFailure", Message: err.Error(), Status: http.StatusInternalServerError}
}

// WriteError writes an error as the protocol wants it, with headers.
func WriteError(h http.Header, p Protocol, namespace, requestID string, e *Error) []byte {
	h.Set("Content-Type", p.ContentType())
	h.Set("X-Amzn-Requestid", requestID)
	fault := "Sender"
	if e.HTTPStatus() >= 500 {
		fault = "Receiver"
	}
	shape := e.Shape
	if shape == "" {
		shape = e.Code
	}
	switch p {
	case JSON10, JSON11:
		w := NewWriter(p)
		w.begin("")
		w.Str("__type", shape)
		w.Str("message", e.Message)
		w.Str("Message", e.Message)
		w.end("")
		queryError(h, e, fault)
		return w.buf
	case RESTJSON:
		h.Set("X-Amzn-Errortype", shape)
		w := NewWriter(p)
		w.begin("")
		w.Str("message", e.Message)
		w.end("")
		return w.buf
	case CBOR:
		h.Set("Smithy-Protocol", "rpc-v2-cbor")
		queryError(h, e, fault)
		w := NewWriter(p)
		w.begin("")
		w.Str("__type", shape)
		w.Str("message", e.Message)
		w.end("")
		return w.buf
	case RESTXML:
		h.Set("X-Amz-Request-Id", requestID)
		w := NewWriter(p)
		w.buf = append(w.buf, xmlHeader+"\n<Error>"...)
		w.Str("Code", e.Code)
		w.Str("Message", e.Message)
		w.Str("RequestId", requestID)
		w.buf = append(w.buf, "</Error>"...)
		return w.buf
	case EC2Query:
		w := NewWriter(p)
		w.buf = append(w.buf, xmlHeader+"\n<Response><Errors><Error>"...)
		w.Str("Code", e.Code)
		w.Str("Message", e.Message)
		w.buf = append(w.buf, "</Error></Errors>"...)
		w.Str("RequestID", requestID)
		w.buf = append(w.buf, "</Response>"...)
		return w.buf
	default:
		w := NewWriter(p)
		w.buf = append(append(append(w.buf, `<ErrorResponse xmlns="`...), namespace...), "\">\n<Error>"...)
		w.Str("Type", fault)
		w.Str("Code", e.Code)
		w.Str("Message", e.Message)
		w.buf = append(w.buf, "</Error>"...)
		w.Str("RequestId", requestID)
		w.buf = append(w.buf, "</ErrorResponse>\n"...)
		return w.buf
	}
}

// queryError tells a client of a formerly Query service the code it knew (aws.protocols#awsQueryCompatible).
func queryError(h http.Header, e *Error, fault string) {
	if e.Shape != "" && e.Shape != e.Code {
		h.Set("X-Amzn-Query-Error", e.Code+";"+fault)
	}
}

const xmlHeader = `<?xml version="1.0" encoding="UTF-8"?>`
