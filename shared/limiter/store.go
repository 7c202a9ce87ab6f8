package limiter

import (
	"context"
	"errors"
)

// ErrRefused says that the row does not permit the step. Nothing was written; the row that is there comes with it.
var ErrRefused = errors.New("limiter: refused, the row stands elsewhere")

// Store keeps the rows. The driver for DynamoDB is shared/limiter/dynamo, one in memory is in shared/limiter/limitertest; both pass the suite there. Safe for
// concurrent use.
type Store interface {
	// Step makes a step as Step.Apply says, atomically, and gives the row as it is then. A destination without a row has the zero Row. After any error but
	// ErrRefused the step may have been made, even more than once: what it took is lost then, and the limit holds.
	Step(ctx context.Context, destination string, step Step) (Row, error)
}
