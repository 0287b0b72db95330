package ferry

import (
	"fmt"
	"net/netip"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/jsii-runtime-go"
)

// network is where a function works. The zero value is outside of every VPC.
type network struct {
	vpc     awsec2.IVpc
	subnets *awsec2.SubnetSelection
	groups  []awsec2.ISecurityGroup
}

// allow lets role attach its function to the VPC, if there is one. Lambda checks
// all of these before it makes the function, and EC2 cannot narrow them all to
// one network.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html
func (n network) allow(role awsiam.Role) {
	if n.vpc != nil {
		allow(role, jsii.String("*"), "ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets",
			"ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses")
	}
}

// securityGroups returns the groups as CDK takes them: nil makes one.
func (n network) securityGroups() *[]awsec2.ISecurityGroup {
	if n.groups == nil {
		return nil
	}
	return &n.groups
}

func (p *problems) checkNetwork(n network) {
	p.check(n.vpc != nil || n.subnets == nil, "Subnets", "some", "none without a VPC", "set VPC, or leave out Subnets")
	p.check(n.vpc != nil || n.groups == nil, "SecurityGroups", fmt.Sprint(len(n.groups)), "none without a VPC", "set VPC, or leave out SecurityGroups")
}

// private are the networks that may be somebody's own.
var private = networks([]string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"})

// isPrivate reports whether text is a network inside a private one.
func isPrivate(text string) bool {
	n, err := netip.ParsePrefix(text)
	if err != nil || n != n.Masked() {
		return false
	}
	for _, p := range private {
		if p.Bits() <= n.Bits() && p.Contains(n.Addr()) {
			return true
		}
	}
	return false
}

// networks parses what isPrivate has approved.
func networks(texts []string) []netip.Prefix {
	var parsed []netip.Prefix
	for _, text := range texts {
		parsed = append(parsed, netip.MustParsePrefix(text))
	}
	return parsed
}
