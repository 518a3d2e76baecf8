module example.com/sdks/v1-first

go 1.21

require github.com/aws/aws-sdk-go v1.25.38

require github.com/jmespath/go-jmespath v0.0.0-20180206201540-c2b33e8439af // indirect
