package ferry

import (
	"strconv"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/internal/envcfg"
)

const (
	// stopTimeout is the longest that Fargate gives a task between SIGTERM and the
	// end: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html
	stopTimeout = 2 * time.Minute
	// handOver is what a worker takes of that.
	handOver = stopTimeout - 10*time.Second
)

// WorkerProps configures a Worker. Receiver, Cluster and Image are required.
type WorkerProps struct {
	// Receiver is the one whose work is shared.
	Receiver *Receiver
	// Cluster is where the tasks run. From its VPC they have to reach what the
	// receiver reaches, and the registry of Image.
	Cluster awsecs.ICluster
	// Image has the s3ferry command as its entry point. docs/worker.md says how to
	// make one.
	Image awsecs.ContainerImage

	// Tasks is how many run. Default: 1.
	Tasks int
	// Concurrency is how many messages a task works on at once, 1 to 1000.
	// Default: 10.
	Concurrency int
	// CPU is that of a task, in units of 1/1024 of a processor. Fargate has
	// pairs of CPU and MemoryMiB that go together. Default: 1024.
	CPU int
	// MemoryMiB is that of a task, at least 1024 MiB; a quarter of it is for parts
	// of objects. Default: 2048.
	MemoryMiB int
	// Architecture is that of Image. Default: x86_64, which every region has.
	Architecture awsecs.CpuArchitecture

	// Subnets are those of the cluster's VPC. Default: CDK's choice, the private
	// ones.
	Subnets *awsec2.SubnetSelection
	// SecurityGroups are the tasks'. Default: a new one that lets everything out
	// and nothing in.
	SecurityGroups []awsec2.ISecurityGroup
	// PublicIP gives each task a public address, by which it gets out of a public
	// subnet. Default: none.
	PublicIP bool
	// LogRetention is how long logs are kept. Default: three months.
	LogRetention awslogs.RetentionDays
}

// Worker runs `s3ferry worker` on Fargate beside a receiver's function, for
// objects that outgrow its 15 minutes: same inbox, journal, settings and
// permissions. When a task is replaced it hands over what is unfinished.
type Worker struct {
	constructs.Construct

	role    awsiam.Role
	service awsecs.FargateService
}

// NewWorker makes a Worker.
func NewWorker(scope constructs.Construct, id string, props *WorkerProps) *Worker {
	p := props.resolve(id)
	w := &Worker{}
	constructs.NewConstruct_Override(w, scope, jsii.String(id))

	w.role = awsiam.NewRole(w, jsii.String("Role"), &awsiam.RoleProps{
		AssumedBy:   awsiam.NewServicePrincipal(jsii.String("ecs-tasks.amazonaws.com"), nil),
		Description: jsii.String("s3ferry worker"),
	})
	p.Receiver.grantPull(w.role)
	task := awsecs.NewFargateTaskDefinition(w, jsii.String("Task"), &awsecs.FargateTaskDefinitionProps{
		Cpu: jsii.Number(p.CPU), MemoryLimitMiB: jsii.Number(p.MemoryMiB), TaskRole: w.role,
		RuntimePlatform: &awsecs.RuntimePlatform{
			CpuArchitecture: p.Architecture, OperatingSystemFamily: awsecs.OperatingSystemFamily_LINUX(),
		},
	})
	settings := p.Receiver.settings
	settings.MemoryMiB = int64(p.MemoryMiB) / 4
	environment := envcfg.Encode(&settings)
	environment["AWS_REGION"] = *awscdk.Stack_Of(w).Region()
	task.AddContainer(jsii.String("Worker"), &awsecs.ContainerDefinitionOptions{
		Image:       p.Image,
		Command:     jsii.Strings("worker", "--concurrency", strconv.Itoa(p.Concurrency), "--grace", handOver.String()),
		Environment: pointers(environment),
		Logging: awsecs.LogDriver_AwsLogs(&awsecs.AwsLogDriverProps{
			LogGroup:     newLogs(w, "Logs", p.LogRetention, p.Receiver.key),
			StreamPrefix: jsii.String("worker"),
		}),
		StopTimeout: duration(stopTimeout),
	})
	w.service = awsecs.NewFargateService(w, jsii.String("Service"), &awsecs.FargateServiceProps{
		Cluster:           p.Cluster,
		TaskDefinition:    task,
		DesiredCount:      jsii.Number(p.Tasks),
		AssignPublicIp:    jsii.Bool(p.PublicIP),
		VpcSubnets:        p.Subnets,
		SecurityGroups:    network{groups: p.SecurityGroups}.securityGroups(),
		CircuitBreaker:    &awsecs.DeploymentCircuitBreaker{Rollback: jsii.Bool(true)},
		MinHealthyPercent: jsii.Number(100),
		MaxHealthyPercent: jsii.Number(200),
	})
	return w
}

// Service returns the service whose tasks work.
func (w *Worker) Service() awsecs.FargateService { return w.service }

// TaskRole returns the role that a task works as.
func (w *Worker) TaskRole() awsiam.IRole { return w.role }

func (props *WorkerProps) resolve(id string) WorkerProps {
	var p WorkerProps
	if props != nil {
		p = *props
	}
	var bad problems
	bad.check(p.Receiver != nil, "Receiver", "nil", "a receiver", "make one with ferry.NewReceiver in the same stack")
	bad.check(p.Cluster != nil, "Cluster", "nil", "a cluster", "make one with awsecs.NewCluster")
	bad.check(p.Image != nil, "Image", "nil", "an image of s3ferry", "docs/worker.md says how to make one")
	bad.check(p.Tasks >= 0, "Tasks", p.Tasks, "at least 1 task", "leave it out for 1")
	bad.check(p.Concurrency >= 0 && p.Concurrency <= maxConcurrency, "Concurrency", p.Concurrency, "1 to 1000 messages", "leave it out for 10")
	bad.check(p.CPU == 0 || p.CPU >= 256 && p.CPU <= 16384, "CPU", p.CPU, "256 to 16384 units", "leave it out for 1024")
	bad.check(p.MemoryMiB == 0 || p.MemoryMiB >= 1024 && p.MemoryMiB <= 122_880, "MemoryMiB", p.MemoryMiB, "1024 to 122880 MiB", "leave it out for 2048")
	bad.report("Worker", id)

	p.Tasks = or(p.Tasks, 1)
	p.Concurrency = or(p.Concurrency, 10)
	p.CPU = or(p.CPU, 1024)
	p.MemoryMiB = or(p.MemoryMiB, 2048)
	if p.Architecture == nil {
		p.Architecture = awsecs.CpuArchitecture_X86_64()
	}
	return p
}
