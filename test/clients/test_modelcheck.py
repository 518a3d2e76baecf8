"""The check itself: every kind of deviation from a model that it is there for must be found."""

import unittest

import botocore.session

import modelcheck

XML = {"content-type": "text/xml;charset=UTF-8", "x-amzn-requestid": "r"}
JSON = {"content-type": "application/x-amz-json-1.1", "x-amzn-requestid": "r"}
EC2 = '<DescribeRegionsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>{}</DescribeRegionsResponse>'
INSTANCES = '<DescribeInstancesResponse xmlns="http://ec2"><requestId>r</requestId>{}</DescribeInstancesResponse>'
STS = ('<AssumeRoleResponse xmlns="https://sts"><AssumeRoleResult>{}</AssumeRoleResult>'
       "<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleResponse>")


class Modelcheck(unittest.TestCase):
    session = botocore.session.Session()

    def problems(self, service, operation, body, headers=XML, status=200):
        model = self.session.get_service_model(service).operation_model(operation)
        return modelcheck.check(model, status, headers, body.encode())

    def found(self, want, *args, **kwargs):
        problems = self.problems(*args, **kwargs)
        self.assertEqual(1, len(problems), problems)
        self.assertIn(want, problems[0])

    def test_lawful_responses(self):
        region = "<regionInfo><item><regionName>eu-west-1</regionName><regionEndpoint>e</regionEndpoint></item></regionInfo>"
        self.assertEqual([], self.problems("ec2", "DescribeRegions", EC2.format(region)))
        self.assertEqual([], self.problems("organizations", "ListAccounts", '{"Accounts":[{"Id":"111122223333"}]}', JSON))
        self.assertEqual([], self.problems("ec2", "CreateTags", (
            '<CreateTagsResponse xmlns="http://ec2"><requestId>r</requestId><return>true</return></CreateTagsResponse>')))

    def test_ec2(self):
        instance = "<reservationSet><item><instancesSet><item>{}</item></instancesSet></item></reservationSet>"
        for want, inner in [
            ("no element colour", "<colour>red</colour>"),
            ("is not one of", "<instanceState><code>16</code><name>walking</name></instanceState>"),
            ("'many' is no integer", "<amiLaunchIndex>many</amiLaunchIndex>"),
            ("'yes' is no boolean", "<ebsOptimized>yes</ebsOptimized>"),
            ("no timestamp", "<launchTime>2026-01-02 03:04:05</launchTime>"),
            ("the list holds member", "<tagSet><member><key>a</key></member></tagSet>"),
            ("more than once", "<imageId>ami-1</imageId><imageId>ami-2</imageId>"),
            ("elements within a string", "<imageId><id>ami-1</id></imageId>"),
        ]:
            with self.subTest(want):
                self.found(want, "ec2", "DescribeInstances", INSTANCES.format(instance.format(inner)))
        self.found("no requestId", "ec2", "DescribeRegions",
                   '<DescribeRegionsResponse xmlns="http://ec2"></DescribeRegionsResponse>')
        self.found("the root is", "ec2", "DescribeRegions", INSTANCES.format(""))
        self.found("no namespace", "ec2", "DescribeRegions", EC2.format("").replace(' xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"', ""))
        self.found("not text/xml", "ec2", "DescribeRegions", EC2.format(""), JSON)
        self.found("x-amzn-requestid", "ec2", "DescribeRegions", EC2.format(""), {"content-type": "text/xml"})

    def test_rest_json(self):
        plain = {"content-type": "application/json", "x-amzn-requestid": "r"}
        one = '{"computeEnvironments":[{"computeEnvironmentName":"a","computeEnvironmentArn":"b"%s}]}'
        self.assertEqual([], self.problems("batch", "DescribeComputeEnvironments", one % ',"tags":{"a":"b"}', plain))
        for want, more in [
            ("has no member colour", ',"colour":"red"'), ("is not one of", ',"status":"FINE"'), ("is no map", ',"tags":[]'),
        ]:
            with self.subTest(want):
                self.found(want, "batch", "DescribeComputeEnvironments", one % more, plain)
        self.found("is missing", "batch", "DescribeComputeEnvironments", '{"computeEnvironments":[{"computeEnvironmentName":"a"}]}', plain)
        self.found("is not application/json", "batch", "DescribeComputeEnvironments", "{}", JSON)
        self.found("no code", "batch", "DescribeComputeEnvironments", '{"message":"m"}', plain, status=400)
        self.found("not among", "batch", "DescribeComputeEnvironments", '{"message":"m"}', plain | {"x-amzn-errortype": "Odd"}, status=400)
        self.found("no message", "batch", "DescribeComputeEnvironments", "{}", plain | {"x-amzn-errortype": "ClientException"}, status=400)

    def test_query(self):
        keys = "<AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
        self.found("the required Expiration is missing", "sts", "AssumeRole", STS.format(f"<Credentials>{keys}</Credentials>"))
        self.found("want one AssumeRoleResult", "sts", "AssumeRole", STS.format("").replace("AssumeRoleResult", "Result"))
        self.found("ResponseMetadata", "sts", "AssumeRole",
                   '<AssumeRoleResponse xmlns="https://sts"><AssumeRoleResult/></AssumeRoleResponse>')

    def test_json(self):
        for want, body in [
            ("no member Colour", '{"Colour":"red"}'),
            ("is no list", '{"Accounts":{}}'),
            ("is no string", '{"NextToken":5}'),
            ("does not match", '{"Accounts":[{"Id":"12"}]}'),
            ("is not one of", '{"Accounts":[{"Status":"SLEEPY"}]}'),
            ("is no timestamp", '{"Accounts":[{"JoinedTimestamp":"2026-01-02T03:04:05Z"}]}'),
            ("null", '{"NextToken":null}'),
        ]:
            with self.subTest(want):
                self.found(want, "organizations", "ListAccounts", body, JSON)
        self.found("is not JSON's", "organizations", "ListAccounts", "{}", XML)

    def test_errors(self):
        lawful = "<Response><Errors><Error><Code>A</Code><Message>m</Message></Error></Errors><RequestID>r</RequestID></Response>"
        self.assertEqual([], self.problems("ec2", "DescribeRegions", lawful, status=400))
        self.found("not shaped as EC2's", "ec2", "DescribeRegions", lawful.replace("RequestID", "RequestId"), status=400)
        query = ('<ErrorResponse xmlns="https://sts"><Error><Type>Sender</Type><Code>{}</Code><Message>m</Message></Error>'
                 "<RequestId>r</RequestId></ErrorResponse>")
        self.assertEqual([], self.problems("sts", "AssumeRole", query.format("ExpiredTokenException"), status=403))
        self.found("not among the operation's errors", "sts", "AssumeRole", query.format("Moody"), status=403)
        self.found("neither Sender nor Receiver", "sts", "AssumeRole",
                   query.format("AccessDenied").replace("Sender", "Server"), status=403)
        self.found("not among", "organizations", "ListAccounts", '{"__type":"Moody","Message":"m"}', JSON, status=400)
        self.found("no message", "organizations", "ListAccounts", '{"__type":"AccessDeniedException"}', JSON, status=400)
        self.found("an error with status 302", "ec2", "DescribeRegions", lawful, status=302)


if __name__ == "__main__":
    unittest.main()
