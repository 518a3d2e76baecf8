package awsx

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

// loadOwn loads the caller's configuration as any AWS tool does, but that an instance's role is asked for by IMDSv2 alone. The SDK
// falls back to IMDSv1 otherwise, and who ends IMDSv1 must not be among its callers.
func loadOwn(ctx context.Context) (aws.Config, error) {
	found, err := config.LoadDefaultConfig(ctx) // where the service is said to be
	if err != nil {
		return found, err
	}
	return config.LoadDefaultConfig(ctx, config.WithEC2RoleCredentialOptions(func(o *ec2rolecreds.Options) {
		o.Client = imds.NewFromConfig(found, func(o *imds.Options) { o.EnableFallback = aws.FalseTernary })
	}))
}
