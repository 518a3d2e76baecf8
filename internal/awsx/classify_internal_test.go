package awsx

import (
	"context"
	"strings"
	"testing"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

func TestClassOf(t *testing.T) {
	for _, tc := range []struct {
		action, code, message string
		status                int
		want                  fleet.ErrorClass
	}{
		{"ec2:X", "RequestLimitExceeded", "", 503, fleet.ErrThrottled},
		{"x:X", "Throttling", "Rate exceeded", 400, fleet.ErrThrottled},
		{"x:X", "UnknownError", "", 502, fleet.ErrTransient},
		{"x:X", "UnknownError", "", 403, fleet.ErrOther},
		{"x:X", "UnknownParameter", "", 400, fleet.ErrInvalid},
		{"x:X", "ThrottlingException", "", 400, fleet.ErrThrottled},
		{"x:X", "ThrottledException", "", 400, fleet.ErrThrottled},
		{"x:X", "TooManyRequestsException", "", 429, fleet.ErrThrottled},
		{"x:X", "SomethingNew", "", 429, fleet.ErrThrottled},
		{"ec2:X", "UnauthorizedOperation", "", 403, fleet.ErrDenied},
		{"x:X", "AccessDenied", "", 403, fleet.ErrDenied},
		{"x:X", "AccessDeniedException", "", 400, fleet.ErrDenied},
		{"x:X", "AccessDeniedForDependencyException", "", 400, fleet.ErrDenied},
		{"ec2:X", "AuthFailure", "Not authorized for images: [ami-1]", 403, fleet.ErrDenied},
		{"ec2:X", "AuthFailure", "AWS was not able to validate the provided access credentials", 401, fleet.ErrExpired},
		{"ec2:X", "OptInRequired", "", 401, fleet.ErrRegionDisabled},
		{"ec2:X", "InvalidInstanceID.NotFound", "", 400, fleet.ErrGone},
		{"ec2:X", "InvalidLaunchTemplateId.NotFound", "", 400, fleet.ErrGone},
		{"ec2:X", "InvalidLaunchTemplateId.VersionNotFound", "", 400, fleet.ErrGone},
		{"ec2:X", "InvalidLaunchTemplateName.NotFoundException", "", 400, fleet.ErrGone},
		{"x:X", "ResourceNotFoundException", "", 400, fleet.ErrGone},
		{"x:X", "NotFoundException", "", 404, fleet.ErrGone},
		{"iam:X", "NoSuchEntity", "", 404, fleet.ErrGone},
		{"ec2:X", "InvalidAMIID.Unavailable", "", 400, fleet.ErrGone},
		{"autoscaling:X", "ValidationError", "AutoScalingGroup name not found - no such group", 400, fleet.ErrGone},
		{"autoscaling:X", "ValidationError", "MaxRecords is too large", 400, fleet.ErrInvalid},
		{"sts:X", "ValidationError", "The role was not found in the text", 400, fleet.ErrInvalid},
		{"x:X", "ExpiredToken", "", 403, fleet.ErrExpired},
		{"x:X", "ExpiredTokenException", "", 400, fleet.ErrExpired},
		{"ec2:X", "RequestExpired", "", 400, fleet.ErrExpired},
		{"sts:X", "InvalidClientTokenId", "", 403, fleet.ErrExpired},
		{"x:X", "UnrecognizedClientException", "", 400, fleet.ErrExpired},
		{"x:X", "SignatureDoesNotMatch", "", 403, fleet.ErrExpired},
		{"ec2:X", "IncorrectState", "", 400, fleet.ErrConflict},
		{"ec2:X", "IncorrectInstanceState", "", 400, fleet.ErrConflict},
		{"ec2:X", "UnsupportedOperation", "", 400, fleet.ErrConflict},
		{"ec2:X", "OperationNotPermitted", "", 400, fleet.ErrConflict},
		{"ec2:X", "DeclarativePolicyViolation", "", 403, fleet.ErrConflict},
		{"ec2:X", "IdempotentParameterMismatch", "", 400, fleet.ErrConflict},
		{"ec2:X", "InvalidLaunchTemplateName.AlreadyExistsException", "", 400, fleet.ErrConflict},
		{"x:X", "ResourceInUseException", "", 400, fleet.ErrConflict},
		{"x:X", "LimitExceededException", "", 400, fleet.ErrConflict},
		{"ec2:X", "InternalError", "", 500, fleet.ErrTransient},
		{"x:X", "ServiceUnavailable", "", 503, fleet.ErrTransient},
		{"x:X", "SomethingNew", "", 502, fleet.ErrTransient},
		{"ec2:X", "InvalidParameterValue", "", 400, fleet.ErrInvalid},
		{"ec2:X", "InvalidInstanceID.Malformed", "", 400, fleet.ErrInvalid},
		{"ec2:X", "MissingParameter", "", 400, fleet.ErrInvalid},
		{"x:X", "ValidationException", "", 400, fleet.ErrInvalid},
		{"x:X", "UnknownOperationException", "", 404, fleet.ErrInvalid},
		{"x:X", "SomethingNew", "", 400, fleet.ErrOther},
		{"ec2:X", "DryRunOperation", "", 412, fleet.ErrOther},
		{"x:X", "", "", 404, fleet.ErrOther},
	} {
		if got := classOf(tc.action, tc.code, tc.message, tc.status); got != tc.want {
			t.Errorf("%s %q %q %d: got %s, want %s", tc.action, tc.code, tc.message, tc.status, got, tc.want)
		}
	}
}

func FuzzClassOfNeverSucceeds(f *testing.F) {
	f.Add("ec2:X", "Throttling", "m", 400)
	f.Fuzz(func(t *testing.T, action, code, message string, status int) {
		if classOf(action, code, message, status) == "" {
			t.Error("an error without a class reads as a success")
		}
	})
}

func TestAnswerKeepsSecretsAndBase64Out(t *testing.T) {
	for _, tc := range []struct{ code, message, want string }{
		{"UnauthorizedOperation", "You are not authorized. Encoded authorization failure message: " + strings.Repeat("x", 900),
			"UnauthorizedOperation: You are not authorized."},
		{"SignatureDoesNotMatch", "The request signature we calculated does not match.\n\nThe Canonical String for this request " +
			"should have been\n'POST\nx-amz-security-token:SECRET'", "SignatureDoesNotMatch: The request signature we calculated does not match."},
		{"SignatureDoesNotMatch", "No match.\nThe Canonical String for this request should have been x-amz-security-token:" +
			"another one's", "SignatureDoesNotMatch: No match."},
		{"Odd", "you sent SECRET", "Odd: you sent [secret]"},
		{"Bare", "", "Bare"},
	} {
		err := newAnswer(&smithy.GenericAPIError{Code: tc.code, Message: tc.message}, []string{"SECRET", ""})
		if err.Error() != tc.want {
			t.Errorf("got %q, want %q", err, tc.want)
		}
		for e := err; e != nil; {
			if strings.Contains(e.Error(), "SECRET") || strings.Contains(e.Error(), "security-token") {
				t.Errorf("%s: a wrapped error tells the secret", tc.code)
			}
			u, ok := e.(interface{ Unwrap() error })
			if !ok {
				break
			}
			e = u.Unwrap()
		}
	}
}

func TestActionOf(t *testing.T) {
	type filter struct{ Name string }
	type describe struct {
		DryRun     *bool
		Filters    []filter
		Ids        []string
		MaxResults *int32
	}
	type regions struct{ RegionNames []string }
	yes, no, page := true, false, int32(5)
	for _, tc := range []struct {
		service, operation string
		params             any
		name, bucket       string
		read               bool
	}{
		{"EC2", "DescribeInstances", &describe{}, "ec2:DescribeInstances", "ec2:DescribeInstances#unfiltered", true},
		{"EC2", "DescribeInstances", &describe{MaxResults: &page}, "ec2:DescribeInstances", "ec2:DescribeInstances", true},
		{"EC2", "DescribeInstances", &describe{Ids: []string{"i-1"}}, "ec2:DescribeInstances", "ec2:DescribeInstances", true},
		{"EC2", "DescribeInstances", &describe{Filters: []filter{{}}}, "ec2:DescribeInstances", "ec2:DescribeInstances", true},
		{"EC2", "DescribeRegions", &regions{}, "ec2:DescribeRegions", "ec2:DescribeRegions", true},
		{"EC2", "ModifyInstanceMetadataOptions", &describe{DryRun: &no}, "ec2:ModifyInstanceMetadataOptions", "ec2:ModifyInstanceMetadataOptions", false},
		{"EC2", "ModifyInstanceMetadataOptions", &describe{DryRun: &yes}, "ec2:ModifyInstanceMetadataOptions", "ec2:ModifyInstanceMetadataOptions", true},
		{"Auto Scaling", "UpdateAutoScalingGroup", &regions{}, "autoscaling:UpdateAutoScalingGroup", "autoscaling:UpdateAutoScalingGroup", false},
		{"Elastic Beanstalk", "DescribeEnvironments", nil, "elasticbeanstalk:DescribeEnvironments", "elasticbeanstalk:DescribeEnvironments", true},
		{"Elastic Load Balancing v2", "DescribeTargetHealth", nil, "elasticloadbalancing:DescribeTargetHealth",
			"elasticloadbalancing:DescribeTargetHealth", true},
		{"EMR", "ListClusters", nil, "elasticmapreduce:ListClusters", "elasticmapreduce:ListClusters", true},
		{"STS", "AssumeRole", nil, "sts:AssumeRole", "sts:AssumeRole", true},
	} {
		ctx := middleware.WithOperationName(middleware.WithServiceID(context.Background(), tc.service), tc.operation)
		if awsmiddleware.GetServiceID(ctx) == "" {
			ctx = awsmiddleware.SetOperationName(awsmiddleware.SetServiceID(ctx, tc.service), tc.operation)
		}
		got := actionOf(ctx, tc.params)
		if got.name != tc.name || got.bucket != tc.bucket || got.read != tc.read {
			t.Errorf("%s %s %+v: got %+v", tc.service, tc.operation, tc.params, got)
		}
	}
}
