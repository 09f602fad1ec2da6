"""What fails how: one case for each way in which a function can answer, with codes and texts that clients match on.

The code of a case is Python: it is given `records`, those of the event (`a`, `b` and `c`), and returns what the
function returns. `ok(record)` answers with the data in upper case.
"""

from __future__ import annotations

from dataclasses import dataclass

RECORDS = (b"a", b"b", b"c")

#: What comes before the code of a case.
PRELUDE = """
import base64, json, time

def ok(record, **more):
    data = base64.b64encode(base64.b64decode(record["data"]).upper()).decode()
    return {"recordId": record["recordId"], "result": "Ok", "data": data} | more

def answer(records):
"""

PROCESSING_FAILED = ("Lambda.ProcessingFailedStatus", "ProcessingFailed status set for record")
MISSING = (
    "Lambda.MissingRecordId",
    "One or more record Ids were not returned. Ensure that the Lambda function returns all received record Ids.",
)
DUPLICATED = (
    "Lambda.DuplicatedRecordId",
    "Multiple records were returned with the same record Id. Ensure that the Lambda function returns a unique record Id"
    " for each record.",
)
NULL_DATA = (
    "Lambda.InvalidReturnFormat",
    "The data field cannot be null when the SourceType is DirectPut or KinesisStreamAsSource and processing result is"
    " Ok. The value field cannot be null when the SourceType is MSKAsSource and processing result is Ok.",
)
WRONG_KEYS = ("Lambda.InvalidReturnFormat", 'metadata.partitionKeys has 42 for "customer", not a string')
FUNCTION_ERROR = (
    "Lambda.FunctionError",
    "The Lambda function was successfully invoked but it returned an error result.",
)
TIMED_OUT = (
    "Lambda.FunctionTimedOut",
    "The Lambda function invocation timed out. Increase the Timeout setting in the Lambda function.",
)
LIMIT_EXCEEDED = (
    "Lambda.InvokeLimitExceeded",
    "The Lambda throttling limit is exceeded. Increase the concurrency limit.",
)
ACCESS_DENIED = (
    "Lambda.InvokeAccessDenied",
    "Access was denied. Ensure that the access policy allows access to the Lambda function.",
)
NOT_FOUND = (
    "Lambda.ResourceNotFound",
    "Cannot invoke the Lambda function. Use a different function that does exist.",
)

#: What becomes of a record: its new data, None where it is dropped, or the code and text that it fails with.
Fate = bytes | None | tuple[str, str]

ALL_OK: tuple[Fate, ...] = (b"A", b"B", b"C")


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    name: str
    code: str
    fates: tuple[Fate, ...]
    is_retried: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def source(self) -> str:
        """The function `answer(records)`."""
        return PRELUDE + "".join(f"    {line}\n" for line in self.code.splitlines())

    def invocations(self, retries: int) -> int:
        return 1 + retries if self.is_retried else 1


def whole(name: str, code: str, why: tuple[str, str] = FUNCTION_ERROR, *, is_retried: bool = False) -> Case:
    """Return a case in which all records fail."""
    return Case(name, code, (why,) * 3, is_retried)


#: `first` is what the function answers for `a`.
FIRST = "return {'records': [FIRST, *map(ok, records[1:])]}"


def first(name: str, answered: str, fate: Fate) -> Case:
    """Return a case in which only the first record is not as it should be."""
    return Case(name, FIRST.replace("FIRST", answered.replace("RECORD", "records[0]")), (fate, b"B", b"C"))


SINGLE = [
    first("all is well", "ok(RECORD)", b"A"),
    first("dropped", "{'recordId': RECORD['recordId'], 'result': 'Dropped'}", None),
    first("dropped with data", "ok(RECORD) | {'result': 'Dropped'}", None),
    first("ProcessingFailed", "ok(RECORD) | {'result': 'ProcessingFailed'}", PROCESSING_FAILED),
    first(
        "ProcessingFailed without data", "ok(RECORD) | {'result': 'ProcessingFailed', 'data': None}", PROCESSING_FAILED
    ),
    first("empty data", "ok(RECORD) | {'data': ''}", b""),
    first("null data", "ok(RECORD) | {'data': None}", NULL_DATA),
    first("no data", "{'recordId': RECORD['recordId'], 'result': 'Ok'}", NULL_DATA),
    first("id missing", "*()", MISSING),
    first("another id", "ok(RECORD) | {'recordId': 'another'}", MISSING),
    first("id twice", "ok(RECORD), ok(RECORD)", DUPLICATED),
    first("id twice, once wrong", "ok(RECORD), ok(RECORD) | {'result': 'no'}", DUPLICATED),
    first("ids never sent", "ok(RECORD), ok(RECORD) | {'recordId': '49', 'result': 'no'}", b"A"),
    first("partition keys", "ok(RECORD, metadata={'partitionKeys': {'customer': '42'}})", b"A"),
    first("wrong partition keys", "ok(RECORD, metadata={'partitionKeys': {'customer': 42}})", WRONG_KEYS),
    first("otfMetadata", "ok(RECORD, metadata={'otfMetadata': {'operation': 'insert'}})", b"A"),
    Case("another order", "return {'records': [ok(each) for each in reversed(records)]}", ALL_OK),
    Case("records empty", "return {'records': []}", (MISSING,) * 3),
    Case("records null", "return {'records': None}", (MISSING,) * 3),
    Case("records absent", "return {}", (MISSING,) * 3),
]

WHOLE = [
    whole("unknown result", "return {'records': [ok(each) | {'result': 'OK'} for each in records]}"),
    whole("one unknown result", "return {'records': [ok(records[0], result='no'), *map(ok, records[1:])]}"),
    whole("no result", "return {'records': [ok(each) | {'result': None} for each in records]}"),
    whole("data not base64", "return {'records': [ok(each) | {'data': '?'} for each in records]}"),
    whole("data no text", "return {'records': [ok(each) | {'data': 5} for each in records]}"),
    whole("not JSON", "return float('nan')"),
    whole("no object", "return [ok(each) for each in records]"),
    whole("nothing", "return None"),
    whole("too large", "return {'records': [ok(each) | {'data': 'x' * 3_000_000} for each in records]}"),
]

RAISED = whole("raised", "raise ValueError('no')", is_retried=True)

#: What only a process of ours shows: a function behind the Lambda API says so itself.
TOOK_TOO_LONG = whole("timed out", "time.sleep(99)", TIMED_OUT, is_retried=True)

TABLE = [*SINGLE, *WHOLE, RAISED]
