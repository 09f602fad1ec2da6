"""Encryption of objects before they leave this machine."""
