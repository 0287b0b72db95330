package ferry

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/aws-cdk-go/awscdklambdagoalpha/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// functionPackages is where the main packages of the functions are.
const functionPackages = "github.com/s3ferry/s3ferry/functions/"

// buildFlags make the same binary from the same source wherever it lies, so
// that an unchanged function is not deployed again. They are handed over as
// GOFLAGS because CDK warns about flags it is given itself.
const buildFlags = `-trimpath -buildvcs=false -tags=lambda.norpc "-ldflags=-s -w -buildid="`

// batchSize is how many messages an invocation gets at most.
const batchSize = 10

// The bounds that Lambda sets on the concurrency of an event source mapping.
const (
	minConcurrency = 2
	maxConcurrency = 1000
)

type functionProps struct {
	name         string // of its package under functionPackages
	description  string
	role         awsiam.Role
	environment  map[string]string
	timeout      time.Duration
	memoryMiB    int
	architecture awslambda.Architecture
	code         awslambda.Code // built from source if nil
	logRetention awslogs.RetentionDays
	logKey       awskms.IKey // encrypts the logs, unless nil
	network      network
	loops        bool // sends messages to the queue it reads
}

// newFunction makes a function with its own log group, which is all that its
// role gets here.
func newFunction(scope constructs.Construct, id string, p functionProps) awslambda.Function {
	logs := newLogs(scope, id+"Logs", p.logRetention, p.logKey)
	allow(p.role, logs.LogGroupArn(), "logs:CreateLogStream", "logs:PutLogEvents")

	p.network.allow(p.role)

	architecture := p.architecture
	if architecture == nil {
		architecture = awslambda.Architecture_X86_64()
	}
	var loop awslambda.RecursiveLoop // left to Lambda, which breaks loops
	if p.loops {
		loop = awslambda.RecursiveLoop_ALLOW
	}
	if p.code != nil {
		return awslambda.NewFunction(scope, jsii.String(id), &awslambda.FunctionProps{
			Code:          p.code,
			Handler:       jsii.String("bootstrap"),
			Runtime:       awslambda.Runtime_PROVIDED_AL2023(),
			Architecture:  architecture,
			Description:   jsii.String(p.description),
			Environment:   pointers(p.environment),
			LogGroup:      logs,
			LoggingFormat: awslambda.LoggingFormat_JSON,
			MemorySize:    jsii.Number(p.memoryMiB),
			RecursiveLoop: loop,
			Role:          p.role,
			Timeout:       duration(p.timeout),

			Vpc:            p.network.vpc,
			VpcSubnets:     p.network.subnets,
			SecurityGroups: p.network.securityGroups(),
		})
	}
	source, err := findSource(functionPackages + p.name)
	if err != nil {
		panic(fmt.Sprintf("ferry: build %q: %v", *scope.Node().Path(), err))
	}
	return awscdklambdagoalpha.NewGoFunction(scope, jsii.String(id), &awscdklambdagoalpha.GoFunctionProps{
		Entry:         jsii.String(source.Dir),
		ModuleDir:     jsii.String(filepath.Join(source.Module.Dir, "go.mod")),
		Bundling:      &awscdklambdagoalpha.BundlingOptions{Environment: &map[string]*string{"GOFLAGS": jsii.String(buildFlags)}},
		Runtime:       awslambda.Runtime_PROVIDED_AL2023(),
		Architecture:  architecture,
		Description:   jsii.String(p.description),
		Environment:   pointers(p.environment),
		LogGroup:      logs,
		LoggingFormat: awslambda.LoggingFormat_JSON,
		MemorySize:    jsii.Number(p.memoryMiB),
		RecursiveLoop: loop,
		Role:          p.role,
		Timeout:       duration(p.timeout),

		Vpc:            p.network.vpc,
		VpcSubnets:     p.network.subnets,
		SecurityGroups: p.network.securityGroups(),
	})
}

// newLogs makes a log group that goes with its stack. letLog has let CloudWatch
// Logs use key.
func newLogs(scope constructs.Construct, id string, retention awslogs.RetentionDays, key awskms.IKey) awslogs.LogGroup {
	return awslogs.NewLogGroup(scope, jsii.String(id), &awslogs.LogGroupProps{
		Retention:     or(retention, awslogs.RetentionDays_THREE_MONTHS),
		RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
		EncryptionKey: key,
	})
}

// consume lets function work on the messages of queue, each of which it may
// fail on its own.
func consume(scope constructs.Construct, id string, function awslambda.Function, queue awssqs.IQueue, concurrency int) {
	mapping := awslambda.NewCfnEventSourceMapping(scope, jsii.String(id), &awslambda.CfnEventSourceMappingProps{
		FunctionName:          function.FunctionName(),
		EventSourceArn:        queue.QueueArn(),
		BatchSize:             jsii.Number(batchSize),
		FunctionResponseTypes: jsii.Strings("ReportBatchItemFailures"),
		ScalingConfig: &awslambda.CfnEventSourceMapping_ScalingConfigProperty{
			MaximumConcurrency: jsii.Number(concurrency),
		},
	})
	// Deployments in aws-cn fail on a tagged mapping, and a consumer's
	// Tags.of(stack) would tag it.
	mapping.AddPropertyDeletionOverride(jsii.String("Tags"))
}

// consumeActions are what an event source mapping and the function behind it
// need on their queue.
var consumeActions = []string{
	"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes",
}

func newFunctionRole(scope constructs.Construct, id, description string) awsiam.Role {
	return awsiam.NewRole(scope, jsii.String(id), &awsiam.RoleProps{
		AssumedBy:   awsiam.NewServicePrincipal(jsii.String("lambda.amazonaws.com"), nil),
		Description: jsii.String(description),
	})
}

// allow lets role take the actions on the resource.
func allow(role awsiam.Role, resource *string, actions ...string) {
	allowIf(role, nil, resource, actions...)
}

// allowIf is allow under conditions.
func allowIf(role awsiam.Role, conditions map[string]any, resource *string, actions ...string) {
	statement := &awsiam.PolicyStatementProps{
		Actions:   jsii.Strings(actions...),
		Resources: &[]*string{resource},
	}
	if conditions != nil {
		statement.Conditions = &conditions
	}
	role.AddToPolicy(awsiam.NewPolicyStatement(statement))
}

// source is where the source of a function is, in the words of go list.
type source struct {
	Dir    string
	Module struct{ Dir string }
}

// findSource finds a package of this module from wherever the app runs: in its
// checkout, or in a module that imports it. It asks the go command once.
func findSource(pkg string) (source, error) {
	if found, ok := sources[pkg]; ok {
		return found, nil
	}
	found, err := list(pkg)
	if err == nil {
		sources[pkg] = found
	}
	return found, err
}

// sources are the packages found. Like all of CDK it is for one goroutine.
var sources = map[string]source{}

func list(pkg string) (source, error) {
	const help = "in its place, give the construct a ready bundle in its Code prop"
	var found source
	var stderr strings.Builder
	// readonly looks past a vendor directory, which holds what the app imports
	// and so no functions.
	cmd := exec.CommandContext(context.Background(), "go", "list", "-mod=readonly", "-json=Dir,Module", pkg) //nolint:gosec // pkg is one of this module's own
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return found, fmt.Errorf("find the source of %s with go list (%s): %w: %s", pkg, help, err, strings.TrimSpace(stderr.String()))
	}
	if err := json.Unmarshal(out, &found); err != nil {
		return found, fmt.Errorf("read what go list says of %s: %w", pkg, err)
	}
	if found.Dir == "" || found.Module.Dir == "" {
		return found, fmt.Errorf("go list knows %s but not where it is: %s", pkg, help)
	}
	return found, nil
}

func pointers(m map[string]string) *map[string]*string {
	out := make(map[string]*string, len(m))
	for k, v := range m {
		out[k] = jsii.String(v)
	}
	return &out
}
