package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/roles"
)

type rolesOptions struct {
	read, write, organization, management             bool
	principal, externalID, partition, account         string
	readName, writeName, organizationName, outputFile string
	cloudtrail                                        []string
}

func (s *session) rolesCommand() *cobra.Command {
	var o rolesOptions
	cmd := &cobra.Command{
		Use: "roles", Short: "Print the IAM roles, least privilege, for CloudFormation, Terraform or as JSON",
		GroupID: groupSetup,
		Args:    cobra.NoArgs,
		Long: `Prints the roles that imdsctl works with, made of what it really calls: one to read (scan, why, doctor),
one to write (apply), and one for the management account to list the accounts. With --management, the first two are those
of the account that manages the organization, whose policies only they read and write. Names, external id and the length
of sessions come from imdsctl.yaml where flags do not say them. Nothing is created.`,
		Example: `  imdsctl roles --principal 111122223333 > roles.yaml     # a StackSet template, both roles
  imdsctl roles --management --principal 111122223333     # the management account's, which StackSets leave out
  imdsctl roles --format terraform --read > read.tf
  imdsctl roles --organization --format json --principal 111122223333`,
		Annotations: formats("cloudformation terraform json"),
		RunE:        func(*cobra.Command, []string) error { return s.roles(o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.read, "read", false, "the role that reads; both of these if neither is given")
	f.BoolVar(&o.write, "write", false, "the role that writes")
	f.BoolVar(&o.organization, "organization", false, "the role that lists accounts, for the management account")
	f.BoolVar(&o.management, "management", false,
		"the roles of the account that manages the organization: they also reach the organization's policies")
	f.StringSliceVar(&o.cloudtrail, "cloudtrail", nil,
		"let the role that reads read CloudTrail as well: `lookup`, for LookupEvents, or s3://bucket/prefix of log files")
	f.StringVar(&o.principal, "principal", "", "who may assume them: an account `id`, or the ARN of a role")
	f.StringVar(&o.externalID, "external-id", "", "the external id asked for; organization.role.external_id if not given")
	f.StringVar(&o.partition, "partition", "aws", "aws, aws-cn or aws-us-gov, for JSON (the others find it out)")
	f.StringVar(&o.account, "account", "", "the account `id` in the ARNs of JSON; any if not given")
	f.StringVar(&o.readName, "read-name", "", "name of the read role; organization.role.read if not given")
	f.StringVar(&o.writeName, "write-name", "", "name of the write role; organization.role.write if not given")
	f.StringVar(&o.organizationName, "organization-name", "", "name of the organization role")
	f.StringVarP(&o.outputFile, "out", "o", "", "write to this `file` instead of standard output")
	return cmd
}

func (s *session) roles(o rolesOptions) error {
	config, err := s.settings()
	if err != nil {
		return err
	}
	partition := fleet.Partition(o.partition)
	if partition != fleet.PartitionAWS && partition != fleet.PartitionChina && partition != fleet.PartitionGov {
		return misuse("--partition", "Give aws, aws-cn or aws-us-gov.", "%q is no partition", o.partition)
	}
	if o.account != "" && !fleet.AccountID(o.account).Valid() {
		return misuse("--account", "Give twelve digits.", "%q is no account id", o.account)
	}
	trail, err := app.TrailActions(o.cloudtrail)
	if err != nil {
		return misuse("--cloudtrail", "", "%v", err)
	}
	role := config.Organization.Role
	options := roles.Options{
		Principal: o.principal, ExternalID: first(o.externalID,
			role.ExternalID), Partition: partition, MaxSession: role.Duration,
		FollowUps: app.FollowUpActions(config), Owners: app.OwnerActions(config), Trail: trail, Management: o.management,
		Names: map[roles.Access]string{
			roles.Read:         first(o.readName, roles.NameOf(role.Read)),
			roles.Write:        first(o.writeName, roles.NameOf(role.Write)),
			roles.Organization: first(o.organizationName, roles.NameOf(config.Organization.ManagementRole)),
		},
	}
	var access []roles.Access
	if o.read || !o.write && !o.organization {
		access = append(access, roles.Read)
	}
	if o.write || !o.read && !o.organization {
		access = append(access, roles.Write)
	}
	if o.organization {
		access = append(access, roles.Organization)
	}
	list, err := roles.Build(app.Kinds(), options, access...)
	if err != nil {
		return usageError{err}
	}
	return s.printRoles(list, options, o)
}

func (s *session) printRoles(list []roles.Role, options roles.Options, o rolesOptions) (err error) {
	out := s.env.Out
	if o.outputFile != "" {
		f, err := os.Create(o.outputFile)
		if err != nil {
			return fmt.Errorf("write the roles: %w", err)
		}
		defer func() {
			if closing := f.Close(); err == nil {
				err = closing
			}
		}()
		out = f
	}
	switch s.format {
	case "terraform":
		_, err = fmt.Fprint(out, roles.Terraform(list, options))
	case "json":
		var d roles.Document
		if d, err = roles.JSON(list, options, fleet.AccountID(o.account)); err != nil {
			return usageError{err}
		}
		err = writeJSON(out, d)
	default:
		_, err = fmt.Fprint(out, roles.CloudFormation(list, options))
	}
	return err
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
