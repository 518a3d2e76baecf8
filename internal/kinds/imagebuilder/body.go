package imagebuilder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	sdk "github.com/aws/aws-sdk-go-v2/service/imagebuilder"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// The SDK drops members that it does not know, and AWS resets members that it is not sent: an update by the SDK alone would
// reset what is newer than the SDK. So the body of an update is AWS's own answer, edited.

// largestAnswer bounds what is kept of an answer, in bytes: far more than a configuration has.
const largestAnswer = 1 << 20

// whole is the body of an update that leaves everything as the answer of GetInfrastructureConfiguration has it, but for the
// options.
func whole(answer []byte, w kind.Write) ([]byte, error) {
	if err := checked(w.After); err != nil {
		return nil, err
	}
	var in struct {
		Config map[string]json.RawMessage `json:"infrastructureConfiguration"`
	}
	if err := json.Unmarshal(answer, &in); err != nil {
		return nil, fmt.Errorf("AWS's answer is not understood: %w", err)
	}
	if len(in.Config) == 0 {
		return nil, errors.New("AWS's answer holds no configuration")
	}
	options := map[string]json.RawMessage{}
	if raw, ok := in.Config[memberOptions]; ok {
		if err := json.Unmarshal(raw, &options); err != nil {
			return nil, fmt.Errorf("its metadata options are not understood: %w", err)
		}
	}
	if options == nil { // null
		options = map[string]json.RawMessage{}
	}
	delete(options, memberTokens)
	delete(options, memberHopLimit)
	if tokens, ok := w.After[fleet.FieldTokens]; ok {
		options[memberTokens] = json.RawMessage(strconv.Quote(tokens))
	}
	if hops, ok := w.After[fleet.FieldHopLimit]; ok {
		options[memberHopLimit] = json.RawMessage(hops)
	}
	delete(in.Config, memberOptions)
	set := map[string]any{memberARN: w.ID, "clientToken": w.Token}
	if len(options) > 0 {
		set[memberOptions] = options
	}
	for _, name := range readOnly() {
		delete(in.Config, name)
	}
	for name, v := range set {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		in.Config[name] = raw
	}
	return json.Marshal(in.Config)
}

// checked refuses options that no configuration can have.
func checked(s fleet.State) error {
	if v, ok := s[fleet.FieldTokens]; ok && v != fleet.TokensOptional && v != fleet.TokensRequired {
		return fmt.Errorf("%s cannot be %q", fleet.FieldTokens, v)
	}
	if v, ok := s[fleet.FieldHopLimit]; ok {
		n, err := strconv.Atoi(v)
		if err != nil || fleet.ValidHopLimit(n) != nil || strconv.Itoa(n) != v {
			return fmt.Errorf("%s cannot be %q", fleet.FieldHopLimit, v)
		}
	}
	return nil
}

// keepAnswer keeps the body of a call's answer as it came.
func keepAnswer(answer *[]byte) func(*sdk.Options) {
	keep := middleware.DeserializeMiddlewareFunc("ImdsctlKeepAnswer", func(
		ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
	) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		response, ok := out.RawResponse.(*smithyhttp.Response)
		if err != nil || !ok {
			return out, metadata, err
		}
		b, err := io.ReadAll(io.LimitReader(response.Body, largestAnswer))
		if err != nil {
			return out, metadata, fmt.Errorf("read the answer: %w", err)
		}
		*answer = b
		response.Body = answered{bytes.NewReader(b), response.Body}
		return out, metadata, nil
	})
	return func(o *sdk.Options) {
		o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error { return s.Deserialize.Add(keep, middleware.After) })
	}
}

// answered is a body that was read, to be read again.
type answered struct {
	io.Reader
	io.Closer
}

// sendBody sends another body than the one that the SDK made of a call's parameters.
func sendBody(body []byte) func(*sdk.Options) {
	send := middleware.SerializeMiddlewareFunc("ImdsctlSendBody", func(
		ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler,
	) (middleware.SerializeOutput, middleware.Metadata, error) {
		request, ok := in.Request.(*smithyhttp.Request)
		if !ok {
			return middleware.SerializeOutput{}, middleware.Metadata{}, fmt.Errorf("the request is a %T, not HTTP", in.Request)
		}
		request, err := request.SetStream(bytes.NewReader(body))
		if err != nil {
			return middleware.SerializeOutput{}, middleware.Metadata{}, fmt.Errorf("set the request's body: %w", err)
		}
		in.Request = request
		return next.HandleSerialize(ctx, in)
	})
	return func(o *sdk.Options) {
		o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error { return s.Serialize.Add(send, middleware.After) })
	}
}
