package ferry_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/jsii-runtime-go"
	"github.com/google/go-cmp/cmp"

	"github.com/s3ferry/s3ferry/constructs/ferry"
	"github.com/s3ferry/s3ferry/internal/envcfg"
	"github.com/s3ferry/s3ferry/test/synth"
)

func cluster(stack awscdk.Stack) awsecs.ICluster {
	return awsecs.NewCluster(stack, jsii.String("Cluster"), &awsecs.ClusterProps{
		Vpc: awsec2.NewVpc(stack, jsii.String("VPC"), &awsec2.VpcProps{MaxAzs: jsii.Number(1), RestrictDefaultSecurityGroup: jsii.Bool(false)}),
	})
}

func TestWorker(t *testing.T) {
	tpl := template(t, "cn-north-1", func(stack awscdk.Stack) {
		key := awskms.NewKey(stack, jsii.String("Key"), nil)
		receiver := newReceiver(stack, "Receiver", ferry.ReceiverProps{StripPrefix: "out/", AddPrefix: "in/", Connections: 99, EncryptionKey: key})
		ferry.NewWorker(stack, "Worker", &ferry.WorkerProps{
			Receiver: receiver, Cluster: cluster(stack), MemoryMiB: 4096, Tasks: 2, Concurrency: 3, PublicIP: true,
			Image: awsecs.ContainerImage_FromRegistry(jsii.String("example/s3ferry"), nil),
		})
	})
	container := tpl.Only(t, "AWS::ECS::TaskDefinition", "").Get("ContainerDefinitions", 0).(map[string]any)
	block := map[string]string{}
	for _, variable := range synth.Resolve(container["Environment"]).([]any) {
		v := variable.(map[string]any)
		block[v["Name"].(string)] = v["Value"].(string)
	}
	if block["AWS_REGION"] != "cn-north-1" {
		t.Errorf("the region is %q", block["AWS_REGION"])
	}
	delete(block, "AWS_REGION")
	// It works as the function does, within its own memory.
	want := tpl.Environments()[tpl.Only(t, "AWS::Lambda::Function", "Receiver").ID]
	want["S3FERRY_MEMORY_BUDGET"] = "1024"
	if diff := cmp.Diff(want, block); diff != "" {
		t.Errorf("environment (-function +worker):\n%s", diff)
	}
	var settings envcfg.Receiver
	if err := envcfg.Decode(&settings, func(name string) (string, bool) { v, ok := block[name]; return v, ok }); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]any{"worker", "--concurrency", "3", "--grace", "1m50s"}, container["Command"]); diff != "" {
		t.Error(diff)
	}
	if container["StopTimeout"] != 120.0 {
		t.Errorf("a task has %v s to hand over", container["StopTimeout"])
	}
	service := tpl.Only(t, "AWS::ECS::Service", "")
	if got := service.Get("NetworkConfiguration", "AwsvpcConfiguration", "AssignPublicIp"); got != "ENABLED" || service.Get("DesiredCount") != 2.0 {
		t.Errorf("got %v tasks, public address %v", service.Get("DesiredCount"), got)
	}

	// What the function may do, without its logs, which are the execution role's.
	withoutLogs := slices.DeleteFunc(statementsOf(tpl, "ReceiverRole", "Allow"), func(line string) bool { return strings.Contains(line, "logs:") })
	if diff := cmp.Diff(withoutLogs, statementsOf(tpl, "WorkerRole", "Allow")); diff != "" {
		t.Errorf("permissions (-function +worker):\n%s", diff)
	}
	execution := []string{"Allow logs:CreateLogStream on ${WorkerLogs.Arn}", "Allow logs:PutLogEvents on ${WorkerLogs.Arn}"}
	if diff := cmp.Diff(execution, statementsOf(tpl, "WorkerTaskExecutionRole", "Allow")); diff != "" {
		t.Errorf("execution role (-want +got):\n%s", diff)
	}
	if got := synth.Resolve(tpl.Only(t, "AWS::Logs::LogGroup", "Worker").Get("KmsKeyId")); got != "${Key961B73FD.Arn}" {
		t.Errorf("the logs are encrypted with %v", got)
	}
}
