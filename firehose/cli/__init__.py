"""The command `firehose`."""

from firehose.cli.main import main

__all__ = ["main"]
