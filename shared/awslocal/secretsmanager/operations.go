package secretsmanager

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// The request documents, with the protocol's member names.
type (
	createRequest struct {
		Name, ClientRequestToken, Description string
		KeyID                                 string `json:"KmsKeyId"`
		SecretString                          *string
		SecretBinary                          *[]byte
	}
	putRequest struct {
		SecretID           string `json:"SecretId"`
		ClientRequestToken string
		SecretString       *string
		SecretBinary       *[]byte
		VersionStages      *[]string
	}
	getRequest struct {
		SecretID     string `json:"SecretId"`
		VersionID    string `json:"VersionId"`
		VersionStage string
	}
	describeRequest struct {
		SecretID string `json:"SecretId"`
	}
	deleteRequest struct {
		SecretID                   string `json:"SecretId"`
		ForceDeleteWithoutRecovery bool
		RecoveryWindowInDays       *int
	}
	listRequest struct {
		MaxResults             *int
		NextToken              string
		IncludePlannedDeletion bool
	}
)

// The response documents.
type (
	storedResponse struct {
		ARN, Name     string
		VersionID     string   `json:"VersionId,omitempty"`
		VersionStages []string `json:",omitempty"`
	}
	valueResponse struct {
		storedResponse
		SecretString string `json:",omitempty"`
		SecretBinary []byte `json:",omitempty"`
		CreatedDate  float64
	}
	description struct {
		ARN, Name                    string
		Description                  string `json:",omitempty"`
		KeyID                        string `json:"KmsKeyId,omitempty"`
		CreatedDate, LastChangedDate float64
		DeletedDate                  *float64            `json:",omitempty"`
		VersionIDsToStages           map[string][]string `json:"VersionIdsToStages,omitempty"`     // of DescribeSecret
		SecretVersionsToStages       map[string][]string `json:"SecretVersionsToStages,omitempty"` // of ListSecrets
	}
	deletedResponse struct {
		ARN, Name    string
		DeletionDate float64
	}
	listResponse struct {
		SecretList []description
		NextToken  string `json:",omitempty"`
	}
)

func (s *Service) create(in *createRequest) (any, *wire.Error) {
	what, refused := checkValue(in.ClientRequestToken, in.SecretString, in.SecretBinary)
	switch {
	case in.Name == "":
		return nil, constraint("name", "not be null")
	case !nameForm.MatchString(in.Name):
		return nil, invalidName()
	case refused != nil:
		return nil, refused
	case len(in.Description) > maxDescription:
		return nil, constraint("description", fmt.Sprintf("have length less than or equal to %d", maxDescription))
	}
	now := time.Now()
	known, exists := s.secrets[in.Name]
	switch {
	case exists && !known.deleted.IsZero():
		return nil, invalidRequest("You can't create this secret because a secret with this name is already scheduled for deletion.")
	case exists && !known.createdBy(in.ClientRequestToken, what):
		return nil, wire.Errorf("ResourceExistsException", "The operation failed because the secret %s already exists.", in.Name)
	case !exists:
		known = s.add(in.Name, now)
		known.description, known.keyID = in.Description, in.KeyID
	}
	answer := storedResponse{ARN: known.arn, Name: known.name}
	if !what.empty() {
		if _, refused := known.store(in.ClientRequestToken, what, []string{current}, now); refused != nil {
			return nil, refused
		}
		answer.VersionID = in.ClientRequestToken
	}
	return answer, nil
}

// createdBy tells whether the secret was created by a call with that token and value, which is now repeated.
func (x *secret) createdBy(token string, what value) bool {
	return !what.empty() && len(x.versions) > 0 && x.versions[0].id == token && x.versions[0].value.equal(what)
}

func (s *Service) put(in *putRequest) (any, *wire.Error) {
	found, refused := s.live(in.SecretID)
	if refused != nil {
		return nil, refused
	}
	what, refused := checkValue(in.ClientRequestToken, in.SecretString, in.SecretBinary)
	if refused != nil {
		return nil, refused
	}
	if what.empty() {
		return nil, noValue()
	}
	stages := []string{current}
	if in.VersionStages != nil {
		stages = *in.VersionStages
	}
	if len(stages) == 0 || len(stages) > maxStages {
		return nil, constraint("versionStages", fmt.Sprintf("have length between 1 and %d", maxStages))
	}
	if slices.ContainsFunc(stages, func(stage string) bool { return stage == "" || len(stage) > maxStageLength }) {
		return nil, constraint("versionStages", fmt.Sprintf("satisfy constraint: [Member must have length between 1 and %d]", maxStageLength))
	}
	v, refused := found.store(in.ClientRequestToken, what, stages, time.Now())
	if refused != nil {
		return nil, refused
	}
	return storedResponse{found.arn, found.name, v.id, v.stages}, nil
}

func noValue() *wire.Error {
	return invalidRequest("You must provide either SecretString or SecretBinary.")
}

// checkValue gives the value of a request, the zero value where there is none.
func checkValue(token string, text *string, binary *[]byte) (value, *wire.Error) {
	var v value
	if text != nil {
		v.text = *text
	}
	if binary != nil {
		v.binary = *binary
	}
	switch {
	case token == "":
		return v, invalidRequest("You must provide a ClientRequestToken value. We recommend a UUID-type value.")
	case len(token) < minToken || len(token) > maxToken:
		return v, invalidParameter("ClientRequestToken must be %d-%d characters long.", minToken, maxToken)
	case text != nil && binary != nil:
		return v, invalidParameter("You can't specify both a binary secret value and a string secret value in the same secret.")
	case v.empty() && (text != nil || binary != nil):
		return v, noValue()
	case len(v.text) > maxValueBytes:
		return v, constraint("secretString", fmt.Sprintf("have length less than or equal to %d", maxValueBytes))
	case len(v.binary) > maxValueBytes:
		return v, constraint("secretBinary", fmt.Sprintf("have length less than or equal to %d", maxValueBytes))
	}
	return v, nil
}

func (s *Service) get(in *getRequest) (any, *wire.Error) {
	found, refused := s.live(in.SecretID)
	if refused != nil {
		return nil, refused
	}
	var v *version
	if in.VersionID != "" {
		if v = found.version(in.VersionID); v == nil {
			return nil, notFound(" value for VersionId: " + shorten(in.VersionID))
		}
		if in.VersionStage != "" && !slices.Contains(v.stages, in.VersionStage) {
			return nil, invalidRequest("You provided a VersionStage that is not associated to the provided VersionId.")
		}
	} else {
		stage := cmp.Or(in.VersionStage, current)
		if v = found.holder(stage); v == nil {
			return nil, notFound(" value for staging label: " + shorten(stage))
		}
	}
	return valueResponse{storedResponse{found.arn, found.name, v.id, v.stages}, v.value.text, v.value.binary, seconds(v.created)}, nil
}

// shorten keeps what a caller sent from filling a refusal.
func shorten(s string) string { return fmt.Sprintf("%.100s", s) }

func (s *Service) describe(in *describeRequest) (any, *wire.Error) {
	found, refused := s.find(in.SecretID)
	if refused != nil {
		return nil, refused
	}
	d := found.summary()
	d.VersionIDsToStages = found.stages()
	return d, nil
}

func (s *Service) remove(in *deleteRequest) (any, *wire.Error) {
	days := maxDays
	if in.RecoveryWindowInDays != nil {
		days = *in.RecoveryWindowInDays
	}
	switch {
	case in.ForceDeleteWithoutRecovery && in.RecoveryWindowInDays != nil:
		return nil, invalidParameter("You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
	case days < minDays || days > maxDays:
		return nil, invalidParameter("The RecoveryWindowInDays value must be between %d and %d days (inclusive).", minDays, maxDays)
	}
	now := time.Now()
	found, refused := s.find(in.SecretID)
	switch {
	case refused != nil && in.ForceDeleteWithoutRecovery && refused.Code == "ResourceNotFoundException":
		return deletedResponse{ARN: in.SecretID, Name: in.SecretID, DeletionDate: seconds(now)}, nil
	case refused != nil:
		return nil, refused
	case in.ForceDeleteWithoutRecovery:
		delete(s.secrets, found.name)
		return deletedResponse{found.arn, found.name, seconds(now)}, nil
	case !found.deleted.IsZero():
		return nil, invalidRequest("You tried to perform the operation on a secret that's currently marked deleted.")
	}
	found.deleted, found.gone = now, now.AddDate(0, 0, days)
	return deletedResponse{found.arn, found.name, seconds(found.gone)}, nil
}

func (s *Service) list(in *listRequest) (any, *wire.Error) {
	page := maxPage
	if in.MaxResults != nil {
		page = *in.MaxResults
	}
	if page < 1 || page > maxPage {
		return nil, constraint("maxResults", fmt.Sprintf("have value between 1 and %d", maxPage))
	}
	after, ok := readToken(in.NextToken)
	if !ok {
		return nil, wire.Errorf("InvalidNextTokenException", "The NextToken value is not one that ListSecrets gave.")
	}
	found := slices.SortedFunc(maps.Values(s.secrets), func(a, b *secret) int { return cmp.Compare(a.serial, b.serial) })
	found = slices.DeleteFunc(found, func(x *secret) bool {
		return x.serial <= after || !x.deleted.IsZero() && !in.IncludePlannedDeletion
	})
	answer := listResponse{SecretList: []description{}}
	if len(found) > page {
		found = found[:page]
		answer.NextToken = token(found[page-1].serial)
	}
	for _, x := range found {
		d := x.summary()
		d.SecretVersionsToStages = x.stages()
		answer.SecretList = append(answer.SecretList, d)
	}
	return answer, nil
}

// summary describes the secret without its versions.
func (x *secret) summary() description {
	return description{
		ARN: x.arn, Name: x.name, Description: x.description, KeyID: x.keyID,
		CreatedDate: seconds(x.created), LastChangedDate: seconds(x.changed), DeletedDate: secondsOrNil(x.deleted),
	}
}

const tokenPrefix = "after "

func token(serial uint64) string {
	return base64.StdEncoding.EncodeToString([]byte(tokenPrefix + strconv.FormatUint(serial, 10)))
}

func readToken(text string) (after uint64, ok bool) {
	if text == "" {
		return 0, true
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return 0, false
	}
	digits, ok := strings.CutPrefix(string(raw), tokenPrefix)
	if !ok {
		return 0, false
	}
	after, err = strconv.ParseUint(digits, 10, 64)
	return after, err == nil
}
