package product

import (
	"slices"
	"strings"
	"testing"
)

// Addresses of where the user agents below are recorded. Those without one are samples of events, logs and tests in public
// repositories, or follow the format that the SDK documents.
const (
	// The user agents of the public data set of flaws.cloud, counted in the documentation of a tool that reads it:
	// https://summitroute.com/blog/2020/10/09/public_dataset_of_cloudtrail_logs_from_flaws_cloud/
	flaws = "https://github.com/Yamato-Security/suzaku"
	// Sample events in the documentation of AWS's services.
	connect   = "https://docs.aws.amazon.com/connect/latest/adminguide/logging-using-cloudtrail.html"
	xray      = "https://docs.aws.amazon.com/xray/latest/devguide/xray-api-cloudtrail.html"
	transcode = "https://docs.aws.amazon.com/elastictranscoder/latest/developerguide/logging_using_cloudtrail.html"
	support   = "https://docs.aws.amazon.com/awssupport/latest/user/logging-using-cloudtrail.html"
	// Tests and comments of projects that read CloudTrail.
	panther  = "https://github.com/panther-labs/panther-analysis"
	tailpipe = "https://github.com/turbot/tailpipe-mod-aws-cloudtrail-log-detections"
	grimoire = "https://github.com/DataDog/grimoire"
	// What a tracer sees at the metadata service itself.
	imds = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html"
)

func TestParseAgent(t *testing.T) {
	for _, tt := range []struct{ source, agent, want, decides string }{
		{flaws, "Boto3/1.9.201 Python/2.7.12 Linux/4.4.0-159-generic Botocore/1.12.201", "boto3 1.9.201, botocore 1.12.201", "botocore old"},
		{flaws, "[Boto3/1.15.13 Python/3.8.5 Darwin/19.6.0 Botocore/1.18.13 Resource]", "boto3 1.15.13, botocore 1.18.13", "botocore speaks-v2"},
		{flaws, "[aws-cli/1.16.301 Python/3.7.6 Linux/5.4.0-kali3-amd64 botocore/1.13.37]", "aws-cli 1.16.301, botocore 1.13.37", "botocore speaks-v2"},
		{"", "aws-cli/1.16.280 Python/2.7.16 Linux/4.14.146-120.181.amzn2.x86_64 botocore/1.13.16", "aws-cli 1.16.280, botocore 1.13.16", "botocore old"},
		{flaws, "AWSPowerShell/3.3.365.0 .NET_Runtime/4.0 .NET_Framework/4.0 OS/Microsoft_Windows_NT_10.0.01985.0 WindowsPowerShell/5.0 ClientSync",
			"aws-tools-powershell 3.3.365.0", "aws-tools-powershell old"},
		{flaws, "aws-sdk-java/1.11.301 Linux/4.9.93-linuxkit-aufs Java_HotSpot(TM)_64-Bit_Server_VM/25.172-b11 java/1.8.0_172",
			"aws-sdk-java-v1 1.11.301", "aws-sdk-java-v1 old"},
		{connect, "aws-sdk-java/1.11.590 Mac_OS_X/10.14.6 Java_HotSpot(TM)_64-Bit_Server_VM/25.202-b08 java/1.8.0_202 vendor/Oracle_Corporation",
			"aws-sdk-java-v1 1.11.590", "aws-sdk-java-v1 old"},
		{"", "aws-sdk-java/2.0.0-preview-9 Linux/4.14.47 OpenJDK_64-Bit_Server_VM/25.171-b10", "aws-sdk-java-v2 2.0.0-preview-9", "aws-sdk-java-v2 old"},
		{"", "aws-sdk-java/2.20.162 Linux/5.15.0 OpenJDK_64-Bit_Server_VM/17.0.8 Java/17.0.8 vendor/Amazon.com_Inc. io/sync http/Apache cfg/retry-mode/legacy",
			"aws-sdk-java-v2 2.20.162", "aws-sdk-java-v2 speaks-v2"},
		{"", "aws-sdk-java/2.30.3 md/io#sync md/http#Apache ua/2.1 api/S3#2.30.x os/Linux#5.10 lang/java#17.0.8 md/OpenJDK_64-Bit_Server_VM#17.0.8 m/D,N",
			"aws-sdk-java-v2 2.30.3", "aws-sdk-java-v2 speaks-v2"},
		{panther, "[S3Console/0.4, aws-internal/3 aws-sdk-java/1.11.590 Linux/4.9.152-0.1.ac.221.79.329.metal1.x86_64 " +
			"OpenJDK_64-Bit_Server_VM/25.212-b03 java/1.8.0_212 vendor/Oracle_Corporation]",
			"aws-service 0.4, aws-service 3, aws-sdk-java-v1 1.11.590", "aws-service unclear"},
		{panther, "[S3Console/0.4]", "aws-service 0.4", "aws-service unclear"},
		{panther, "aws-sdk-nodejs/2.585.0 linux/v12.14.1 exec-env/AWS_Lambda_nodejs12.x promise", "aws-sdk-js-v2 2.585.0", "aws-sdk-js-v2 old"},
		{support, "aws-sdk-nodejs/2.1363.0 linux/v16.20.2 exec-env/AWS_ECS_FARGATE promise", "aws-sdk-js-v2 2.1363.0", "aws-sdk-js-v2 speaks-v2"},
		{"", "aws-sdk-nodejs/2.1586.0 linux/v20.15.1 aws-cdk/2.135.0 promise", "aws-cdk 2.135.0, aws-sdk-js-v2 2.1586.0", "aws-sdk-js-v2 speaks-v2"},
		{"", "aws-sdk-js/3.398.0 ua/2.0 os/linux#5.10.0 lang/js md/nodejs#18.17.1 api/s3#3.398.0 exec-env/AWS_ECS_EC2 app/billing",
			"aws-sdk-js-v3 3.398.0", "aws-sdk-js-v3 speaks-v2"},
		{tailpipe, "APN/1.0 HashiCorp/1.0 Terraform/0.15.5 (+https://www.terraform.io) terraform-provider-aws/3.75.0 " +
			"(+https://registry.terraform.io/providers/hashicorp/aws) aws-sdk-go/1.43.17 (go1.16; linux; amd64) exec-env/AWS_ECS_EC2",
			"terraform 0.15.5, terraform-provider-aws 3.75.0, aws-sdk-go-v1 1.43.17", "aws-sdk-go-v1 speaks-v2"},
		{"", "APN/1.0 HashiCorp/1.0 Terraform/1.0.11 (+https://www.terraform.io) terraform-provider-aws/dev " +
			"(+https://registry.terraform.io/providers/hashicorp/aws) aws-sdk-go/1.43.9 (go1.18.7; linux; amd64) HashiCorp-terraform-exec/0.16.1",
			"terraform 1.0.11, terraform-provider-aws, aws-sdk-go-v1 1.43.9", "aws-sdk-go-v1 speaks-v2"},
		{"", "aws-sdk-go/1.20.4 (go1.12.5; darwin; amd64) APN/1.0 HashiCorp/1.0 Terraform/0.12.2", "terraform 0.12.2, aws-sdk-go-v1 1.20.4", "aws-sdk-go-v1 old"},
		{"", "aws-sdk-go/1.25.1 (go1.13; linux; amd64) amazon-ssm-agent/2.3.714.0", "amazon-ssm-agent 2.3.714.0, aws-sdk-go-v1 1.25.1", "amazon-ssm-agent old"},
		{"", "aws-sdk-go/1.41.4 (go1.17.6; darwin; amd64) amazon-ssm-agent/3.1.0.0", "amazon-ssm-agent 3.1.0.0, aws-sdk-go-v1 1.41.4",
			"amazon-ssm-agent speaks-v2"},
		{"", "aws-sdk-go/1.26.0 (go1.13; linux; amd64) amazon-ssm-agent/2.3.1319.0", "amazon-ssm-agent 2.3.1319.0, aws-sdk-go-v1 1.26.0",
			"amazon-ssm-agent able"},
		{grimoire, "aws-sdk-go-v2/1.32.3 os/linux lang/go#1.23.1 md/GOOS#linux md/GOARCH#amd64 exec-env/grimoire_095724e3 api/sts#1.26.2",
			"aws-sdk-go-v2 1.32.3", "aws-sdk-go-v2 speaks-v2"},
		{"", "aws-sdk-go-v2/1.14.0 os/macos lang/go/1.17.6 md/GOOS/darwin md/GOARCH/arm64 api/iam/1.17.0", "aws-sdk-go-v2 1.14.0", "aws-sdk-go-v2 speaks-v2"},
		{"", "aws-sdk-go/0.18.0 (go1.13; linux; amd64)", "aws-sdk-go-v2 0.18.0", "aws-sdk-go-v2 old"},
		{"", "aws-sdk-go/2.0.0-preview.4 (go1.11; linux; amd64)", "aws-sdk-go-v2 2.0.0-preview.4", "aws-sdk-go-v2 old"},
		{xray, "aws-sdk-ruby3/3.190.0 md/internal ua/2.0 api/xray#1.0.0 os/linux md/x86_64 lang/ruby#2.7.8 md/2.7.8 cfg/retry-mode#legacy",
			"aws-sdk-ruby 3.190.0", "aws-sdk-ruby speaks-v2"},
		{"", "aws-sdk-ruby3/3.75.0 jruby/2.3.3 java aws-sdk-elasticloadbalancing/1.19.0 cloudhealth", "aws-sdk-ruby 3.75.0", "aws-sdk-ruby old"},
		{"", "aws-sdk-ruby2/2.0.0.rc4 ruby/1.9.3 x86_64-linux Seahorse/0.1.0", "aws-sdk-ruby 2.0.0.rc4", "aws-sdk-ruby old"},
		{transcode, "aws-sdk-ruby/1.39.0 ruby/1.9.3 x86_64-linux", "aws-sdk-ruby-v1 1.39.0", "aws-sdk-ruby-v1 unclear"},
		{"", "aws-sdk-php/3.137.1 GuzzleHttp/6.5.2 curl/7.64.0 PHP/7.2.24", "aws-sdk-php 3.137.1", "aws-sdk-php old"},
		{"", "aws-sdk-php/3.283.1 ua/2.0 OS/Linux/5.10 lang/php/8.1.2 GuzzleHttp/7", "aws-sdk-php 3.283.1", "aws-sdk-php speaks-v2"},
		{"", "aws-sdk-dotnet-coreclr/3.3.10.3 aws-sdk-dotnet-core/3.3.24.3 .NET_Core/4.6.26628.05 OS/Darwin_17.7.0",
			"aws-sdk-dotnet-service 3.3.10.3, aws-sdk-dotnet 3.3.24.3", "aws-sdk-dotnet old"},
		{"", "aws-sdk-dotnet-coreclr/3.7.305.28 ua/2.0 os/windows#10.0.22631.0 md/ARCH#X64 lang/.NET_Core#8.0.2 " +
			"md/aws-sdk-dotnet-core#3.7.302.12 api/S3#3.7.305.28 cfg/retry-mode#legacy",
			"aws-sdk-dotnet-service 3.7.305.28, aws-sdk-dotnet 3.7.302.12", "aws-sdk-dotnet speaks-v2"},
		{"", "aws-sdk-cpp/1.11.493 ua/2.1 api/S3 os/Darwin#23.6.0 lang/c++#C++11 md/aws-crt#0.19.7 md/arch#arm64 md/Clang#15.0.0 m/D",
			"aws-sdk-cpp 1.11.493, aws-crt 0.19.7", "aws-sdk-cpp speaks-v2"},
		{"", "aws-sdk-cpp/1.7.193 Linux/4.14 x86_64 GCC/7.3.1", "aws-sdk-cpp 1.7.193", "aws-sdk-cpp old"},
		{"", "aws-sdk-rust/1.3.11 ua/2.1 api/dynamodb/1.104.0 os/linux lang/rust/1.93.0 exec-env/AWS_ECS", "aws-sdk-rust 1.3.11", "aws-sdk-rust speaks-v2"},
		{"", "aws-sdk-kotlin/1.3.81 ua/2.1 api/cognito-identity-provider#1.3.81 os/android#14", "aws-sdk-kotlin 1.3.81", "aws-sdk-kotlin speaks-v2"},
		{"", "aws-sdk-swift/1.5.86 ua/2.1 api/cognito_identity_provider#1.5.86 os/ios#26.3.1 lang/swift#5.10 m/D,N,Z,b", "aws-sdk-swift 1.5.86",
			"aws-sdk-swift unclear"},
		{"", "Boto3/1.35.99 md/Botocore#1.35.99 ua/2.0 os/linux#6.8.0-52-generic md/arch#x86_64 lang/python#3.12.3 md/pyimpl#CPython " +
			"cfg/retry-mode#legacy Botocore/1.35.99", "boto3 1.35.99, botocore 1.35.99", "botocore speaks-v2"},
		{"", "aws-cli/1.29.26 md/Botocore#1.31.26 ua/2.0 os/linux#5.15.0-78-generic md/arch#x86_64 lang/python#3.10.12 md/pyimpl#CPython " +
			"cfg/retry-mode#legacy botocore/1.31.26", "aws-cli 1.29.26, botocore 1.31.26", "botocore speaks-v2"},
		{"", "[aws-cli/2.12.0 Python/3.11.4 Linux/6.3.0-kali1-cloud-amd64 source/x86_64.kali.2023 prompt/off command/s3.cp]", "aws-cli 2.12.0",
			"aws-cli speaks-v2"},
		{"", "aws-cli/2.22.12 md/awscrt#0.22.0 ua/2.0 os/linux#5.10 md/arch#x86_64 lang/python#3.12.6 md/pyimpl#CPython cfg/retry-mode#standard " +
			"md/installer#exe md/prompt#off md/command#ec2.describe-instances", "aws-cli 2.22.12, aws-crt 0.22.0", "aws-cli speaks-v2"},
		{"", "aws-cli/2.0.30 Python/3.7.7 Windows/10 botocore/2.0.0dev34", "aws-cli 2.0.30, botocore 2.0.0dev34", "botocore speaks-v2"},
		{"", "Boto/2.49.0 Python/2.7.5 Linux/3.10.0-1062.el7.x86_64", "boto 2.49.0", "boto no-fixed-version"},
		{"", "autoscaling.amazonaws.com", "aws-service", "aws-service unclear"},
		{"", "AWS Internal", "aws-service", "aws-service unclear"},
		{"", "lambda.amazonaws.com.cn", "aws-service", "aws-service unclear"},
		{"", "Hadoop 3.2.1, aws-sdk-java/1.11.375 Linux/4.14 OpenJDK_64-Bit_Server_VM/25.242-b08 java/1.8.0_242", "hadoop-aws, aws-sdk-java-v1 1.11.375",
			"aws-sdk-java-v1 old"},
		{"", "aws-sdk-java/unknown-version", "aws-sdk-java-v1", "aws-sdk-java-v1 unclear"},
		{"", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/118.0.0.0 Safari/537.36", "", ""},
		{"", "", "", ""},
		{imds, "curl/7.88.1", "curl 7.88.1", "curl unclear"},
		{imds, "Wget/1.21.2", "wget 1.21.2", "wget unclear"},
		{imds, "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.14393.5066", "windows-powershell 5.1.14393.5066",
			"windows-powershell unclear"},
		{imds, "python-requests/2.31.0", "python-requests 2.31.0", "python-requests unclear"},
		{imds, "Python-urllib/3.9", "python-urllib 3.9", "python-urllib unclear"},
		{imds, "Go-http-client/1.1", "go-http-client 1.1", "go-http-client unclear"},
		{imds, "Java/1.8.0_362", "java-http-client 1.8.0_362", "java-http-client unclear"},
		{imds, "Ruby", "ruby-http-client", "ruby-http-client unclear"},
		{imds, "Cloud-Init/19.3-46.amzn2.0.2", "cloud-init 19.3-46.amzn2.0.2", "cloud-init old"},
		{imds, "Cloud-Init/22.2.2", "cloud-init 22.2.2", "cloud-init speaks-v2"},
		{imds, "kube2iam", "kube2iam", "kube2iam unclear"},
		{imds, "aws-sdk-java/1.12.261 Linux/5.10.184-175.731.amzn2.x86_64 OpenJDK_64-Bit_Server_VM/17.0.7 java/17.0.7", "aws-sdk-java-v1 1.12.261",
			"aws-sdk-java-v1 speaks-v2"},
	} {
		mentions := Default().ParseAgent(tt.agent)
		var got []string
		for _, m := range mentions {
			got = append(got, strings.TrimSpace(string(m.Product)+" "+m.Version))
			if !strings.Contains(tt.agent, m.Token) {
				t.Errorf("%q does not hold the token %q", tt.agent, m.Token)
			}
		}
		if strings.Join(got, ", ") != tt.want {
			t.Errorf("%q mentions %q, want %q", tt.agent, strings.Join(got, ", "), tt.want)
		}
		decides := ""
		if m, v, ok := Default().JudgeAgent(mentions); ok {
			decides = string(m.Product) + " " + string(v.Judgement)
		}
		if decides != tt.decides {
			t.Errorf("%q is decided by %q, want %q", tt.agent, decides, tt.decides)
		}
	}
}

func TestAWordIsReadToItsEnd(t *testing.T) {
	got := Default().ParseAgent("aws-sdk-java/1.11.1025Linux/4.14.232-176.381.amzn2.x86_64OpenJDK_64-Bit_Server_VM/11.0.10+9java/11.0.10")
	if len(got) != 1 || got[0].Version != "1.11.1025" {
		t.Errorf("without spaces, as AWS's documentation prints it: %+v", got)
	}
}

func FuzzParseAgent(f *testing.F) {
	for _, s := range []string{
		"[S3Console/0.4, aws-internal/3 aws-sdk-java/1.11.590 (x (y) z]", "Boto3/1.35.99 md/Botocore#1.35.99", "aws-cli", "md/#", "app//#/", "(((",
		"a/1 a/1 a/2", "AWS Internal",
	} {
		f.Add(s)
	}
	table := Default()
	f.Fuzz(func(t *testing.T, agent string) {
		got := table.ParseAgent(agent)
		if !slices.EqualFunc(got, table.ParseAgent(agent), func(a, b Mention) bool { return a == b }) {
			t.Error("parsed twice, it differs")
		}
		for _, m := range got {
			if _, ok := table.Find(m.Product); !ok {
				t.Errorf("%+v is no product", m)
			}
			if _, ok := parseVersion(m.Version); m.Version != "" && !ok {
				t.Errorf("%+v has no version", m)
			}
		}
		if _, _, ok := table.JudgeAgent(got); !ok && len(got) > 0 {
			t.Errorf("nobody decides among %+v", got)
		}
	})
}

func BenchmarkParseAgent(b *testing.B) {
	table := Default()
	for b.Loop() {
		table.ParseAgent("Boto3/1.9.201 Python/2.7.12 Linux/4.4.0-159-generic Botocore/1.12.201")
	}
}
