"""The HTTP face: the Firehose wire protocol, plain ingest for curl, health, metrics and the admin door.

AWS spelling lives only here: requests are checked against the API model, spoken in AWS words to clients and in the
words of the configuration to the service.
"""
