"""Masks personal data: e-mail addresses, payment card numbers, phone numbers, IP addresses, and fields you name.

An AWS Lambda function for Firehose: runs here (`functions: {mask: {path: transforms/mask_pii.py}}`) and, unchanged, on
AWS Lambda with the handler `mask_pii.handler`. With `MASK_FIELDS=ssn` the record

    {"user":{"mail":"Ann@example.com","ssn":"078-05-1120"},"text":"card 4111 1111 1111 1111 from 203.0.113.7","n":9.90}

becomes

    {"user":{"mail":"[email]","ssn":"[masked]"},"text":"card [card] from [ip]","n":9.90}

Environment variables:
- `MASK_PATTERNS`: which of `email,card,phone,ip` to look for; default: all. Phone numbers are found with a `+` in front
  or in the form of North America.
- `MASK_FIELDS`: names of JSON fields, with commas between, at any depth and in any case (`ssn`), or from the top with
  dots (`user.ssn`). Their values are masked whatever they are; null stays null.
- `MASK_KEY`: a secret. What is masked is then replaced by a keyed hash (`[email:1f0c5e8a9b3d7642]`), the same for the
  same address, card or number however it is written, so that records can still be counted and joined.

Records are JSON objects or lists, one or more, or else text. Names of JSON fields are not searched, and JSON numbers
only for cards. What is not masked keeps its value, numbers to the last digit; a record with nothing to mask stays as it
is, byte for byte. A record that is not UTF-8 fails, and so does one that is not JSON where `MASK_FIELDS` is set.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import os
import re
import uuid
from collections.abc import Iterator
from typing import Any

#: What is looked for, at each place of the text in this order. Repeats are bounded, so that time is linear in the text.
PATTERNS = {
    "email": r"(?<![\w.%+-])[\w.%+-][\w.%+'-]{0,255}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}",
    "card": r"(?<![\d.])(?:\d{13,19}|\d{4}(?P<by4>[ -])\d{4}(?P=by4)\d{4}(?P=by4)\d{4}(?:(?P=by4)\d{1,3})?"
    r"|\d{4}(?P<amex>[ -])\d{6}(?P=amex)\d{5})(?!\d)",
    "phone": r"(?<![\w+])\+(?:\d{8,15}|\d(?:[ ().-]{0,2}\d){7,14})(?!\.?\d)"
    r"|(?<![\w.-])(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])",
    "ip": r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)"
    r"|(?<![0-9A-Fa-f.])(?:::|[0-9A-Fa-f]{1,4}:)[0-9A-Fa-f:]{1,39}(?:(?:\.\d{1,3}){3})?(?![\w:])",
}

#: Stands before and after the digits of JSON numbers with fractions, which are kept as text: floats would round them.
_NUMBER = uuid.uuid4().hex
_SPACE = re.compile(r"[ \t\r\n]*")


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer Firehose's event."""
    masker = Masker(
        patterns=_words(os.environ.get("MASK_PATTERNS", ",".join(PATTERNS))),
        fields=_words(os.environ.get("MASK_FIELDS", "")),
        key=os.environ.get("MASK_KEY", ""),
    )
    return {"records": [_transformed(record, masker) for record in event["records"]]}


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _transformed(record: dict[str, Any], masker: Masker) -> dict[str, Any]:
    try:
        text = masker.mask(base64.b64decode(record["data"]).decode())
    except (ValueError, binascii.Error, RecursionError):
        return {"recordId": record["recordId"], "result": "ProcessingFailed", "data": record["data"]}
    return {"recordId": record["recordId"], "result": "Ok", "data": base64.b64encode(text.encode()).decode()}


class Masker:
    """Masks text and JSON. Errors: ValueError where a pattern is not known."""

    def __init__(self, *, patterns: list[str], fields: list[str], key: str) -> None:
        unknown = sorted(set(patterns) - set(PATTERNS))
        if unknown:
            raise ValueError(f"MASK_PATTERNS: unknown {', '.join(unknown)}; allowed: {', '.join(PATTERNS)}")
        alternatives = [f"(?P<{kind}>{pattern})" for kind, pattern in PATTERNS.items() if kind in patterns]
        self._find = re.compile("|".join(alternatives) or r"(?!)")
        self._finds_cards = "card" in patterns
        self._names = {field.lower() for field in fields if "." not in field}
        self._paths = {field.lower() for field in fields if "." in field}
        self._key = key.encode()

    def mask(self, text: str) -> str:
        """Return a record without personal data. Errors: ValueError where fields are named and it is not JSON."""
        try:
            values = list(_values(text))
        except ValueError:
            if self._names or self._paths:
                raise
            return self.mask_text(text)
        masked = [self._value(value, "") for value, _ in values]
        if masked == [value for value, _ in values]:
            return text
        return "".join(_json(value) + space for value, (_, space) in zip(masked, values, strict=True))

    def mask_text(self, text: str) -> str:
        """Return `text` with all that the patterns find masked."""
        return self._find.sub(self._found, text)

    def _value(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {name: self._field(name, each, f"{path}.{name}".lower()) for name, each in value.items()}
        if isinstance(value, list):
            return [self._value(each, path) for each in value]
        if isinstance(value, str):
            return value if value.startswith(_NUMBER) else self.mask_text(value)
        if isinstance(value, int) and self._finds_cards and is_card(str(value)):
            return self._mask("card", str(value))
        return value

    def _field(self, name: str, value: Any, path: str) -> Any:
        if name.lower() not in self._names and path[1:] not in self._paths:
            return self._value(value, path)
        return None if value is None else self._mask("masked", value if isinstance(value, str) else _json(value))

    def _found(self, found: re.Match[str]) -> str:
        kind, text = str(found.lastgroup), found[0]
        if (kind == "card" and not is_card(text)) or (kind == "ip" and not _is_address(text)):
            return text
        return self._mask(kind, text)

    def _mask(self, kind: str, text: str) -> str:
        if not self._key:
            return f"[{kind}]"
        digest = hmac.new(self._key, f"{kind}:{_normal(kind, text)}".encode(), hashlib.sha256).hexdigest()
        return f"[{kind}:{digest[:16]}]"


def is_card(text: str) -> bool:
    """Return whether the digits in `text` are those of a payment card: 13 to 19, a network's first, Luhn's last."""
    digits = [int(digit) for digit in text if digit.isdigit()]
    if not 13 <= len(digits) <= 19 or digits[0] not in (2, 3, 4, 5, 6):
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _normal(kind: str, text: str) -> str:
    """Return the one form of what can be written in several, so that it has one hash."""
    if kind == "email":
        return text.lower()
    if kind in ("card", "phone"):
        return re.sub(r"\D", "", text)
    return ipaddress.ip_address(text).compressed if kind == "ip" else text.replace(_NUMBER, "")


def _values(text: str) -> Iterator[tuple[Any, str]]:
    """Yield the JSON objects and lists in `text`, each with the space behind it. Errors: ValueError, it is not JSON."""
    decoder = json.JSONDecoder(parse_float=lambda digits: f"{_NUMBER}{digits}{_NUMBER}", parse_constant=_refuse)
    at = 0
    while at < len(text):
        if text[at] not in "{[":
            raise ValueError("not JSON")
        value, end = decoder.raw_decode(text, at)
        space = _SPACE.match(text, end)
        assert space is not None
        yield value, space[0]
        at = space.end()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace(f'"{_NUMBER}', "").replace(f'{_NUMBER}"', "")
