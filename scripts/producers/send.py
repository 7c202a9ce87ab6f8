# Sends events to Waybill: python3 send.py QUEUE_URL
import json
import os
import sys

import boto3

TENANT = "acme"

entries = []  # up to 10 of them, 1 MiB together
for order, total in ((502, 19.90), (503, 5.25)):
    event = {
        "specversion": "1.0",
        "id": f"order-{order}-paid",  # from what happened: sent again, it is the same event and is delivered once
        "source": "/shop/orders",
        "type": "order.paid",
        "tenant": TENANT,
        "data": {"order": order, "total": total},
    }
    entries.append({"Id": str(len(entries)), "MessageGroupId": TENANT, "MessageBody": json.dumps(event)})

sqs = boto3.client("sqs", endpoint_url=os.environ.get("AWS_ENDPOINT_URL"))  # boto3 before 1.28 does not look there itself
answer = sqs.send_message_batch(QueueUrl=sys.argv[1], Entries=entries)
failed = answer.get("Failed", [])  # the call as a whole can succeed even so
if failed:
    sys.exit(f"not sent: {failed}")  # send them again: what did arrive is not delivered twice
