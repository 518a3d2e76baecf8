package scenario

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/iam"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// permissions are what the role of a service may do: most have a bucket of their own, and some far too much.
func permissions(partition fleet.Partition, app string) (policy, actions, resource string) {
	switch {
	case app == "bastion":
		return "AdministratorAccess", `"*"`, "*"
	case app == "jenkins-agent", strings.HasSuffix(app, "-legacy"):
		return "deploy", `["iam:PassRole", "ec2:RunInstances", "s3:*"]`, "*"
	case app == "nexus", app == "airflow-worker", app == "spark-worker", app == "adhoc-training":
		return "AmazonS3FullAccess", `["s3:*", "s3-object-lambda:*"]`, "*"
	case app == "vault", app == "card-vault":
		return "unseal", `"kms:Decrypt"`, "*"
	default:
		return "own-bucket", `["s3:GetObject", "s3:PutObject"]`, "arn:" + string(partition) + ":s3:::northwind-" + app + "/*"
	}
}

// role gives the service's hosts their role, once in an account.
func (b *builder) role(c cell) error {
	p, err := b.world.Place(c.account.id, "")
	if err != nil {
		return err
	}
	if _, have := b.world.Role(c.account.id, c.service.app); have {
		return nil
	}
	policy, actions, resource := permissions(p.Partition, c.service.app)
	document := json.RawMessage(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ` + actions + `, "Resource": "` + resource + `"}]}`)
	trust := json.RawMessage(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
		"Principal": {"Service": "ec2.amazonaws.com"}}]}`)
	p.With(func(time.Time) {
		err = iam.Put(p, iam.Seed{Roles: []iam.RoleSeed{{Name: c.service.app, Trust: trust, Profiles: []string{c.service.app},
			Inline: map[string]json.RawMessage{policy: document}}}}, "role of "+c.service.app)
	})
	return err
}
