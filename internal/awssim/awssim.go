// Package awssim is a simulated AWS that answers at the wire: real SDKs, the AWS CLI and any other client reach it by
// AWS_ENDPOINT_URL. It serves the demo, rehearsals, tests and benchmarks. It is written from AWS's documentation and
// shares no judgement with the rest of imdsctl, so that it can be the judge: it imports only fleet and clock of ours.
//
// Package core holds what all services share, wire the protocols, authz IAM's policies; one package a service.
package awssim

import (
	"github.com/imdsctl/imdsctl/internal/awssim/appstream"
	"github.com/imdsctl/imdsctl/internal/awssim/athena"
	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/batch"
	"github.com/imdsctl/imdsctl/internal/awssim/cloudformation"
	"github.com/imdsctl/imdsctl/internal/awssim/cloudtrail"
	"github.com/imdsctl/imdsctl/internal/awssim/cloudwatch"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/ecs"
	"github.com/imdsctl/imdsctl/internal/awssim/eks"
	"github.com/imdsctl/imdsctl/internal/awssim/elasticbeanstalk"
	"github.com/imdsctl/imdsctl/internal/awssim/elbv2"
	"github.com/imdsctl/imdsctl/internal/awssim/emr"
	"github.com/imdsctl/imdsctl/internal/awssim/iam"
	"github.com/imdsctl/imdsctl/internal/awssim/imagebuilder"
	"github.com/imdsctl/imdsctl/internal/awssim/lightsail"
	"github.com/imdsctl/imdsctl/internal/awssim/organizations"
	"github.com/imdsctl/imdsctl/internal/awssim/programs"
	"github.com/imdsctl/imdsctl/internal/awssim/s3"
	"github.com/imdsctl/imdsctl/internal/awssim/sagemaker"
	"github.com/imdsctl/imdsctl/internal/awssim/ssm"
	"github.com/imdsctl/imdsctl/internal/awssim/sts"
	"github.com/imdsctl/imdsctl/internal/awssim/workspacesinstances"
)

// World is a simulated AWS.
type World = core.World

// Options say how a world behaves.
type Options = core.Options

// BaseURL is the endpoint for clients made with World.Client.
const BaseURL = core.BaseURL

// New makes an empty world with all services.
func New(opts Options) *World { return core.New(opts, Services()...) }

// Services are the simulated services.
func Services() []*core.Service {
	return []*core.Service{
		// One line a service.
		ec2.Service(),
		iam.Service(),
		sts.Service(),
		autoscaling.Service(),
		appstream.Service(),
		elasticbeanstalk.Service(),
		emr.Service(),
		cloudwatch.Service(programs.Hosts{}, cloudwatch.DefaultDelay),
		athena.Service(),
		batch.Service(),
		cloudformation.Service(),
		cloudtrail.Service(programs.Hosts{}),
		ecs.Service(),
		eks.Service(),
		elbv2.Service(),
		lightsail.Service(programs.Hosts{}, lightsail.DefaultDelay),
		imagebuilder.Service(),
		organizations.Service(),
		workspacesinstances.Service(),
		s3.Service(),
		sagemaker.Service(),
		ssm.Service(programs.Hosts{}),
		programs.Service(),
	}
}
