package awsx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// dryRunCode is EC2's answer to a dry run that the caller would be allowed to do in earnest. It comes as an error.
const dryRunCode = "DryRunOperation"

// DryRunOK tells whether the error of a call with DryRun set means that the call would have been permitted.
func DryRunOK(err error) bool {
	call, ok := errors.AsType[*fleet.CallError](err)
	return ok && call.Code == dryRunCode
}

// Code gives AWS's error code within err, or "".
func Code(err error) string {
	if call, ok := errors.AsType[*fleet.CallError](err); ok {
		return call.Code
	}
	return ""
}

// Plain gives the CallError within err instead of the SDK's "operation error" around it, which says the same twice. Any
// other error is given back as it is.
func Plain(err error) error {
	if call, ok := errors.AsType[*fleet.CallError](err); ok {
		return call
	}
	return err
}

// codeClasses is the table of AWS's error codes, tried from the top; the first star in a pattern stands for any text.
// Codes are as the services' API references give them under "Common errors" and "Client error codes".
var codeClasses = []struct {
	pattern string
	class   fleet.ErrorClass
}{
	// Refused for the rate: the call had no effect.
	{"RequestLimitExceeded", fleet.ErrThrottled},
	{"Throttl*", fleet.ErrThrottled},
	{"EC2Throttled*", fleet.ErrThrottled},
	{"RequestThrottled*", fleet.ErrThrottled},
	{"TooManyRequests*", fleet.ErrThrottled},
	{"BandwidthLimitExceeded", fleet.ErrThrottled},
	{"ProvisionedThroughputExceeded*", fleet.ErrThrottled},
	{"PriorRequestNotComplete", fleet.ErrThrottled},
	{"SlowDown", fleet.ErrThrottled},
	{"RequestRateExceeded", fleet.ErrThrottled},

	// Not permitted.
	{"UnauthorizedOperation", fleet.ErrDenied},
	{"AccessDenied*", fleet.ErrDenied},
	{"UnauthorizedAccess*", fleet.ErrDenied},
	{"NotAuthorized*", fleet.ErrDenied},
	{"Forbidden*", fleet.ErrDenied},
	{"AuthFailure", fleet.ErrDenied}, // but see credentialProblem
	{"InsufficientPrivileges*", fleet.ErrDenied},
	{"Blocked", fleet.ErrDenied},
	{"PendingVerification", fleet.ErrDenied},
	{"AccountDisabled", fleet.ErrDenied},
	{"OptInRequired", fleet.ErrRegionDisabled},
	{"RegionDisabledException", fleet.ErrRegionDisabled},
	{"InvalidRegionException", fleet.ErrRegionDisabled},

	// The credentials, or the clock that signs with them.
	{"ExpiredToken*", fleet.ErrExpired},
	{"RequestExpired", fleet.ErrExpired},
	{"InvalidClientTokenId", fleet.ErrExpired},
	{"UnrecognizedClient*", fleet.ErrExpired},
	{"InvalidAccessKeyId", fleet.ErrExpired},
	{"InvalidToken", fleet.ErrExpired},
	{"TokenRefreshRequired", fleet.ErrExpired},
	{"MissingAuthenticationToken*", fleet.ErrExpired},
	{"SignatureDoesNotMatch", fleet.ErrExpired},
	{"InvalidSignature*", fleet.ErrExpired},
	{"IncompleteSignature*", fleet.ErrExpired},
	{"UnauthenticatedException", fleet.ErrExpired}, // Lightsail's
	{"RequestTimeTooSkewed", fleet.ErrExpired},

	// No longer there.
	{"*NotFound", fleet.ErrGone},
	{"*NotFoundException", fleet.ErrGone},
	{"*NotFoundFault", fleet.ErrGone},
	{"NoSuch*", fleet.ErrGone},
	{"InvalidAMIID.Unavailable", fleet.ErrGone},

	// The service's own faults: the effect is unknown.
	{"Internal*", fleet.ErrTransient},
	{"ServerInternal", fleet.ErrTransient},
	{"ServiceUnavailable*", fleet.ErrTransient},
	{"Unavailable", fleet.ErrTransient},
	{"RequestTimeout*", fleet.ErrTransient},
	{"IDPCommunicationError", fleet.ErrTransient},
	{"AccountSetupInProgressException", fleet.ErrTransient}, // Lightsail's, before the first use of an account
	{"RegionSetupInProgressException", fleet.ErrTransient},  // and of a region

	// In a state in which AWS refuses.
	{"Incorrect*State*", fleet.ErrConflict},
	{"IncorrectState", fleet.ErrConflict},
	{"IncorrectInstanceState", fleet.ErrConflict},
	{"IncorrectSpotRequestState", fleet.ErrConflict},
	{"FleetNotInModifiableState", fleet.ErrConflict},
	{"UnsupportedOperation", fleet.ErrConflict},
	{"OperationNotPermitted*", fleet.ErrConflict},
	{"DeclarativePolicyViolation*", fleet.ErrConflict},
	{"InvalidState*", fleet.ErrConflict},
	{"*AlreadyExists", fleet.ErrConflict},
	{"*AlreadyExistsException", fleet.ErrConflict},
	{"AlreadyExists*", fleet.ErrConflict},
	{"Conflict*", fleet.ErrConflict},
	{"ConcurrentModification*", fleet.ErrConflict},
	{"ConstraintViolation*", fleet.ErrConflict},
	{"PolicyChangesInProgress*", fleet.ErrConflict},
	{"ResourceInUse*", fleet.ErrConflict},
	{"ResourceContention*", fleet.ErrConflict},
	{"ScalingActivityInProgress*", fleet.ErrConflict},
	{"InstanceRefreshInProgress*", fleet.ErrConflict},
	{"IdempotentParameterMismatch", fleet.ErrConflict},
	{"OperationFailureException", fleet.ErrConflict}, // Lightsail's, of an operation that was not carried out
	{"*LimitExceeded", fleet.ErrConflict},
	{"LimitExceeded*", fleet.ErrConflict},

	// Wrong in itself.
	{"Invalid*", fleet.ErrInvalid},
	{"Malformed*", fleet.ErrInvalid},
	{"Missing*", fleet.ErrInvalid},
	{"UnknownEndpoint*", fleet.ErrNotOffered},
	{"Unknown*", fleet.ErrInvalid},
	{"Validation*", fleet.ErrInvalid},
	{"Serialization*", fleet.ErrInvalid},
	{"UnsupportedProtocol", fleet.ErrInvalid},
}

// classOf tells the class of an answer by its code, and by its message where services reuse a code.
func classOf(action, code, message string, status int) fleet.ErrorClass {
	if code == "AuthFailure" && credentialProblem(message) {
		return fleet.ErrExpired
	}
	// Auto Scaling has no code of its own for a group that is gone.
	if code == "ValidationError" && strings.HasPrefix(action, "autoscaling:") && strings.Contains(message, "not found") {
		return fleet.ErrGone
	}
	// SageMaker has one code for a notebook instance that is gone and for one whose status forbids the call.
	if code == "ValidationException" && strings.HasPrefix(action, "sagemaker:") {
		switch {
		case strings.Contains(message, "RecordNotFound"):
			return fleet.ErrGone
		case strings.Contains(message, "Unable to transition to"):
			return fleet.ErrConflict
		}
	}
	for _, rule := range codeClasses {
		// The SDK's "UnknownError" is no code of AWS's: a proxy's page, say. Only the status tells then.
		if code != "UnknownError" && matches(rule.pattern, code) {
			return rule.class
		}
	}
	switch {
	case status == 429:
		return fleet.ErrThrottled
	case status >= 500:
		return fleet.ErrTransient
	default:
		return fleet.ErrOther
	}
}

// credentialProblem tells the AuthFailure of unusable credentials ("AWS was not able to validate the provided access
// credentials") from that of a forbidden resource ("Not authorized for images").
func credentialProblem(message string) bool { return strings.Contains(message, "access credentials") }

// failure is a failed attempt, understood.
type failure struct {
	class     fleet.ErrorClass
	code      string
	requestID string
	err       error
	// unsent: the request cannot have reached AWS.
	unsent bool
	// final: repeating cannot help, whatever the class.
	final bool
	// resign: AWS refused the signature's time, and the SDK has corrected its clock meanwhile.
	resign bool
}

// understand makes a failure of what the SDK returned. secrets are texts that must not get into a message.
func understand(action string, err error, secrets []string) failure {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return withoutAnswer(err)
	}
	status := 0
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = response.HTTPStatusCode()
	}
	f := failure{code: api.ErrorCode(), class: classOf(action, api.ErrorCode(), api.ErrorMessage(), status)}
	f.err = newAnswer(api, secrets)
	f.resign = clockCodes[f.code] && saysRetryable(err)
	return f
}

// withoutAnswer understands an attempt to which AWS gave no (readable) answer.
func withoutAnswer(err error) failure {
	f := failure{class: fleet.ErrTransient, err: concise(err)}
	if errors.Is(err, errTooLate) {
		f.class, f.unsent, f.final = fleet.ErrLate, true, true
		return f
	}
	if _, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
			f.unsent = true
		}
		if dns, ok := errors.AsType[*net.DNSError](err); ok {
			f.unsent = true
			if dns.IsNotFound { // the resolver says that there is no such name, not that it could not tell
				f.class = fleet.ErrNotOffered
				f.err = fmt.Errorf("the service has no endpoint in this region, or the network is down: %w", f.err)
			}
		}
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			f.class, f.unsent, f.final = fleet.ErrOther, true, true
		}
		return f
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		return f // an answer cut short, or a proxy's page: whether AWS acted is unknown
	}
	if _, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return f
	}
	// Anything else went wrong before sending: parameters, endpoint, signing.
	f.class, f.unsent, f.final = fleet.ErrInvalid, true, true
	return f
}

// clockCodes are refusals of a signature that a corrected clock may cure.
var clockCodes = map[string]bool{
	"RequestTimeTooSkewed": true, "SignatureDoesNotMatch": true, "InvalidSignatureException": true, "AuthFailure": true,
}

// expiredCode is what EC2 says of credentials that ran out as well as of a signature whose time is off ("Error codes for the
// Amazon EC2 API"). The SDK does not take it for a matter of the clock, but has measured AWS's by then, and signs by that the
// next time.
const expiredCode = "RequestExpired"

// mostOff is how far the clocks may be apart before AWS refuses signatures: less than its five minutes.
const mostOff = 4 * time.Minute

// offClock tells whether the answer came from a clock too far from ours, by the SDK's own measure.
func offClock(answer middleware.Metadata) bool {
	skew, ok := awsmiddleware.GetAttemptSkew(answer)
	return ok && skew.Abs() > mostOff
}

func saysRetryable(err error) bool {
	var r interface{ RetryableError() bool }
	return errors.As(err, &r) && r.RetryableError()
}

// concise drops the wrappers in which the SDK repeats what a CallError says anyway.
func concise(err error) error {
	if send, ok := errors.AsType[*smithyhttp.RequestSendError](err); ok {
		return fmt.Errorf("no answer from AWS: %w", send.Err)
	}
	return err
}

// answer is AWS's error, short enough to read: "IncorrectState: The instance … is not in a valid state".
type answer struct {
	text  string
	cause error
}

func (a *answer) Error() string { return a.text }
func (a *answer) Unwrap() error { return a.cause }

// newAnswer cuts EC2's encoded authorization message (a kilobyte of base64) and AWS's account of what it thinks we
// should have signed (headers, session token included) out of the text. An error that holds a secret is not kept.
func newAnswer(api smithy.APIError, secrets []string) error {
	message := api.ErrorMessage()
	full := message
	message, _, _ = strings.Cut(message, "Encoded authorization failure message:")
	message, _, _ = strings.Cut(message, "The Canonical String for this request should have been")
	message = strings.TrimSpace(message)
	out := &answer{cause: api}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(full, secret) {
			message, out.cause = strings.ReplaceAll(message, secret, "[secret]"), nil
		}
	}
	if full != message && clockCodes[api.ErrorCode()] {
		out.cause = nil
	}
	out.text = api.ErrorCode()
	if message != "" {
		out.text += ": " + message
	}
	return out
}

// cancelled is the failure of a call whose context ended.
func cancelled(ctx context.Context) failure {
	return failure{class: fleet.ErrTransient, err: fmt.Errorf("interrupted: %w", ctx.Err()), final: true}
}
