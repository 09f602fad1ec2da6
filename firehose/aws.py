"""Clients of AWS, and what their errors mean to us.

One place makes clients: the standard chain of regions, credentials and endpoints (`AWS_ENDPOINT_URL_S3`), a role
assumed only where one is named, and no retries of botocore's own, because the worker retries. One place translates
errors. botocore is imported by the first client: a service that talks to no AWS never loads it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

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

CONNECT_TIMEOUT_MS = 10_000
READ_TIMEOUT_MS = 60_000

#: Connections a client may hold at once: enough for the parts of a few large objects beside many small ones.
MAX_CONNECTIONS = 50

#: How old a client must be to be made anew because its credentials were refused: 2 s are 50 ms of CPU every 2 s.
RENEWED_AFTER_S = 2.0

#: How long a client stays open that was replaced: as long as a request may take, and some.
RETIRED_S = 90.0

#: What AWS says of credentials that are not right, or not any more; the numbers are all that an answer to HEAD says. A
#: policy that denies (AccessDenied) is none of it: other credentials are not found for that.
_ABOUT_CREDENTIALS = {
    *("ExpiredToken", "ExpiredTokenException", "InvalidToken", "InvalidAccessKeyId"),
    *("SignatureDoesNotMatch", "InvalidClientTokenId", "UnrecognizedClientException", "TokenRefreshRequired"),
    *("400", "401", "403"),
}

#: botocore's words; its `auto` is what `client` says of None.
_ADDRESSING_STYLES = {True: "path", False: "virtual", None: "auto"}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """All that tells one client from another."""

    service: str
    region: str | None
    role_arn: str | None
    external_id: str | None
    endpoint_url: str | None
    path_style: bool | None
    read_timeout_ms: int


@dataclass(slots=True)
class _Held:
    """A client, and what closes it. `is_refused`: the last answer it got was about its credentials."""

    client: Any
    open: AsyncExitStack
    made_s: float
    is_refused: bool = False

    def look(self, parsed: Mapping[str, Any], **_: Any) -> None:
        """Take note of an answer, as botocore's `after-call`."""
        self.is_refused = parsed.get("Error", {}).get("Code", "") in _ABOUT_CREDENTIALS


class AwsClients:
    """Makes clients of AWS and keeps them until closed. `region`: where nothing else says one.

    One whose credentials are refused is made anew, with those that are found then: a file that was put right, or a
    profile that came later, heals what waits without a restart.
    """

    def __init__(self, region: str | None = None) -> None:
        self._region = region
        self._clients: dict[_Wanted, _Held] = {}
        #: Clients that may be in use yet, and since when they are not handed out.
        self._retired: list[tuple[float, AsyncExitStack]] = []
        self._making = asyncio.Lock()

    async def client(
        self,
        service: str,
        *,
        region: str | None = None,
        role_arn: str | None = None,
        external_id: str | None = None,
        endpoint_url: str | None = None,
        path_style: bool | None = None,
        read_timeout_ms: int = READ_TIMEOUT_MS,
    ) -> Any:
        """Return the client of `service` for these options; the same options give the same client.

        `path_style` (S3 only): put the bucket into the path instead of the host name. None: wherever an endpoint is
        given, because other stores rarely have a host name for each bucket.

        Errors: AccessDeniedError without credentials or profile, InvalidError where an option makes no sense.
        """
        wanted = _Wanted(service, region, role_arn, external_id, endpoint_url, path_style, read_timeout_ms)
        async with self._making:
            held, now_s = self._clients.get(wanted), asyncio.get_running_loop().time()
            if held is None or (held.is_refused and now_s - held.made_s >= RENEWED_AFTER_S):
                with aws_errors(service, f"AWS client of {service}"):
                    made = await self._make(wanted, now_s)
                if held is not None:
                    self._retired.append((now_s, held.open))
                self._clients[wanted] = held = made
                await self._close_retired(now_s - RETIRED_S)
        return held.client

    async def close(self) -> None:
        """Close all clients; the next one asked for is made anew."""
        async with AsyncExitStack() as stack:
            for held in self._clients.values():
                stack.push_async_callback(held.open.aclose)
            for _, opened in self._retired:
                stack.push_async_callback(opened.aclose)
            self._clients.clear()
            self._retired.clear()

    async def _close_retired(self, before_s: float) -> None:
        for entry in [each for each in self._retired if each[0] < before_s]:
            self._retired.remove(entry)
            await entry[1].aclose()

    async def _make(self, wanted: _Wanted, now_s: float) -> _Held:
        from aiobotocore.session import get_session
        from botocore.exceptions import NoCredentialsError

        session = get_session()
        region = wanted.region or os.environ.get("AWS_REGION") or session.get_config_variable("region") or self._region
        if wanted.role_arn:
            session = await _session_of_role(session, wanted.role_arn, wanted, region)
        elif await session.get_credentials() is None:
            raise NoCredentialsError()  # and it is looked again for them the next time
        made = session.create_client(
            wanted.service, region_name=region, endpoint_url=wanted.endpoint_url, config=_config(wanted)
        )
        opened = AsyncExitStack()
        try:
            held = _Held(await opened.enter_async_context(made), opened, now_s)
        except ValueError as error:
            raise InvalidError(
                f"AWS client of {wanted.service}: {error}", code=_code(wanted.service, "InvalidRequest")
            ) from error
        held.client.meta.events.register("after-call", held.look)
        return held


def is_aws(endpoint_url: str) -> bool:
    """Return whether the endpoint is one of AWS itself, in any partition."""
    return ".amazonaws." in f"{urlsplit(endpoint_url).hostname}"


def _config(wanted: _Wanted) -> Any:
    from aiobotocore.config import AioConfig

    return AioConfig(
        connect_timeout=CONNECT_TIMEOUT_MS / 1_000,
        read_timeout=wanted.read_timeout_ms / 1_000,
        max_pool_connections=MAX_CONNECTIONS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        # Checksums newer than Content-MD5 are refused by many stores that speak S3; we send MD5, which all know.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Content-MD5 is a signed header, so it covers the body too; hashing it again would block the event loop.
        s3={"addressing_style": _ADDRESSING_STYLES[wanted.path_style], "payload_signing_enabled": False},
        warm_up_loader_caches=True,  # reads the service's model from disk in a thread
    )


async def _session_of_role(session: Any, role_arn: str, wanted: _Wanted, region: str | None) -> Any:
    """Return a session whose credentials are the role's, taken when first needed and renewed before they end."""
    from aiobotocore.credentials import AioAssumeRoleCredentialFetcher, AioDeferredRefreshableCredentials
    from aiobotocore.session import get_session
    from botocore.exceptions import NoCredentialsError

    source = await session.get_credentials()
    if source is None:
        raise NoCredentialsError()
    arguments = {"RoleSessionName": f"AWSFirehoseTo{wanted.service.title()}"}
    if wanted.external_id:
        arguments["ExternalId"] = wanted.external_id
    fetcher = AioAssumeRoleCredentialFetcher(
        partial(session.create_client, region_name=region, config=_config(wanted)),
        source,
        role_arn,
        extra_args=arguments,
    )
    role_session: Any = get_session()
    # The one way in: botocore takes fixed credentials through its front door, but not those that renew themselves.
    role_session._credentials = AioDeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
    return role_session


# --- errors ----------------------------------------------------------------------------------------------------------

#: What codes of a service begin with. Glue's appear where records are converted, so Firehose calls them that.
_NAMES = {"s3": "S3", "lambda": "Lambda", "glue": "DataFormatConversion", "kms": "KMS", "sts": "STS"}

#: What AWS's error codes are to us. Those of KMS reach us through S3 too, then with `KMS.` in front.
_KINDS: dict[type[FirehoseError], str] = {
    ThrottledError: """
        SlowDown RequestLimitExceeded TooManyRequestsException Throttling ThrottlingException ThrottledException
        RequestThrottled LimitExceededException EC2ThrottledException 503""",
    UnavailableError: """
        InternalError InternalFailure InternalServiceException ServiceUnavailable ServiceException RequestTimeout
        OperationTimeoutException ResourceNotReadyException
        KMSInternalException DependencyTimeoutException KeyUnavailableException OperationAborted""",
    AccessDeniedError: """
        AccessDenied AccessDeniedException UnauthorizedOperation InvalidAccessKeyId SignatureDoesNotMatch InvalidToken
        ExpiredToken ExpiredTokenException TokenRefreshRequired InvalidClientTokenId UnrecognizedClientException
        RequestTimeTooSkewed AccountProblem AllAccessDisabled InvalidPayer NotSignedUp SubscriptionRequired
        OptInRequired""",
    NotFoundError: """
        NoSuchBucket NoSuchKey NoSuchUpload NotFoundException ResourceNotFoundException EntityNotFoundException""",
    ConflictError: "PreconditionFailed ConditionalRequestConflict ConcurrentModificationException",
    IntegrityError: "BadDigest XAmzContentSHA256Mismatch",
    InvalidError: """
        DisabledException KMSInvalidStateException InvalidKeyUsageException KeyNotConfigured AsymmetricCMKNotSupported
        IllegalLocationConstraintException PermanentRedirect AuthorizationHeaderMalformed MethodNotAllowed
        NotImplemented InvalidInputException KeyTooLongError RequestTooLargeException GlueEncryptionException""",
}
_KIND_OF = {code: kind for kind, codes in _KINDS.items() for code in codes.split()}

#: Firehose's words, where they are others than the service's.
_RENAMED = {
    "503": "SlowDown",  # of HEAD, whose answers have no body that says more
    "InvalidAccessKeyId": "AccessDenied",
    "SignatureDoesNotMatch": "AccessDenied",
    "RequestTimeTooSkewed": "AccessDenied",
    "ExpiredToken": "InvalidToken",
    "ExpiredTokenException": "InvalidToken",
    "TokenRefreshRequired": "InvalidToken",
    "InvalidClientTokenId": "InvalidToken",
    "UnrecognizedClientException": "InvalidToken",
    "OptInRequired": "SubscriptionRequired",
    "PermanentRedirect": "IllegalLocationConstraintException",
    "AuthorizationHeaderMalformed": "IllegalLocationConstraintException",
    "KMSInvalidStateException": "InvalidStateException",
    "DataFormatConversion.OperationTimeoutException": "SchemaValidationTimeout",
    "Lambda.AccessDeniedException": "InvokeAccessDenied",
    "Lambda.TooManyRequestsException": "InvokeLimitExceeded",
    "Lambda.ResourceNotFoundException": "ResourceNotFound",
    "Lambda.ServiceException": "InternalServerError",
    "DataFormatConversion.AccessDeniedException": "AccessDenied",
    "DataFormatConversion.EntityNotFoundException": "EntityNotFound",
    "DataFormatConversion.InvalidInputException": "InvalidInput",
    "DataFormatConversion.ThrottlingException": "ThrottledByGlue",
}

#: What a code that is not listed counts as, so that the set of codes stays bounded; the text still names it.
_OTHERWISE: dict[type[FirehoseError], str] = {
    ThrottledError: "SlowDown",
    UnavailableError: "InternalError",
    AccessDeniedError: "AccessDenied",
    NotFoundError: "NotFound",
    ConflictError: "PreconditionFailed",
    InvalidError: "InvalidRequest",
}

_MISSING_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN if the key is temporary), "
    "or AWS_PROFILE, or give the machine a role"
)


@contextmanager
def aws_errors(service: str, resource: str) -> Iterator[None]:
    """Raise what botocore raises within as ours. `resource`: what was worked on, for people, like `s3://bucket`."""
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _from_answer(service, resource, error) from error
    except (BotoCoreError, aiohttp.ClientError, TimeoutError) as error:
        raise _from_failure(service, resource, error) from error


def _from_answer(service: str, resource: str, error: Any) -> FirehoseError:
    """Return what an error answer of AWS is to us."""
    answer: Mapping[str, Any] = error.response.get("Error", {})
    metadata: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    theirs = str(answer.get("Code", ""))
    kind = _KIND_OF.get(theirs.removeprefix("KMS."))
    if kind is None:
        kind = _kind_of_status(int(metadata.get("HTTPStatusCode", 0)))
        code = _code(service, _OTHERWISE[kind])
    else:
        code = _code(service, theirs)
    if error.operation_name == "AssumeRole" and kind is AccessDeniedError:
        code = _code(service, "AssumeRoleAccessDenied" if service == "lambda" else "AccessDenied")
    text = f"{resource}: {error.operation_name}: {theirs}: {answer.get('Message', 'no message')}"
    if kind is AccessDeniedError:
        text += "; check the credentials, and the policies of the user, the role and the resource"
    if issubclass(kind, RetryableError):
        return kind(text, code=code, retry_after_ms=_retry_after_ms(metadata.get("HTTPHeaders", {})))
    return kind(text, code=code)


def _kind_of_status(status: int) -> type[FirehoseError]:
    kinds = {
        401: AccessDeniedError,
        403: AccessDeniedError,
        404: NotFoundError,
        412: ConflictError,
        429: ThrottledError,
    }
    return kinds.get(status, UnavailableError if status >= 500 or status == 408 else InvalidError)


def _retry_after_ms(headers: Mapping[str, str]) -> int | None:
    seconds = headers.get("retry-after", "")
    return int(seconds) * 1_000 if seconds.isdecimal() and len(seconds) < 10 else None


def _from_failure(service: str, resource: str, error: Exception) -> FirehoseError:
    """Return what it is to us that no answer came, or that nothing could be asked."""
    from botocore import exceptions as botocore

    credentials = (
        botocore.NoCredentialsError,
        botocore.PartialCredentialsError,
        botocore.CredentialRetrievalError,
        botocore.TokenRetrievalError,
        botocore.MetadataRetrievalError,
        botocore.ProfileNotFound,
        botocore.SSOError,
        botocore.LoginError,
    )
    refused = (
        botocore.ParamValidationError,
        botocore.ValidationError,
        botocore.NoRegionError,
        botocore.UnknownServiceError,
        botocore.EndpointProviderError,
        botocore.InvalidConfigError,
    )
    if isinstance(error, credentials):
        return AccessDeniedError(f"{resource}: {error}; {_MISSING_CREDENTIALS}", code=_code(service, "AccessDenied"))
    if isinstance(error, refused):
        return InvalidError(f"{resource}: {error}", code=_code(service, "InvalidRequest"))
    text = str(error) or type(error).__name__
    cause = getattr(error, "kwargs", {}).get("error")  # like a name that does not resolve, or a refused connection
    if cause is not None and str(cause) not in text:
        text += f" ({cause})"
    return UnavailableError(f"{resource}: not reachable: {text}", code=_code(service, "ServiceUnavailable"))


def _code(service: str, theirs: str) -> str:
    """Return Firehose's code for AWS's: `S3.SlowDown`, `S3.KMS.DisabledException`, `Lambda.InvokeLimitExceeded`."""
    name = _NAMES.get(service, service.title())
    kms, word = ("KMS.", theirs.removeprefix("KMS.")) if theirs.startswith("KMS.") else ("", theirs)
    return f"{name}.{kms}{_RENAMED.get(f'{name}.{word}') or _RENAMED.get(word, word)}"
