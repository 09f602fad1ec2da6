"""ProcessingConfiguration: the processors of a stream, checked, put into our words, and filled in for Describe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from firehose.api.wire import Members, invalid, unsupported
from firehose.transforms.contract import ARN_PATTERN

#: Parameters of the Lambda processor and what the service fills in, in the order it describes them.
LAMBDA_DEFAULTS: Final = {
    "LambdaArn": None,
    "NumberOfRetries": "3",
    "RoleArn": None,
    "BufferSizeInMBs": "1",
    "BufferIntervalInSeconds": "60",
}
_MAX_PROCESSORS: Final = 5

#: Parameters of the MetadataExtraction processor, and the one engine there is.
QUERY: Final = "MetadataExtractionQuery"
ENGINE: Final = "JsonParsingEngine"
_JQ: Final = "JQ-1.6"

#: The parameters of Decompression and of CloudWatchLogProcessing.
FORMAT: Final = "CompressionFormat"
EXTRACTION: Final = "DataMessageExtraction"


def is_enabled(processing: Members | None) -> bool:
    """Return whether processors run: left out means no."""
    return bool(processing and processing.get("Enabled", False))


def check(processing: Members | None) -> None:
    """Check what the model of the API cannot. Disabled, the block is kept as it is. Errors: WireError."""
    if processing is None or not is_enabled(processing):
        return
    processors = processing.get("Processors", [])
    if not 1 <= len(processors) <= _MAX_PROCESSORS:
        raise invalid("A maximum of 5 and a minimum of 1 processor needs to be supplied when processing is enabled.")
    types = [each["Type"] for each in processors]
    if types.count("Lambda") > 1:
        raise invalid("Cannot have more than 1 Lambda processor")
    for kind in types:
        if kind == "RecordDeAggregation":
            raise unsupported(f"The {kind} processor")
        if types.count(kind) > 1:
            raise invalid(f"Cannot have more than 1 {kind} processor")
    for each in processors:
        if each["Type"] in _CHECKS:
            _CHECKS[each["Type"]](each)
    if "CloudWatchLogProcessing" in types and "Decompression" not in types:
        raise invalid("CloudWatchLogProcessingProcessor can only be enabled with DecompressionProcessor")


def transforms(processing: Members | None) -> list[Members]:
    """Return the transforms of a checked block, in the words of the configuration and the order of the service."""
    if processing is None or not is_enabled(processing):
        return []
    given = {each["Type"]: each for each in processing["Processors"]}
    return [words for kind, make in _TRANSFORMS.items() if kind in given for words in make(given[kind])]


def query(processing: Members | None) -> str | None:
    """Return the query of a checked block that finds partition keys, None where there is none."""
    if processing is None or not is_enabled(processing):
        return None
    found = (_parameters(each)[QUERY] for each in processing["Processors"] if each["Type"] == "MetadataExtraction")
    return next(found, None)


def extraction(text: str) -> Members:
    """Return the processor of a query."""
    return processor("MetadataExtraction", {QUERY: text, ENGINE: _JQ})


def appends_delimiter(processing: Members | None) -> bool:
    """Return whether a newline goes between records."""
    if processing is None or not is_enabled(processing):
        return False
    return any(each["Type"] == "AppendDelimiterToRecord" for each in processing["Processors"])


def description(processing: Members | None, *, role: str) -> Members:
    """Return the block as Describe shows it: parameters of a Lambda that were left out are filled in."""
    if processing is None:
        return {"Enabled": False, "Processors": []}
    described = []
    for each in processing.get("Processors", []):
        given = _parameters(each)
        if each["Type"] == "Lambda":
            given = {**LAMBDA_DEFAULTS, "RoleArn": role, **given}
        if each["Type"] == "AppendDelimiterToRecord":
            given = {}
        described.append(processor(each["Type"], given))
    return {"Enabled": is_enabled(processing), "Processors": described}


def processor(kind: str, parameters: dict[str, str]) -> Members:
    """Return a processor in the words of the API."""
    listed = [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]
    return {"Type": kind, "Parameters": listed}


def _parameters(given: Members) -> dict[str, Any]:
    return {each["ParameterName"]: each["ParameterValue"] for each in given.get("Parameters", [])}


def _checked(processor: Members, known: Sequence[str]) -> dict[str, str]:
    """Return the parameters of a processor. Errors: WireError where one is not known, or given twice."""
    given, kind = _parameters(processor), processor["Type"]
    if len(given) != len(processor.get("Parameters", [])):
        raise invalid(f"A parameter of the {kind} processor is given more than once.")
    if unknown := sorted(given.keys() - set(known)):
        raise invalid(f"Parameters of the {kind} processor are {', '.join(known)}; not {', '.join(unknown)}.")
    return given


def _check_extraction(processor: Members) -> None:
    given = _checked(processor, (QUERY, ENGINE))
    for name in (QUERY, ENGINE):
        if not given.get(name):
            raise invalid(f"{name} must be specified for the MetadataExtraction processor.")
    if given[ENGINE] != _JQ:
        raise invalid(f"JsonParsingEngine must be {_JQ}, not {given[ENGINE]!r}.")


def _check_lambda(processor: Members) -> None:
    given = _checked(processor, tuple(LAMBDA_DEFAULTS))
    if "LambdaArn" not in given:
        raise invalid("LambdaArn must be specified for the Lambda processor.")
    if not re.fullmatch(ARN_PATTERN, given["LambdaArn"]):
        raise invalid(
            f"LambdaArn {given['LambdaArn']!r} is not the ARN of a Lambda function: "
            "arn:aws:lambda:REGION:ACCOUNT:function:NAME, with :VERSION or without."
        )
    _number(given, "NumberOfRetries", "0", "300", is_whole=True)
    _number(given, "BufferSizeInMBs", "0.2", "3", is_whole=False)
    _number(given, "BufferIntervalInSeconds", "0", "900", is_whole=True)


def _number(given: dict[str, str], name: str, low: str, high: str, *, is_whole: bool) -> None:
    text = given.get(name, low)
    try:
        value = Decimal(text)
        is_right = Decimal(low) <= value <= Decimal(high) and (not is_whole or value == int(value))
    except InvalidOperation:
        is_right = False
    if not is_right:
        raise invalid(f"{name} must be a {'whole ' if is_whole else ''}number between {low} and {high}, not {text!r}.")


def _check_decompression(processor: Members) -> None:
    if _checked(processor, (FORMAT,)).get(FORMAT) != "GZIP":
        raise invalid("CompressionFormat has to be GZIP")


def _check_message_extraction(processor: Members) -> None:
    if _checked(processor, (EXTRACTION,)).get(EXTRACTION, "").lower() not in ("true", "false"):
        raise invalid("Invalid parameter value for DataMessageExtraction. Allowed values are True and False.")


def _decompress(processor: Members) -> list[Members]:
    return [{"type": "decompress"}]


def _cloudwatch_logs(processor: Members) -> list[Members]:
    is_wanted = _parameters(processor)[EXTRACTION].lower() == "true"
    return [{"type": "cloudwatch_logs", "control_messages": "empty"}] if is_wanted else []


def _lambda(processor: Members) -> list[Members]:
    parameters = _parameters(processor)
    given = LAMBDA_DEFAULTS | parameters
    # what is left out is described as the service's minute, but a record need not wait for it
    wait_s = int(Decimal(parameters.get("BufferIntervalInSeconds", "0")))
    words = {
        "type": "lambda",
        "arn": given["LambdaArn"],
        "retries": int(Decimal(given["NumberOfRetries"])),
        "buffer_size": int(Decimal(given["BufferSizeInMBs"]) * 2**20),
        "buffer_interval": f"{wait_s}s",
    }
    return [words]


_CHECKS: Final = {
    "Decompression": _check_decompression,
    "CloudWatchLogProcessing": _check_message_extraction,
    "Lambda": _check_lambda,
    "MetadataExtraction": _check_extraction,
}

#: What each processor is in the configuration, in the order in which the service runs them, however they are listed.
_TRANSFORMS: Final = {
    "Decompression": _decompress,
    "CloudWatchLogProcessing": _cloudwatch_logs,
    "Lambda": _lambda,
}
