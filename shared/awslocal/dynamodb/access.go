package dynamodb

import (
	"context"
	"encoding/json"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// ARN gives the ARN of a table.
func ARN(table string) string {
	return "arn:aws:dynamodb:" + wire.Region + ":" + wire.AccountID + ":table/" + table
}

// partiqlActions are what statements need, whichever operation carries them.
// Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html
var partiqlActions = map[statementKind]string{
	statementSelect: "dynamodb:PartiQLSelect", statementInsert: "dynamodb:PartiQLInsert",
	statementUpdate: "dynamodb:PartiQLUpdate", statementDelete: "dynamodb:PartiQLDelete",
}

// authorize asks whether the caller may do the request. Statements are asked about one by one when they have been parsed.
func (r *request) authorize() *wire.Error {
	if !wire.Restricted(r.ctx) || r.op == "ExecuteStatement" || r.op == "BatchExecuteStatement" {
		return nil
	}
	action := "dynamodb:" + r.op
	if r.tableName != "" {
		return wire.Authorize(r.ctx, action, ARN(r.tableName))
	}
	asked := map[string]bool{}
	for _, m := range r.members {
		if asked[m.tableName] {
			continue
		}
		asked[m.tableName] = true
		if refused := wire.Authorize(r.ctx, action, ARN(m.tableName)); refused != nil {
			return refused // one table that the caller may not use fails the whole batch
		}
	}
	return nil
}

// authorizeControl is authorize for operations on tables themselves.
func authorizeControl(ctx context.Context, op string, body []byte) *wire.Error {
	if !wire.Restricted(ctx) {
		return nil
	}
	var r struct{ TableName string }
	if err := json.Unmarshal(body, &r); err != nil || r.TableName == "" {
		return wire.Authorize(ctx, "dynamodb:"+op, "*")
	}
	return wire.Authorize(ctx, "dynamodb:"+op, ARN(r.TableName))
}
