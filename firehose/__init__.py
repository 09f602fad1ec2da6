"""Self-hosted delivery streams: the Amazon Data Firehose API over a durable log."""
