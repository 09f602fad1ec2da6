"""Encoders: rows in, the bytes of one object out, layer on layer with compression and encryption."""
