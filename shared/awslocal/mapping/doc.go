// Package mapping does what AWS does between an SQS queue and a Lambda function: it polls the queue, builds
// batches, invokes the function in execution environments and settles each batch by the function's answer. It
// exists so that local mode and tests run the real handlers under Lambda's real rules, in real or virtual time.
//
// A [Function] is the Lambda side and can also be invoked on its own; a [Mapping] is the event source mapping; a
// [Queue] is what a mapping needs from SQS.
//
// # Rules kept
//
// From https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html and
// https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html:
//   - A batch holds at most 10 messages, or 10,000 from a standard queue when the window is at least 1 s.
//   - The window is 0 to 300 whole seconds and 0 for a FIFO queue.
//   - Creation fails if the queue's visibility timeout is shorter than the function's timeout. Changing either
//     later is not checked.
//
// From https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html and
// https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html:
//   - With window 0 a batch is what one ReceiveMessage call returned. With a window it is sent when it is full,
//     when its payload reaches 6 MB or when the window is over. A long poll that has begun is not cut short, so
//     on a quiet queue a window of 1 s can take 20.
//   - What does not fit into 6 MB becomes a batch of its own, which the same poller invokes after the first.
//   - The function sees a message at least once, in the event format of that page.
//
// From https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html:
//   - A standard or FIFO mapping begins with 5 concurrent batches, adds up to 300 a minute (here 5 each second)
//     as long as every poller has work, and stops at 1,250 or at MaximumConcurrency (2 to 1,000). Pollers beyond
//     the first 5 go when a long poll brings them nothing.
//   - MaximumConcurrency must not exceed the function's reserved concurrency. The page advises it; here it is
//     refused, because such a mapping burns receive counts.
//   - A FIFO queue gives out no message of a group while another of that group is in flight, so one batch at
//     most is in progress per group. One batch may hold several groups, each in order.
//
// From https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html:
//   - Success deletes the batch. A function error (an error, a panic, a timeout, a crash, an oversized response)
//     deletes nothing. Nothing is made visible early: what is not deleted waits for its visibility timeout,
//     unless the function changed it.
//   - With ReportBatchItemFailures an empty or null response, {} and an empty or null batchItemFailures delete
//     the batch. Invalid JSON, a list or an item of another type, and a missing, null, empty or unknown
//     itemIdentifier delete nothing. Otherwise exactly the messages not named are deleted. Keys are compared by
//     case, so a misspelt batchItemFailures is an absent one and deletes everything. A response that is JSON but
//     no object is not covered by the page; it counts as invalid.
//   - Without ReportBatchItemFailures each function error takes one poller away, down to 2, and scaling rests
//     until a batch succeeds. With it, errors do not slow polling.
//   - A throttled invocation is tried again after 1, 2, 4 … 30 s until the batch's visibility timeout would end;
//     then the batch is dropped: its messages reappear with their receive counts spent although no code ran. Each
//     batch that was throttled takes one poller away, whatever the response type. The page says "gradually"; the
//     figures are this package's.
//
// From https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html and
// https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html:
//   - An environment handles one invocation at a time and is used again, the most recent first. One that panicked,
//     timed out or crashed is thrown away. An error that the handler returns keeps it.
//   - The handler's context ends at the deadline and an answer after it is ignored. A handler's goroutine cannot
//     be killed as a sandbox is: it goes on with a cancelled context, and [Invocation.Ended] lets transports refuse
//     its calls.
//   - Code outside of this program, an [Environment], is another matter: it is initialised before the invocation's time
//     begins, is killed when that time ends, and goes after some time without work. One that was lost while idle fails
//     no invocation.
//   - Timeout is 1 to 900 whole seconds, payload and response are at most 6 MB.
//
// Left out: filter criteria, provisioned mode, the scale-down to 2 pollers on a quiet queue, the account-wide
// concurrency limit, and recursive-loop detection.
//
// All waits are on channels and timers, so everything here runs inside a testing/synctest bubble.
package mapping
