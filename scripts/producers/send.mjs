// Sends events to Waybill: node send.mjs QUEUE_URL
import { SendMessageBatchCommand, SQSClient } from "@aws-sdk/client-sqs";

const tenant = "acme";

// Up to 10 of them, 1 MiB together.
const entries = [[502, 19.9], [503, 5.25]].map(([order, total], i) => ({
  Id: String(i),
  MessageGroupId: tenant,
  MessageBody: JSON.stringify({
    specversion: "1.0",
    id: `order-${order}-paid`, // from what happened: sent again, it is the same event and is delivered once
    source: "/shop/orders",
    type: "order.paid",
    tenant,
    data: { order, total },
  }),
}));

const sqs = new SQSClient({});
const { Failed = [] } = await sqs.send(new SendMessageBatchCommand({ QueueUrl: process.argv[2], Entries: entries }));
if (Failed.length > 0) { // the call as a whole can succeed even so
  console.error("not sent:", Failed); // send them again: what did arrive is not delivered twice
  process.exitCode = 1;
}
