"""The service: builds streams from their configuration, supervises them, keeps house, and stops."""

from firehose.service.service import Service

__all__ = ["Service"]
