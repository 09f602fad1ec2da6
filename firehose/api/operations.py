"""The control plane of the API: create, describe, list and delete delivery streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from firehose.api import describe, puts, shapes
from firehose.api.destination import stream_config
from firehose.api.wire import IN_USE, Members, WireError, unsupported
from firehose.errors import ConflictError, NotFoundError
from firehose.ports import StreamService, StreamView

#: How many names are listed where the caller does not say.
_LIST_LIMIT: Final = 10
_TAG_LIMIT: Final = 50


class ControlPlane:
    """Answers everything but puts. What the API knows and this version lacks is refused by name."""

    def __init__(self, service: StreamService) -> None:
        self._service = service
        self._calls: dict[str, Callable[[Members], Awaitable[Members]]] = {
            "CreateDeliveryStream": self._create,
            "DescribeDeliveryStream": self._describe,
            "ListDeliveryStreams": self._list,
            "DeleteDeliveryStream": self._delete,
            "ListTagsForDeliveryStream": self._list_tags,
        }

    async def call(self, operation: str, body: Any) -> Members:
        """Return the answer to one call. Errors: WireError, FirehoseError."""
        members = shapes.check(operation, body)
        answer = self._calls.get(operation)
        if answer is None:
            raise unsupported(operation)
        return await answer(members)

    async def _create(self, request: Members) -> Members:
        name, account = request["DeliveryStreamName"], self._service.account
        config = stream_config(request)
        try:
            await self._service.create_stream(name, config, definition=request)
        except ConflictError as error:
            message = f"Firehose {name} under accountId {account} already exists"
            raise WireError(IN_USE, message) from error
        return {"DeliveryStreamARN": describe.arn(name, region=self._service.region, account=account)}

    async def _describe(self, request: Members) -> Members:
        view = self._find(request["DeliveryStreamName"])
        service = self._service
        described = describe.description(view, region=service.region, account=service.account)
        return {"DeliveryStreamDescription": described}

    async def _list(self, request: Members) -> Members:
        kind = request.get("DeliveryStreamType", "DirectPut")
        after = request.get("ExclusiveStartDeliveryStreamName", "")
        limit = request.get("Limit", _LIST_LIMIT)
        names = [each.name for each in self._service.streams() if each.name > after and kind == "DirectPut"]
        return {"DeliveryStreamNames": names[:limit], "HasMoreDeliveryStreams": len(names) > limit}

    async def _delete(self, request: Members) -> Members:
        name = request["DeliveryStreamName"]
        self._find(name)
        await self._service.delete_stream(name)
        return {}

    async def _list_tags(self, request: Members) -> Members:
        after, limit = request.get("ExclusiveStartTagKey", ""), request.get("Limit", _TAG_LIMIT)
        tags = describe.tags(self._find(request["DeliveryStreamName"]))
        listed = [{"Key": key, "Value": value} for key, value in tags.items() if key > after]
        return {"Tags": listed[:limit], "HasMoreTags": len(listed) > limit}

    def _find(self, name: str) -> StreamView:
        try:
            return self._service.stream(name)
        except NotFoundError as error:
            raise puts.not_found(self._service, name) from error
