module example.com/sdks/v2-first

go 1.21

require github.com/aws/aws-sdk-go-v2 v0.19.0

require (
	github.com/jmespath/go-jmespath v0.0.0-20180206201540-c2b33e8439af // indirect
	golang.org/x/net v0.0.0-20181201002055-351d144fa1fc // indirect
	golang.org/x/text v0.3.0 // indirect
)
