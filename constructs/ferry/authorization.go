package ferry

import (
	"fmt"
	"net/netip"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigateway"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/jsii-runtime-go"

	"github.com/s3ferry/s3ferry/internal/door"
)

// Authorization is what a mailbox asks of a request beside its API key.
type Authorization string

const (
	// APIKeyOnly asks for nothing more. In aws-cn, API Gateway answers such
	// requests only if the account has an ICP licence or exemption.
	APIKeyOnly Authorization = "apiKey"
	// IAM asks for the signature of a user of this account who may do nothing but
	// call the mailbox. The user's access key is in a secret, from which linking
	// takes it to the sender.
	//
	// It is an access key because a role cannot be assumed across partitions: AWS
	// does not take the tokens of its own STS as a web identity.
	// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound_getting_started.html
	IAM Authorization = "iam"
)

// method is the authorization of a method of the API.
func (a Authorization) method() awsapigateway.AuthorizationType {
	if a == IAM {
		return awsapigateway.AuthorizationType_IAM
	}
	return awsapigateway.AuthorizationType_NONE
}

// newAccessKey makes the user whose signature a mailbox with IAM asks for, and
// the secret with the user's access key.
func (m *Mailbox) newAccessKey(p MailboxProps) awssecretsmanager.ISecret {
	user := awsiam.NewUser(m, jsii.String("Sender"), nil)
	for _, route := range door.Routes() {
		user.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Actions:   jsii.Strings("execute-api:Invoke"),
			Resources: &[]*string{m.api.ArnForExecuteApi(jsii.String(route.Method), jsii.String(route.Path), m.api.DeploymentStage().StageName())},
		}))
	}
	key := awsiam.NewAccessKey(m, jsii.String("SenderAccessKey"), &awsiam.AccessKeyProps{
		User: user, Serial: jsii.Number(p.AccessKeySerial),
	})
	// The L1 resource, since the L2 lets the whole account use an encryption key.
	props := &awssecretsmanager.CfnSecretProps{
		Description:  jsii.String("s3ferry mailbox: access key of the sending side, for linking"),
		SecretString: jsii.String(`{"accessKeyId":"` + *key.AccessKeyId() + `","secretAccessKey":"` + *key.SecretAccessKey().UnsafeUnwrap() + `"}`),
	}
	if m.key != nil {
		props.KmsKeyId = m.key.KeyArn()
	}
	secret := awssecretsmanager.NewCfnSecret(m, jsii.String("SenderAccessKeySecret"), props)
	return awssecretsmanager.Secret_FromSecretCompleteArn(m, jsii.String("SenderAccessKeySecretRef"), secret.Ref())
}

// networkPolicy is the resource policy of an API that answers only networks, or
// nil if it answers all. It denies the others; with IAM it must not allow
// anything, because within an account either policy is enough to be let in.
// https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-authorization-flow.html
func networkPolicy(p MailboxProps) awsiam.PolicyDocument {
	if len(p.AllowedNetworks) == 0 {
		return nil
	}
	statement := func(effect awsiam.Effect, conditions *map[string]any) awsiam.PolicyStatement {
		return awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
			Effect:     effect,
			Principals: &[]awsiam.IPrincipal{awsiam.NewAnyPrincipal()},
			Actions:    jsii.Strings("execute-api:Invoke"),
			Resources:  jsii.Strings("execute-api:/*"),
			Conditions: conditions,
		})
	}
	statements := []awsiam.PolicyStatement{statement(awsiam.Effect_DENY, &map[string]any{
		"NotIpAddress": map[string]any{"aws:SourceIp": p.AllowedNetworks},
	})}
	if p.Authorization != IAM {
		statements = append(statements, statement(awsiam.Effect_ALLOW, nil))
	}
	return awsiam.NewPolicyDocument(&awsiam.PolicyDocumentProps{Statements: &statements})
}

// checkAuthorization checks who may call a mailbox.
func (p *problems) checkAuthorization(props MailboxProps) {
	p.check(props.Authorization == "" || props.Authorization == APIKeyOnly || props.Authorization == IAM,
		"Authorization", fmt.Sprintf("%q", props.Authorization), "APIKeyOnly or IAM", "use one of the package's constants")
	p.check(props.AccessKeySerial >= 0, "AccessKeySerial", props.AccessKeySerial, "0 or more", "raise it by one to replace the access key")
	p.check(props.AccessKeySerial == 0 || props.Authorization == IAM, "AccessKeySerial", props.AccessKeySerial,
		"none without IAM", "set Authorization to IAM, or leave it out")
	for _, text := range props.AllowedNetworks {
		n, err := netip.ParsePrefix(text)
		p.check(err == nil && n == n.Masked() && n.Bits() > 0 && !isPrivate(text), "AllowedNetworks", text,
			`public networks such as "203.0.113.7/32"`, "name the addresses that the sender's side has on the internet")
	}
}
