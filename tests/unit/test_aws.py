"""Clients of AWS and the translation of their errors. No server: answers are made by hand, as AWS words them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from botocore import exceptions as botocore

from firehose.aws import RENEWED_AFTER_S, RETIRED_S, AwsClients, aws_errors, is_aws
from firehose.errors import (
    AccessDeniedError,
    ConflictError,
    FirehoseError,
    IntegrityError,
    InvalidError,
    NotFoundError,
    RetryableError,
    ThrottledError,
    UnavailableError,
)


def translated(service: str, error: Exception) -> FirehoseError:
    with pytest.raises(FirehoseError) as found, aws_errors(service, "s3://lake"):
        raise error
    assert found.value.__cause__ is error
    return found.value


def answer(
    code: str, status: int = 400, *, operation: str = "PutObject", headers: dict[str, str] | None = None
) -> botocore.ClientError:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}
    response: Any = {"Error": {"Code": code, "Message": "as AWS says"}, "ResponseMetadata": metadata}
    return botocore.ClientError(response, operation)


@pytest.mark.parametrize(
    ("service", "code", "status", "kind", "ours"),
    [
        ("s3", "AccessDenied", 403, AccessDeniedError, "S3.AccessDenied"),
        ("s3", "InvalidAccessKeyId", 403, AccessDeniedError, "S3.AccessDenied"),
        ("s3", "SignatureDoesNotMatch", 403, AccessDeniedError, "S3.AccessDenied"),
        ("s3", "ExpiredToken", 400, AccessDeniedError, "S3.InvalidToken"),
        ("s3", "InvalidToken", 400, AccessDeniedError, "S3.InvalidToken"),
        ("s3", "AllAccessDisabled", 403, AccessDeniedError, "S3.AllAccessDisabled"),
        ("s3", "NoSuchBucket", 404, NotFoundError, "S3.NoSuchBucket"),
        ("s3", "404", 404, NotFoundError, "S3.NotFound"),
        ("s3", "403", 403, AccessDeniedError, "S3.AccessDenied"),
        ("s3", "SlowDown", 503, ThrottledError, "S3.SlowDown"),
        ("s3", "InternalError", 500, UnavailableError, "S3.InternalError"),
        ("s3", "ServiceUnavailable", 503, UnavailableError, "S3.ServiceUnavailable"),
        ("s3", "PermanentRedirect", 301, InvalidError, "S3.IllegalLocationConstraintException"),
        ("s3", "PreconditionFailed", 412, ConflictError, "S3.PreconditionFailed"),
        ("s3", "ConditionalRequestConflict", 409, ConflictError, "S3.ConditionalRequestConflict"),
        ("s3", "BadDigest", 400, IntegrityError, "S3.BadDigest"),
        ("s3", "KMS.DisabledException", 400, InvalidError, "S3.KMS.DisabledException"),
        ("s3", "KMS.KMSInvalidStateException", 400, InvalidError, "S3.KMS.InvalidStateException"),
        ("s3", "KMS.NotFoundException", 400, NotFoundError, "S3.KMS.NotFoundException"),
        ("s3", "KMS.RequestLimitExceeded", 503, ThrottledError, "S3.KMS.RequestLimitExceeded"),
        ("s3", "KMS.AccessDeniedException", 403, AccessDeniedError, "S3.KMS.AccessDeniedException"),
        ("lambda", "TooManyRequestsException", 429, ThrottledError, "Lambda.InvokeLimitExceeded"),
        ("lambda", "AccessDeniedException", 403, AccessDeniedError, "Lambda.InvokeAccessDenied"),
        ("lambda", "ResourceNotFoundException", 404, NotFoundError, "Lambda.ResourceNotFound"),
        ("lambda", "ServiceException", 500, UnavailableError, "Lambda.InternalServerError"),
        ("glue", "EntityNotFoundException", 400, NotFoundError, "DataFormatConversion.EntityNotFound"),
        ("glue", "AccessDeniedException", 400, AccessDeniedError, "DataFormatConversion.AccessDenied"),
        ("glue", "ThrottlingException", 400, ThrottledError, "DataFormatConversion.ThrottledByGlue"),
        ("kms", "NotFoundException", 400, NotFoundError, "KMS.NotFoundException"),
        ("kms", "KMSInvalidStateException", 400, InvalidError, "KMS.InvalidStateException"),
        ("s3", "SomethingNew", 429, ThrottledError, "S3.SlowDown"),
        ("s3", "SomethingNew", 502, UnavailableError, "S3.InternalError"),
        ("s3", "SomethingNew", 400, InvalidError, "S3.InvalidRequest"),
    ],
)
def test_answers_become_our_errors_with_firehoses_codes(
    service: str, code: str, status: int, kind: type[FirehoseError], ours: str
) -> None:
    error = translated(service, answer(code, status))
    assert type(error) is kind
    assert error.code == ours
    assert f"s3://lake: PutObject: {code}: as AWS says" in str(error)


def test_a_role_that_may_not_be_assumed_is_told_apart() -> None:
    error = answer("AccessDenied", 403, operation="AssumeRole")
    assert translated("lambda", error).code == "Lambda.AssumeRoleAccessDenied"
    assert translated("s3", error).code == "S3.AccessDenied"
    assert "AssumeRole" in str(translated("s3", error))


def test_the_wish_to_be_asked_later_is_handed_on() -> None:
    error = translated("s3", answer("SlowDown", 503, headers={"retry-after": "7"}))
    assert isinstance(error, RetryableError)
    assert error.retry_after_ms == 7_000


@pytest.mark.parametrize(
    "error",
    [
        botocore.EndpointConnectionError(endpoint_url="http://nowhere:9000"),
        botocore.ConnectTimeoutError(endpoint_url="http://nowhere:9000"),
        botocore.ReadTimeoutError(endpoint_url="http://nowhere:9000"),
        botocore.ConnectionClosedError(endpoint_url="http://nowhere:9000"),
        aiohttp.ClientPayloadError("cut off"),
        TimeoutError(),
    ],
)
def test_a_server_that_does_not_answer_is_unavailable(error: Exception) -> None:
    found = translated("s3", error)
    assert isinstance(found, UnavailableError)
    assert found.code == "S3.ServiceUnavailable"


@pytest.mark.parametrize(
    "error",
    [
        botocore.NoCredentialsError(),
        botocore.ProfileNotFound(profile="work"),
        botocore.SSOTokenLoadError(error_msg="no token"),
    ],
)
def test_missing_credentials_say_what_to_set(error: Exception) -> None:
    found = translated("s3", error)
    assert isinstance(found, AccessDeniedError)
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(found)


def test_what_botocore_refuses_to_send_is_invalid() -> None:
    assert isinstance(translated("s3", botocore.ParamValidationError(report="Invalid bucket name")), InvalidError)
    assert isinstance(translated("s3", botocore.NoRegionError()), InvalidError)


def test_errors_that_are_not_of_aws_pass() -> None:
    with pytest.raises(KeyError), aws_errors("s3", "s3://lake"):
        raise KeyError


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://s3.eu-central-1.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", True),
        ("http://127.0.0.1:9000", False),
        ("https://amazonaws.com.example.org", False),
        ("https://minio.internal/amazonaws", False),
    ],
)
def test_endpoints_of_aws_are_known(url: str, expected: bool) -> None:
    assert is_aws(url) is expected


# --- clients ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def clients() -> AsyncIterator[AwsClients]:
    made = AwsClients("eu-west-1")
    yield made
    await made.close()


async def test_the_same_options_give_the_same_client(clients: AwsClients) -> None:
    one = await clients.client("s3")
    assert await clients.client("s3") is one
    assert await clients.client("s3", region="us-west-2") is not one


async def test_the_region_comes_from_the_option_the_environment_or_the_server(
    clients: AwsClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await clients.client("kms", region="us-west-2")).meta.region_name == "us-west-2"
    assert (await clients.client("kms")).meta.region_name == "us-east-1"  # AWS_DEFAULT_REGION
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    assert (await clients.client("sts")).meta.region_name == "ap-south-1"
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert (await clients.client("glue")).meta.region_name == "eu-west-1"


async def test_the_endpoint_comes_from_the_option_or_the_environment(
    clients: AwsClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://all:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://store:2")
    assert (await clients.client("s3")).meta.endpoint_url == "http://store:2"
    assert (await clients.client("kms")).meta.endpoint_url == "http://all:1"
    assert (await clients.client("s3", endpoint_url="http://other:3")).meta.endpoint_url == "http://other:3"


async def test_the_bucket_is_in_the_path_wherever_the_endpoint_is_not_aws(
    clients: AwsClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def url(**options: Any) -> str:
        client = await clients.client("s3", region="us-west-2", **options)
        return str(await client.generate_presigned_url("get_object", {"Bucket": "lake", "Key": "a"}))

    assert (await url()).startswith("https://lake.s3.")
    assert (await url(path_style=True)).startswith("https://s3.us-west-2.amazonaws.com/lake/a")
    assert (await url(endpoint_url="http://store:9000")).startswith("http://store:9000/lake/a")
    assert (await url(endpoint_url="http://store:9000", path_style=False)).startswith("http://lake.store:9000/a")


async def test_botocore_does_not_retry_and_does_not_wait_for_ever(clients: AwsClients) -> None:
    config = (await clients.client("s3")).meta.config
    assert config.retries["total_max_attempts"] == 1
    assert (config.connect_timeout, config.read_timeout) == (10, 60)
    assert (await clients.client("lambda", read_timeout_ms=310_000)).meta.config.read_timeout == 310


async def test_an_endpoint_that_is_no_url_is_invalid(clients: AwsClients) -> None:
    with pytest.raises(InvalidError, match="AWS client of s3"):
        await clients.client("s3", endpoint_url="nowhere")


async def test_a_profile_that_does_not_exist_is_said_so(clients: AwsClients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "work")
    with pytest.raises(AccessDeniedError, match="work"):
        await clients.client("s3")


async def test_a_role_without_credentials_to_assume_it_says_what_to_set(
    clients: AwsClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessDeniedError, match="AWS_ACCESS_KEY_ID"):
        await clients.client("s3", role_arn="arn:aws:iam::123456789012:role/firehose")


async def test_closed_clients_are_made_anew(clients: AwsClients) -> None:
    one = await clients.client("s3")
    await clients.close()
    assert await clients.client("s3") is not one


def test_importing_the_sink_does_not_load_botocore() -> None:
    code = "import sys, firehose.aws, firehose.sinks.s3; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


async def test_a_client_whose_credentials_are_refused_is_made_anew_and_the_old_one_closed_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 1_000.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now_s)
    clients = AwsClients("us-east-1")
    try:
        first = await clients.client("s3")
        (held,) = clients._clients.values()
        for code, is_refused in (("403", True), ("AccessDenied", False), ("ExpiredToken", True)):
            held.look(parsed={"Error": {"Code": code}}, model=None)
            assert held.is_refused is is_refused
        held.look(parsed={})
        assert not held.is_refused, "it was answered"
        held.is_refused = True
        assert await clients.client("s3") is first, "not at once"
        now_s += RENEWED_AFTER_S
        second = await clients.client("s3")
        assert second is not first and await clients.client("s3") is second
        assert len(clients._retired) == 1
        (held,) = clients._clients.values()
        held.is_refused = True
        now_s += RETIRED_S + 1
        assert await clients.client("s3") is not second
        assert len(clients._retired) == 1, "the first is closed, the second may be in use"
    finally:
        monkeypatch.undo()
        await clients.close()


async def test_credentials_that_are_not_there_yet_are_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    clients = AwsClients("us-east-1")
    try:
        for _ in range(2):
            with pytest.raises(AccessDeniedError, match="Unable to locate credentials; set AWS_ACCESS_KEY_ID"):
                await clients.client("s3")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        assert await clients.client("s3") is await clients.client("s3")
    finally:
        await clients.close()
