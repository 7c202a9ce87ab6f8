package dynamodb

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

type keyElement struct{ AttributeName, KeyType string }

type attributeDefinition struct{ AttributeName, AttributeType string }

type throughput struct{ ReadCapacityUnits, WriteCapacityUnits int64 }

type billing struct{ BillingMode string }

// tableDescription is the answer to DescribeTable.
type tableDescription struct {
	TableName             string
	TableArn              string
	TableStatus           string
	CreationDateTime      float64
	KeySchema             []keyElement
	AttributeDefinitions  []attributeDefinition
	BillingModeSummary    *billing `json:",omitempty"`
	ProvisionedThroughput throughput
	ItemCount             int
	TableSizeBytes        int
}

type ttlSpecification struct {
	AttributeName string
	Enabled       *bool
}

var controlOperations = map[string]func(*Service, []byte) ([]byte, error){
	"CreateTable":        (*Service).createTable,
	"DescribeTable":      (*Service).describeTable,
	"DeleteTable":        (*Service).deleteTable,
	"ListTables":         (*Service).listTables,
	"UpdateTimeToLive":   (*Service).updateTimeToLive,
	"DescribeTimeToLive": (*Service).describeTimeToLive,

	"UpdateContinuousBackups":   (*Service).updateBackups,
	"DescribeContinuousBackups": (*Service).describeBackups,
}

// decodeControl reads the request of an operation on tables. Members that this endpoint does not know are refused.
func decodeControl(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, trailing := d.Token(); !errors.Is(trailing, io.EOF) {
			err = errors.New("more than one document")
		}
	}
	if err == nil {
		return nil
	}
	if member, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return invalid("the local endpoint does not implement the member %s", member)
	}
	return malformed("the request is not valid: %v", err)
}

func validTableName(name string) bool {
	return len(name) >= 3 && len(name) <= 255 && strings.Trim(name, tableNameCharacters) == "" // Trim stops at any other character
}

const tableNameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

func invalidTableName(name string) error {
	if len(name) < 3 || len(name) > 255 {
		return invalid("TableName must be at least 3 characters long and at most 255 characters long")
	}
	return invalid("1 validation error detected: Value '%s' at 'tableName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+", name)
}

// control finds the table that an operation on tables names.
func (s *Service) control(name string) (*table, error) {
	if t, err := s.existing(name); err == nil {
		return t, nil
	}
	if !validTableName(name) {
		return nil, invalidTableName(name)
	}
	return nil, wire.Errorf("ResourceNotFoundException", "Requested resource not found: Table: %s not found", name)
}

func (s *Service) createTable(body []byte) ([]byte, error) {
	var r struct {
		TableName             string
		KeySchema             []keyElement
		AttributeDefinitions  []attributeDefinition
		BillingMode           string
		ProvisionedThroughput *throughput
	}
	if err := decodeControl(body, &r); err != nil {
		return nil, err
	}
	if !validTableName(r.TableName) {
		return nil, invalidTableName(r.TableName)
	}
	keys, err := checkSchema(r.KeySchema, r.AttributeDefinitions)
	if err != nil {
		return nil, err
	}
	d := tableDescription{TableName: r.TableName, TableArn: ARN(r.TableName),
		KeySchema: r.KeySchema, AttributeDefinitions: r.AttributeDefinitions}
	if err := d.bill(r.BillingMode, r.ProvisionedThroughput); err != nil {
		return nil, err
	}
	t := &table{name: r.TableName, keys: keys, description: d, created: s.now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tables[t.name] != nil {
		return nil, wire.Errorf("ResourceInUseException", "Table already exists: %s", t.name)
	}
	s.tables[t.name] = t
	return t.describe("TableDescription", "CREATING")
}

func (d *tableDescription) bill(mode string, t *throughput) error {
	switch {
	case mode == "PAY_PER_REQUEST" && t != nil:
		return invalid("One or more parameter values were invalid: Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST")
	case mode == "PAY_PER_REQUEST":
		d.BillingModeSummary = &billing{mode}
		return nil
	case mode != "" && mode != "PROVISIONED":
		return invalid("1 validation error detected: Value '%s' at 'billingMode' failed to satisfy constraint: Member must satisfy enum value set: [PROVISIONED, PAY_PER_REQUEST]", mode)
	case t == nil || t.ReadCapacityUnits < 1 || t.WriteCapacityUnits < 1:
		return invalid("One or more parameter values were invalid: ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED")
	}
	d.ProvisionedThroughput = *t
	return nil
}

// checkSchema gives the key attributes of a new table.
func checkSchema(schema []keyElement, definitions []attributeDefinition) ([]keyAttribute, error) {
	if len(schema) < 1 || len(schema) > 2 {
		return nil, invalid("1 validation error detected: Value at 'keySchema' failed to satisfy constraint: Member must have length between 1 and 2")
	}
	keys := make([]keyAttribute, len(schema))
	for i, e := range schema {
		if want := []string{"HASH", "RANGE"}[i]; e.KeyType != want {
			return nil, invalid("Invalid KeySchema: The %s KeySchemaElement is not a %s key type", []string{"first", "second"}[i], want)
		}
		at := slices.IndexFunc(definitions, func(d attributeDefinition) bool { return d.AttributeName == e.AttributeName })
		if at < 0 || e.AttributeName == "" || len(e.AttributeName) > 255 {
			return nil, invalid("One or more parameter values were invalid: Some index key attributes are not defined in AttributeDefinitions. Keys: [%s]", e.AttributeName)
		}
		if kind := definitions[at].AttributeType; !slices.Contains([]string{"S", "N", "B"}, kind) {
			return nil, invalid("1 validation error detected: Value '%s' at 'attributeDefinitions.%d.member.attributeType' failed to satisfy constraint: Member must satisfy enum value set: [B, N, S]", kind, at+1)
		}
		keys[i] = keyAttribute{name: e.AttributeName, kind: definitions[at].AttributeType}
	}
	if len(keys) == 2 && keys[0].name == keys[1].name {
		return nil, invalid("Both the Hash Key and the Range Key element in the KeySchema have the same name")
	}
	if len(keys) != len(definitions) {
		return nil, invalid("One or more parameter values were invalid: Number of attributes in KeySchema does not exactly match number of attributes defined in AttributeDefinitions")
	}
	return keys, nil
}

func (t *table) describe(member, status string) ([]byte, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	d := t.description
	d.TableStatus = status
	d.CreationDateTime = float64(t.created.UnixMilli()) / 1000
	d.ItemCount = t.rows.count
	for w := range t.rows.within(span{}, false) {
		d.TableSizeBytes += w.size
	}
	return json.Marshal(map[string]any{member: d})
}

// namedTable reads a request that holds the name of a table and nothing else.
func (s *Service) namedTable(body []byte) (*table, error) {
	var r struct{ TableName string }
	if err := decodeControl(body, &r); err != nil {
		return nil, err
	}
	return s.control(r.TableName)
}

func (s *Service) describeTable(body []byte) ([]byte, error) {
	t, err := s.namedTable(body)
	if err != nil {
		return nil, err
	}
	return t.describe("Table", "ACTIVE")
}

func (s *Service) deleteTable(body []byte) ([]byte, error) {
	t, err := s.namedTable(body)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tables, t.name)
	return t.describe("TableDescription", "DELETING")
}

func (s *Service) listTables(body []byte) ([]byte, error) {
	var r struct {
		ExclusiveStartTableName string
		Limit                   *int
	}
	if err := decodeControl(body, &r); err != nil {
		return nil, err
	}
	limit := 100
	if r.Limit != nil {
		if limit = *r.Limit; limit < 1 || limit > 100 {
			return nil, invalid("1 validation error detected: Value '%d' at 'limit' failed to satisfy constraint: Member must have value between 1 and 100", limit)
		}
	}
	s.mu.RLock()
	names := sortedKeys(s.tables)
	s.mu.RUnlock()
	names = slices.DeleteFunc(names, func(name string) bool { return name <= r.ExclusiveStartTableName })
	answer := map[string]any{"TableNames": names}
	if len(names) > limit {
		answer["TableNames"], answer["LastEvaluatedTableName"] = names[:limit], names[limit-1]
	}
	return json.Marshal(answer)
}

func (s *Service) updateTimeToLive(body []byte) ([]byte, error) {
	var r struct {
		TableName               string
		TimeToLiveSpecification *ttlSpecification
	}
	if err := decodeControl(body, &r); err != nil {
		return nil, err
	}
	t, err := s.control(r.TableName)
	if err != nil {
		return nil, err
	}
	want := r.TimeToLiveSpecification
	if want == nil || want.Enabled == nil || want.AttributeName == "" {
		return nil, invalid("TimeToLiveSpecification.AttributeName must be non empty and TimeToLiveSpecification.Enabled must be set")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case *want.Enabled && t.ttl == want.AttributeName:
		return nil, invalid("TimeToLive is already enabled")
	case *want.Enabled && t.ttl != "":
		return nil, invalid("TimeToLive is active on a different AttributeName: current AttributeName is %s", t.ttl)
	case !*want.Enabled && t.ttl == "":
		return nil, invalid("TimeToLive is already disabled")
	case !*want.Enabled && t.ttl != want.AttributeName:
		return nil, invalid("TimeToLive is active on a different AttributeName: current AttributeName is %s", t.ttl)
	}
	if t.ttl = ""; *want.Enabled {
		t.ttl = want.AttributeName
	}
	return json.Marshal(map[string]any{"TimeToLiveSpecification": want})
}

func (s *Service) describeTimeToLive(body []byte) ([]byte, error) {
	t, err := s.namedTable(body)
	if err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	d := map[string]string{"TimeToLiveStatus": "DISABLED"}
	if t.ttl != "" {
		d["TimeToLiveStatus"], d["AttributeName"] = "ENABLED", t.ttl
	}
	return json.Marshal(map[string]any{"TimeToLiveDescription": d})
}

// updateBackups switches point-in-time recovery. Nothing can be restored here.
func (s *Service) updateBackups(body []byte) ([]byte, error) {
	var r struct {
		TableName                        string
		PointInTimeRecoverySpecification *struct{ PointInTimeRecoveryEnabled *bool }
	}
	if err := decodeControl(body, &r); err != nil {
		return nil, err
	}
	want := r.PointInTimeRecoverySpecification
	if want == nil || want.PointInTimeRecoveryEnabled == nil {
		return nil, invalid("1 validation error detected: Value null at 'pointInTimeRecoverySpecification.pointInTimeRecoveryEnabled' failed to satisfy constraint: Member must not be null")
	}
	t, err := s.backedUp(r.TableName)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.pointInTime = *want.PointInTimeRecoveryEnabled
	t.mu.Unlock()
	return t.describeBackups()
}

func (s *Service) describeBackups(body []byte) ([]byte, error) {
	var r struct{ TableName string }
	if err := decodeControl(body, &r); err != nil {
		return nil, err
	}
	t, err := s.backedUp(r.TableName)
	if err != nil {
		return nil, err
	}
	return t.describeBackups()
}

// backedUp finds a table. These two operations have an error of their own for one that does not exist.
func (s *Service) backedUp(name string) (*table, error) {
	t, err := s.control(name)
	if err != nil && validTableName(name) {
		return nil, wire.Errorf("TableNotFoundException", "Table not found: %s", name)
	}
	return t, err
}

func (t *table) describeBackups() ([]byte, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	recovery := map[string]any{"PointInTimeRecoveryStatus": "DISABLED"}
	if t.pointInTime {
		recovery["PointInTimeRecoveryStatus"] = "ENABLED"
	}
	return json.Marshal(map[string]any{"ContinuousBackupsDescription": map[string]any{
		"ContinuousBackupsStatus": "ENABLED", "PointInTimeRecoveryDescription": recovery,
	}})
}
