"""SageMaker notebook instances, as people and scripts use them."""

from harness import MANAGEMENT, REGION, SimulatorTest


class Notebooks(SimulatorTest):
    @classmethod
    def seed(cls):
        world = super().seed()
        regional = next(a for a in world["accounts"] if a["id"] == MANAGEMENT)["regions"]
        regional[REGION]["sagemaker"] = {"notebook_instances": [
            *({"name": f"lab-{n}", "minimum_version": "1", "tags": {"team": "science", "n": str(n)}} for n in range(1, 12)),
            {"name": "old", "status": "Stopped"},
            {"name": "broken", "status": "Failed", "minimum_version": "2"},
        ]}
        return world

    def setUp(self):
        super().setUp()
        self.sagemaker = self.client("sagemaker")

    def status(self, name):
        got = self.sagemaker.describe_notebook_instance(NotebookInstanceName=name)
        minimum = got.get("InstanceMetadataServiceConfiguration", {}).get("MinimumInstanceMetadataServiceVersion")
        return got["NotebookInstanceStatus"], minimum

    def update(self, name, version):
        self.sagemaker.update_notebook_instance(NotebookInstanceName=name, InstanceMetadataServiceConfiguration={
            "MinimumInstanceMetadataServiceVersion": version})

    def test_pages_and_filters(self):
        everything = sorted(["old", "broken", *(f"lab-{n}" for n in range(1, 12))])
        for size in (5, 13, 100):
            found = self.pages(self.sagemaker.list_notebook_instances, "NotebookInstances", "MaxResults", ("NextToken", "NextToken"), size)
            self.assertEqual(everything, [n["NotebookInstanceName"] for n in found])
        self.assertEqual(10, len(self.sagemaker.list_notebook_instances()["NotebookInstances"]))
        failed = self.sagemaker.list_notebook_instances(StatusEquals="Failed")["NotebookInstances"]
        self.assertEqual(["broken"], [n["NotebookInstanceName"] for n in failed])
        last = self.sagemaker.list_notebook_instances(SortOrder="Descending", MaxResults=1)["NotebookInstances"]
        self.assertEqual(["old"], [n["NotebookInstanceName"] for n in last])
        self.refused("ValidationException", self.sagemaker.list_notebook_instances, NextToken="nonsense")

    def test_one(self):
        self.assertEqual(("Stopped", None), self.status("old"))
        self.assertEqual(("Failed", "2"), self.status("broken"))
        message = self.refused("ValidationException", self.sagemaker.describe_notebook_instance, NotebookInstanceName="never-was")
        self.assertEqual("RecordNotFound", message)
        arn = self.sagemaker.describe_notebook_instance(NotebookInstanceName="lab-1")["NotebookInstanceArn"]
        self.assertEqual([{"Key": "n", "Value": "1"}, {"Key": "team", "Value": "science"}],
                         self.sagemaker.list_tags(ResourceArn=arn)["Tags"])
        self.refused("ResourceNotFound", self.sagemaker.list_tags, ResourceArn=arn + "0000")
        self.problems.clear()  # the model lists no errors for ListTags; the reference does

    def test_stop_update_start(self):
        self.assertIn("not in ([Stopped])", self.refused("ValidationException", self.update, "lab-2", "2"))
        self.sagemaker.stop_notebook_instance(NotebookInstanceName="lab-2")
        self.eventually(("Stopped", "1"), lambda: self.status("lab-2"))
        self.refused("ValidationException", self.sagemaker.stop_notebook_instance, NotebookInstanceName="lab-2")
        self.update("lab-2", "2")
        self.eventually(("Stopped", "2"), lambda: self.status("lab-2"))
        self.sagemaker.start_notebook_instance(NotebookInstanceName="lab-2")
        self.eventually(("InService", "2"), lambda: self.status("lab-2"))

    def test_cli(self):
        """The commands that a plan shows, waits included."""
        name = ("--notebook-instance-name", "lab-3")
        wait = lambda end: self.cli("sagemaker", "wait", "--region", REGION, end, *name)
        self.cli("sagemaker", "stop-notebook-instance", "--region", REGION, *name)
        self.eventually(("Stopped", "1"), lambda: self.status("lab-3"))  # a wait looks every half a minute
        wait("notebook-instance-stopped")
        self.cli("sagemaker", "update-notebook-instance", "--region", REGION, *name,
                 "--instance-metadata-service-configuration", "MinimumInstanceMetadataServiceVersion=2")
        self.eventually(("Stopped", "2"), lambda: self.status("lab-3"))  # a wait that reads too early sees it stopped still
        wait("notebook-instance-stopped")
        self.cli("sagemaker", "start-notebook-instance", "--region", REGION, *name)
        self.eventually(("InService", "2"), lambda: self.status("lab-3"))
        wait("notebook-instance-in-service")
