"""Run Command of Systems Manager, as people and scripts use it."""

from harness import MANAGEMENT, SimulatorTest, instance_id

FIRST, SECOND, STOPPED, UNMANAGED, FAILING = (instance_id(n) for n in (1, 2, 20, 3, 4))


class Commands(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        regional = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)["regions"]
        for services in regional.values():
            services["ssm"] = {"documents": ["restart-shop"], "unmanaged": [UNMANAGED], "exit_codes": {FAILING: 5}}
        return world

    def setUp(self):
        super().setUp()
        self.ssm = self.client("ssm")

    def send(self, *instances, **kwargs):
        kwargs = {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["systemctl restart shop"]}} | kwargs
        return self.ssm.send_command(InstanceIds=list(instances), **kwargs)["Command"]

    def status(self, command):
        return [c["Status"] for c in self.ssm.list_commands(CommandId=command)["Commands"]]

    def test_a_command_succeeds(self):
        sent = self.send(FIRST, SECOND, Comment="by hand", TimeoutSeconds=90)
        self.assertEqual(("Pending", "by hand", 90, 2), tuple(sent[k] for k in ("Status", "Comment", "TimeoutSeconds", "TargetCount")))
        self.eventually(["Success"], lambda: self.status(sent["CommandId"]))
        [found] = self.ssm.list_command_invocations(CommandId=sent["CommandId"], InstanceId=SECOND, Details=True)["CommandInvocations"]
        self.assertEqual((SECOND, "Success", 0), (found["InstanceId"], found["Status"], found["CommandPlugins"][0]["ResponseCode"]))
        self.assertEqual([], self.ssm.list_command_invocations(CommandId=sent["CommandId"])["CommandInvocations"][0]["CommandPlugins"])

    def test_a_command_fails(self):
        sent = self.send(FAILING)
        self.eventually(["Failed"], lambda: self.status(sent["CommandId"]))
        got = self.ssm.get_command_invocation(CommandId=sent["CommandId"], InstanceId=FAILING)
        self.assertEqual(("Failed", 5), (got["Status"], got["ResponseCode"]))
        script = self.send(FIRST, Parameters={"commands": ["exit 3"]})
        self.eventually(["Failed"], lambda: self.status(script["CommandId"]))

    def test_a_document_of_the_account(self):
        sent = self.send(SECOND, DocumentName="restart-shop", Parameters={})
        self.eventually(["Success"], lambda: self.status(sent["CommandId"]))

    def test_pages_and_filters(self):
        instance = instance_id(5)
        sent = {self.send(instance)["CommandId"] for _ in range(5)}
        listed = lambda: {c["CommandId"] for c in self.ssm.list_commands(InstanceId=instance)["Commands"]}
        self.eventually(sent, listed)
        for size in range(1, 7):
            found = self.pages(self.ssm.list_commands, "Commands", "MaxResults", ("NextToken", "NextToken"), size, InstanceId=instance)
            self.assertEqual(sorted(sent), sorted(c["CommandId"] for c in found))
        recent = [{"key": "InvokedAfter", "value": "2020-01-01T00:00:00Z"}]
        self.assertEqual(5, len(self.ssm.list_commands(InstanceId=instance, Filters=recent)["Commands"]))
        later = [{"key": "InvokedAfter", "value": "2999-01-01T00:00:00Z"}]
        self.assertEqual([], self.ssm.list_commands(InstanceId=instance, Filters=later)["Commands"])

    def test_refusals(self):
        for code, kwargs in [
            ("InvalidInstanceId", {"InstanceIds": [STOPPED]}),
            ("InvalidInstanceId", {"InstanceIds": [UNMANAGED]}),
            ("InvalidInstanceId", {"InstanceIds": ["i-00000000000000bad"]}),
            ("DuplicateInstanceId", {"InstanceIds": [FIRST, FIRST]}),
            ("InvalidDocument", {"DocumentName": "restart-nothing"}),
            ("InvalidParameters", {"Parameters": {}}),
            ("ValidationException", {"InstanceIds": []}),
        ]:
            with self.subTest(code):
                lawful = {"InstanceIds": [FIRST], "DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["true"]}}
                self.refused(code, self.ssm.send_command, **(lawful | kwargs))
        self.refused("InvalidFilterKey", self.ssm.list_commands, Filters=[{"key": "Colour", "value": "red"}])
        self.refused("InvalidNextToken", self.ssm.list_commands, NextToken="nonsense")
        self.refused("InvocationDoesNotExist", self.ssm.get_command_invocation,
                     CommandId="00000000-0000-4000-8000-000000000000", InstanceId=FIRST)

    def test_the_command_line(self):
        sent = self.cli("ssm", "send-command", "--document-name", "AWS-RunShellScript", "--instance-ids", FIRST,
                        "--timeout-seconds", "600", "--comment", "imdsctl 0123456789abcdef",
                        "--parameters", '{"commands":["systemctl restart shop"]}')["Command"]["CommandId"]
        self.eventually("Success", lambda: (self.cli(
            "ssm", "list-commands", "--command-id", sent, "--query", "Commands[].Status") or [""])[0])
        self.cli("ssm", "wait", "command-executed", "--command-id", sent, "--instance-id", FIRST)
