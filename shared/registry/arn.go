package registry

import (
	"fmt"
	"regexp"
	"strings"
)

// MaxARN bounds the ARN of a stored secret in bytes.
const MaxARN = 2048

// Services that keep secrets, as their ARNs name them.
const (
	secretsManager = "secretsmanager"
	parameterStore = "ssm"
)

const (
	arnExample = `write it as in "arn:aws:secretsmanager:eu-west-1:123456789012:secret:waybill/hook-AbCdEf" or ` +
		`"arn:aws:ssm:eu-west-1:123456789012:parameter/waybill/hook"`

	// howToStore is the remedy for every secret that stands in a file.
	howToStore = "store it in Secrets Manager or, as a SecureString, in SSM, and write its ARN: " +
		"aws secretsmanager create-secret --name waybill/NAME --secret-string whsec_… --query ARN --output text"
)

// maxSecretName bounds names in Secrets Manager. It is no part of the pattern, because a pattern that counts that far takes a function a millisecond of its start.
const maxSecretName = 512

var (
	regionForm    = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]{1,2}$`)
	accountForm   = regexp.MustCompile(`^[0-9]{12}$`)
	secretForm    = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]+$`)
	suffixForm    = regexp.MustCompile(`.-[A-Za-z0-9]{6}$`)
	parameterForm = regexp.MustCompile(`^(/[A-Za-z0-9_.-]+){1,15}$`)
)

// checkARN says what is wrong with the ARN of a stored secret, part by part, or nothing. The messages repeat nothing of the text, which may
// be something else that was pasted into the wrong place.
func checkARN(text string) (message, fix string) {
	if len(text) > MaxARN {
		return fmt.Sprintf("has %d bytes", len(text)), fmt.Sprintf("an ARN has at most %d; check what was copied", MaxARN)
	}
	parts := strings.SplitN(text, ":", 6)
	if len(parts) < 6 {
		return fmt.Sprintf("is an ARN of %d parts, of which there are 6 or more", len(parts)), arnExample
	}
	partition, service, region, account, resource := parts[1], parts[2], parts[3], parts[4], parts[5]
	switch {
	case partition != "aws" && partition != "aws-cn" && partition != "aws-us-gov":
		return "is an ARN of an unknown partition", "write aws, aws-cn or aws-us-gov after arn:"
	case service != secretsManager && service != parameterStore:
		return "is an ARN of a service that keeps no secrets", "use Secrets Manager (secretsmanager) or SSM (ssm); " + arnExample
	case !regionForm.MatchString(region):
		return "is an ARN without a valid region", `name the region as in "eu-west-1"`
	case strings.HasPrefix(region, "cn-") != (partition == "aws-cn") || strings.HasPrefix(region, "us-gov-") != (partition == "aws-us-gov"):
		return "is an ARN whose partition does not have that region", "write aws-cn for cn-…, aws-us-gov for us-gov-…, aws for all others"
	case !accountForm.MatchString(account):
		return "is an ARN without a valid account", "write the 12 digits of the account id"
	case service == secretsManager:
		return checkSecretResource(resource)
	}
	return checkParameterResource(resource)
}

func checkSecretResource(resource string) (message, fix string) {
	name, ok := strings.CutPrefix(resource, "secret:")
	switch {
	case !ok:
		return "is an ARN of Secrets Manager that does not go on with secret:", arnExample
	case strings.Contains(name, ":"):
		return "holds more after the name of the secret", "end it after the name: a key inside JSON, a stage or a version cannot be chosen"
	case len(name) > maxSecretName || !secretForm.MatchString(name):
		return "holds no valid name of a secret", "use letters, digits and /_+=.@-, at most 512 characters"
	case !suffixForm.MatchString(name):
		return "ends without the hyphen and the six characters that Secrets Manager has added to the name",
			"copy the whole ARN: aws secretsmanager describe-secret --secret-id NAME --query ARN --output text"
	}
	return "", ""
}

func checkParameterResource(resource string) (message, fix string) {
	name, ok := strings.CutPrefix(resource, "parameter")
	switch {
	case !ok:
		return "is an ARN of SSM that does not go on with parameter/", arnExample
	case strings.Contains(name, ":"):
		return "names a version or a label of the parameter", "end it after the name, so that a rotated secret is found"
	case !parameterForm.MatchString(name):
		return "holds no valid name of a parameter", "use up to 15 parts of letters, digits and _.-, each after a single /"
	}
	return "", ""
}
