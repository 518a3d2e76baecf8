package roles

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// CloudFormation writes a template that is the same for every account and partition, to be deployed as a StackSet from
// one region; or one for the management account alone. What differs comes in as parameters; what the options know is
// their default.
func CloudFormation(roles []Role, o Options) string {
	w := &text{}
	if forManagement(roles, o) {
		w.line(0, "# Made by `imdsctl roles` for the account that manages the organization, which StackSets leave out, and for no other:")
		w.line(0, "# deploy it there as a stack, in one region, because IAM roles are global.")
	} else {
		w.line(0, "# Made by `imdsctl roles`. Deploy it as a StackSet to every account imdsctl looks after, in one region:")
		w.line(0, "# IAM roles are global. The write role can be left out, or added later by an update of the stack set.")
	}
	w.line(0, `AWSTemplateFormatVersion: "2010-09-09"`)
	w.line(0, "Description: Roles with which imdsctl reads and changes instance metadata settings")
	w.line(0, "Parameters:")
	cfnParameters(w, roles, o)
	w.line(0, "Conditions:")
	w.line(1, `HasExternalId: !Not [!Equals [!Ref ExternalId, ""]]`)
	if has(roles, Write) {
		w.line(1, `WithWriteRole: !Equals [!Ref CreateWriteRole, "yes"]`)
	}
	w.line(0, "Resources:")
	for _, r := range roles {
		cfnRole(w, r, o)
	}
	w.line(0, "Outputs:")
	for _, r := range roles {
		id := logicalID(r)
		w.line(1, "%sArn:", id)
		if r.Access == Write {
			w.line(2, "Condition: WithWriteRole")
		}
		w.line(2, "Value: !GetAtt %s.Arn", id)
	}
	return w.String()
}

func cfnParameters(w *text, roles []Role, o Options) {
	w.line(1, "TrustedPrincipal:")
	w.line(2, "Type: String")
	w.line(2, "Description: Who may assume the roles, an account id or the ARN of a role or user")
	if o.Principal != "" {
		w.line(2, "Default: %q", o.Principal)
	}
	w.line(2, "AllowedPattern: ^([0-9]{12}|arn:aws[a-z-]*:iam::[0-9]{12}:.+)$")
	w.line(1, "ExternalId:")
	w.line(2, "Type: String")
	w.line(2, "Description: The external id that imdsctl.yaml names (organization.role.external_id), empty for none")
	w.line(2, "Default: %q", o.ExternalID)
	if has(roles, Write) {
		w.line(1, "CreateWriteRole:")
		w.line(2, "Type: String")
		w.line(2, "Description: Whether the role that may change settings is made")
		w.line(2, `AllowedValues: ["yes", "no"]`)
		w.line(2, `Default: "yes"`)
	}
	for _, r := range roles {
		w.line(1, "%sName:", logicalID(r))
		w.line(2, "Type: String")
		w.line(2, "Default: %s", r.Name)
	}
}

func cfnRole(w *text, r Role, o Options) {
	w.line(1, "%s:", logicalID(r))
	w.line(2, "Type: AWS::IAM::Role")
	if r.Access == Write {
		w.line(2, "Condition: WithWriteRole")
	}
	w.line(2, "Properties:")
	w.line(3, "RoleName: !Ref %sName", logicalID(r))
	w.line(3, "Path: %s", r.Path)
	w.line(3, "Description: %q", r.Description)
	w.line(3, "MaxSessionDuration: %d", seconds(o))
	w.line(3, "AssumeRolePolicyDocument:")
	w.line(4, `Version: "%s"`, policyVersion)
	w.line(4, "Statement:")
	w.line(5, "- Effect: Allow")
	w.line(6, "Principal:")
	w.line(7, "AWS: !Ref TrustedPrincipal")
	w.line(6, "Action: sts:AssumeRole")
	w.line(6, "Condition: !If")
	w.line(7, "- HasExternalId")
	w.line(7, "- StringEquals:")
	w.line(9, "sts:ExternalId: !Ref ExternalId")
	w.line(7, "- !Ref AWS::NoValue")
	w.line(3, "Policies:")
	w.line(4, "- PolicyName: imdsctl")
	w.line(5, "PolicyDocument:")
	w.line(6, `Version: "%s"`, policyVersion)
	w.line(6, "Statement:")
	for _, s := range r.Statements {
		cfnStatement(w, s)
	}
}

func cfnStatement(w *text, s Statement) {
	w.line(7, "- Sid: %s", s.Sid)
	w.line(8, "Effect: Allow")
	w.line(8, "Action:")
	for _, a := range s.Actions {
		w.line(9, "- %s", a)
	}
	w.line(8, "Resource:")
	for _, r := range s.Resources {
		w.line(9, "- %s", cfnValue(r))
	}
	if len(s.Conditions) == 0 {
		return
	}
	w.line(8, "Condition:")
	for _, c := range s.Conditions {
		w.line(9, "%s:", c.Operator)
		w.line(10, "%s:", c.Key)
		for _, v := range c.Values {
			w.line(11, "- %s", cfnValue(v))
		}
	}
}

func cfnValue(pattern string) string {
	if !strings.Contains(pattern, "{") {
		return fmt.Sprintf("%q", pattern)
	}
	return fmt.Sprintf("!Sub %q", fill(pattern, "${AWS::Partition}", "${AWS::AccountId}"))
}

func logicalID(r Role) string { return camel(string(r.Access)) + "Role" }

func has(roles []Role, a Access) bool {
	return slices.ContainsFunc(roles, func(r Role) bool { return r.Access == a })
}

// forManagement tells whether roles belong into the account that manages the organization, and nowhere else.
func forManagement(roles []Role, o Options) bool { return o.Management || has(roles, Organization) }

func seconds(o Options) int {
	if o.MaxSession == 0 {
		return int(time.Hour / time.Second)
	}
	return int(o.MaxSession / time.Second)
}

// text is written line by line, two spaces a level.
type text struct{ strings.Builder }

func (t *text) line(level int, format string, args ...any) {
	t.WriteString(strings.Repeat("  ", level))
	fmt.Fprintf(t, format, args...)
	t.WriteByte('\n')
}
