package awsx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// spoken is a service that is called without a client of the SDK's, in one of AWS's protocols. Its calls go through the same
// steps as those of the SDK's clients, and so get what a Session gives (see the package's comment).
type spoken struct {
	id      string // the SDK's name of the service, from which the name of an action is made
	signing string // the name in the signature's scope
	// endpoint gives AWS's own endpoint in a region. That of a Config, from AWS_ENDPOINT_URL or the profile, comes first.
	endpoint func(region string) string
	write    func(operation string, in any) (header map[string]string, body []byte, err error)
	read     func(body []byte, out any) error
	refusal  func(header http.Header, body []byte) error
}

// call makes one call with a Session's Config: in is sent, the answer is read into out, and the request's id is given back.
// An error is a *fleet.CallError.
func (s spoken) call(ctx context.Context, cfg aws.Config, operation string, in, out any) (requestID string, err error) {
	stack, err := s.stack(cfg, operation, out)
	if err != nil {
		return "", fmt.Errorf("call %s: %w", operation, err)
	}
	ctx = middleware.ClearStackValues(ctx)
	for _, set := range []func(context.Context) context.Context{
		func(c context.Context) context.Context { return awsmiddleware.SetServiceID(c, s.id) },
		func(c context.Context) context.Context { return awsmiddleware.SetOperationName(c, operation) },
		func(c context.Context) context.Context { return awsmiddleware.SetRegion(c, cfg.Region) },
	} {
		ctx = set(ctx)
	}
	handler := middleware.DecorateHandler(smithyhttp.NewClientHandlerWithOptions(cfg.HTTPClient), stack)
	_, metadata, err := handler.Handle(ctx, in)
	requestID, _ = awsmiddleware.GetRequestIDMetadata(metadata)
	return requestID, Plain(err)
}

// stack is the way of one call.
func (s spoken) stack(cfg aws.Config, operation string, out any) (*middleware.Stack, error) {
	stack := middleware.NewStack(operation, smithyhttp.NewStackRequest)
	serialize := middleware.SerializeMiddlewareFunc("OperationSerializer", s.serialize(cfg, operation))
	sign := middleware.FinalizeMiddlewareFunc("Signing", s.sign(cfg))
	attempt := retry.NewAttemptMiddleware(aws.NopRetryer{}, smithyhttp.RequestCloner)
	deserialize := middleware.DeserializeMiddlewareFunc("OperationDeserializer", s.deserialize(out))
	for _, err := range []error{
		stack.Serialize.Add(serialize, middleware.After),
		stack.Build.Add(awsmiddleware.NewRequestUserAgent(), middleware.After),
		stack.Finalize.Add(attempt, middleware.After),
		stack.Finalize.Add(&v4.ComputePayloadSHA256{}, middleware.After),
		stack.Finalize.Add(sign, middleware.After),
		stack.Deserialize.Add(deserialize, middleware.After),
		awsmiddleware.AddRawResponseToMetadata(stack),
		awsmiddleware.AddRecordResponseTiming(stack),
		awsmiddleware.AddRequestIDRetrieverMiddleware(stack),
		awshttp.AddResponseErrorMiddleware(stack),
	} {
		if err != nil {
			return nil, err
		}
	}
	for _, install := range cfg.APIOptions {
		if err := install(stack); err != nil {
			return nil, err
		}
	}
	return stack, nil
}

type serializer = func(context.Context, middleware.SerializeInput, middleware.SerializeHandler) (
	middleware.SerializeOutput, middleware.Metadata, error)

func (s spoken) serialize(cfg aws.Config, operation string) serializer {
	return func(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (
		out middleware.SerializeOutput, metadata middleware.Metadata, err error,
	) {
		endpoint := aws.ToString(cfg.BaseEndpoint)
		if endpoint == "" {
			endpoint = s.endpoint(cfg.Region)
		}
		request := in.Request.(*smithyhttp.Request)
		if request.URL, err = url.Parse(endpoint); err != nil {
			return out, metadata, &smithy.SerializationError{Err: fmt.Errorf("endpoint: %w", err)}
		}
		if request.URL.Path == "" {
			request.URL.Path = "/"
		}
		header, body, err := s.write(operation, in.Parameters)
		if err != nil {
			return out, metadata, &smithy.SerializationError{Err: err}
		}
		request.Method = http.MethodPost
		for name, value := range header {
			request.Header.Set(name, value)
		}
		if request, err = request.SetStream(bytes.NewReader(body)); err != nil {
			return out, metadata, &smithy.SerializationError{Err: err}
		}
		in.Request = request
		return next.HandleSerialize(ctx, in)
	}
}

// mostAnswer bounds an answer, in bytes: a page of a listing is a small part of it.
const mostAnswer = 16 << 20

type finalizer = func(context.Context, middleware.FinalizeInput, middleware.FinalizeHandler) (
	middleware.FinalizeOutput, middleware.Metadata, error)

// sign signs each attempt anew, at the session's time, corrected by what AWS's own was in its last answer.
func (s spoken) sign(cfg aws.Config) finalizer {
	signer := v4.NewSigner()
	return func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
		out middleware.FinalizeOutput, metadata middleware.Metadata, err error,
	) {
		session, ok := middleware.GetStackValue(ctx, sessionKey{}).(*Session)
		request, isHTTP := in.Request.(*smithyhttp.Request)
		if !ok || !isHTTP {
			return out, metadata, errors.New("the configuration is none of a Session")
		}
		creds, err := cfg.Credentials.Retrieve(ctx)
		if err != nil {
			return out, metadata, fmt.Errorf("credentials to sign with: %w", err)
		}
		at := session.edge.clock.Now()
		if skew, known := session.Skew(); known {
			at = at.Add(skew)
		}
		err = signer.SignHTTP(ctx, creds, request.Request, v4.GetPayloadHash(ctx), s.signing, cfg.Region, at)
		if err != nil {
			return out, metadata, fmt.Errorf("sign: %w", err)
		}
		return next.HandleFinalize(ctx, in)
	}
}

type deserializer = func(context.Context, middleware.DeserializeInput, middleware.DeserializeHandler) (
	middleware.DeserializeOutput, middleware.Metadata, error)

func (s spoken) deserialize(into any) deserializer {
	return func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
		middleware.DeserializeOutput, middleware.Metadata, error,
	) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		if err != nil {
			return out, metadata, err
		}
		response, ok := out.RawResponse.(*smithyhttp.Response)
		if !ok {
			return out, metadata, &smithy.DeserializationError{Err: fmt.Errorf("an answer of type %T", out.RawResponse)}
		}
		defer smithyhttp.CloseResponseBody(ctx, response, false, nil)
		body, err := io.ReadAll(io.LimitReader(response.Body, mostAnswer+1))
		switch {
		case err != nil:
			return out, metadata, &smithy.DeserializationError{Err: err}
		case len(body) > mostAnswer:
			return out, metadata, &smithy.DeserializationError{Err: errors.New("the answer is too long")}
		case response.StatusCode < 200 || response.StatusCode >= 300:
			return out, metadata, s.refusal(response.Header, body)
		}
		if err := s.read(body, into); err != nil {
			return out, metadata, &smithy.DeserializationError{Err: err, Snapshot: body[:min(len(body), 1024)]}
		}
		out.Result = into
		return out, metadata, nil
	}
}
