package wire

// The account and region that everything at the local endpoint belongs to.
const (
	AccountID = "000000000000"
	Region    = "us-east-1"
)
