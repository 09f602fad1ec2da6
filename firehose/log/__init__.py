"""The embedded ingest log: what producers put is durable here until every row is delivered."""

from firehose.log.backlog import LogStats, SegmentAccount
from firehose.log.frame import Lane, Token
from firehose.log.inspection import Inspection, inspect
from firehose.log.journal import IngestLog
from firehose.log.reader import LogShard
from firehose.log.receipts import KEY_BYTES
from firehose.log.writer import Appended

__all__ = [
    "KEY_BYTES",
    "Appended",
    "IngestLog",
    "Inspection",
    "Lane",
    "LogShard",
    "LogStats",
    "SegmentAccount",
    "Token",
    "inspect",
]
