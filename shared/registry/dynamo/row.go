package dynamo

import (
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/registry"
)

type attributes = map[string]types.AttributeValue

// Names of attributes.
const (
	attrPart      = "part"
	attrRow       = "row"
	attrBody      = "body"
	attrNumber    = "number"
	attrToken     = "token"
	attrBytes     = "bytes"
	attrSHA256    = "sha256"
	attrAppliedAt = "appliedAt"
	attrBy        = "by"
	attrChunks    = "chunks"
	attrHistory   = "history"
	attrPaused    = "paused"
	attrDisabled  = "disabled"
	attrAt        = "at"
	attrEnabled   = "enabled"
	attrExpires   = "expiresAt"

	suffixNote  = "Note"
	suffixBy    = "By"
	suffixToken = "Token"
)

// Parts and rows.
const (
	partLive     = "live"
	partReleases = "releases"
	rowCurrent   = "current"
	statePrefix  = "state#"
)

func versionPart(number int64) string { return "version#" + strconv.FormatInt(number, 10) }

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func num(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func key(part, row string) attributes { return attributes{attrPart: str(part), attrRow: str(row)} }

func encodeVersion(v registry.Version) attributes {
	return attributes{
		attrNumber: num(v.Number), attrToken: str(v.Token), attrBytes: num(int64(v.Bytes)), attrSHA256: str(v.SHA256),
		attrAppliedAt: num(v.AppliedAt.UnixMilli()), attrBy: str(v.By), attrChunks: num(int64(v.Chunks)),
	}
}

// decodeVersion reads a version as far as it can. What is missing or of another type stays zero.
func decodeVersion(item attributes) registry.Version {
	return registry.Version{
		Number: integer(item, attrNumber), Token: text(item, attrToken), Bytes: int(integer(item, attrBytes)), SHA256: text(item, attrSHA256),
		AppliedAt: instant(item, attrAppliedAt), By: text(item, attrBy), Chunks: int(integer(item, attrChunks)),
	}
}

// decodeVersions reads the row "current": its version and those before it.
func decodeVersions(item attributes) []registry.Version {
	current := decodeVersion(item)
	if current.Number == 0 {
		return nil
	}
	versions := []registry.Version{current}
	if history, ok := item[attrHistory].(*types.AttributeValueMemberL); ok {
		for _, old := range history.Value {
			if m, ok := old.(*types.AttributeValueMemberM); ok {
				versions = append(versions, decodeVersion(m.Value))
			}
		}
	}
	return versions
}

func decodeState(item attributes) registry.State {
	mark := func(name string) registry.Mark {
		return registry.Mark{Since: instant(item, name), Note: text(item, name+suffixNote), By: text(item, name+suffixBy)}
	}
	return registry.NewState(mark(attrPaused), mark(attrDisabled))
}

func has(item attributes, name string) bool {
	_, ok := item[name]
	return ok
}

func text(item attributes, name string) string {
	if s, ok := item[name].(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

func binary(item attributes, name string) []byte {
	if b, ok := item[name].(*types.AttributeValueMemberB); ok {
		return b.Value
	}
	return nil
}

func integer(item attributes, name string) int64 {
	if n, ok := item[name].(*types.AttributeValueMemberN); ok {
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil {
			return i
		}
	}
	return 0
}

func instant(item attributes, name string) time.Time {
	if ms := integer(item, name); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}
