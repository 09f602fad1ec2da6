"""A function with the AWS Lambda contract: drops health checks, refuses what is no JSON object, passes the rest on."""

import base64
import json


def handler(event, context):
    return {"records": [clean(record) for record in event["records"]]}


def clean(record):
    answer = {"recordId": record["recordId"], "result": "Ok", "data": record["data"]}
    try:
        page_view = json.loads(base64.b64decode(record["data"]))
    except ValueError:
        return answer | {"result": "ProcessingFailed"}
    if page_view.get("page") == "/healthz":
        return {"recordId": record["recordId"], "result": "Dropped"}
    return answer
