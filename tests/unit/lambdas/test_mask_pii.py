from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ALL = ["email", "card", "phone", "ip"]
VISA = "4111111111111111"


@pytest.fixture(scope="module")
def pii(load: Any) -> Any:
    return load("mask_pii")


@pytest.fixture(scope="module")
def masker_of(pii: Any) -> Any:
    def masker_of(*, patterns: list[str] = ALL, fields: tuple[str, ...] = (), key: str = "") -> Any:
        return pii.Masker(patterns=patterns, fields=list(fields), key=key)

    return masker_of


# --- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("ann@example.com", "[email]"),
        ("mail Ann.B+news@sub.example.co.uk, please", "mail [email], please"),
        ("<ann@example.com>;bob@example.org", "<[email]>;[email]"),
        ("'o'brien@example.com'", "'[email]'"),
        ("to=ann@example.com&x=1", "to=[email]&x=1"),
        ("jürgen@büro.de", "[email]"),
        ("x" * 300 + " ann@example.com", "x" * 300 + " [email]"),
        (VISA, "[card]"),
        ("4111 1111 1111 1111", "[card]"),
        ("4111-1111-1111-1111.", "[card]."),
        ("12 4111111111111111", "12 [card]"),
        ("5500005555555559 378282246310005 3782 822463 10005", "[card] [card] [card]"),
        ("6011000990139424,30569309025904,3530111333300000", "[card],[card],[card]"),
        ("+49 30 901820", "[phone]"),
        ("call +1 (555) 123-4567 now", "call [phone] now"),
        ("+14155550123", "[phone]"),
        ("+14155550123 20 people", "[phone] 20 people"),
        ("+1 (415) 555-0123 203.0.113.7", "[phone] [ip]"),
        ("(555) 123-4567 or 555-123-4567 or 555.123.4567", "[phone] or [phone] or [phone]"),
        ("203.0.113.7", "[ip]"),
        ("from 203.0.113.7:8080.", "from [ip]:8080."),
        ("client:203.0.113.7", "client:[ip]"),
        ("2001:db8::1", "[ip]"),
        ("[2001:DB8:0:0:8:800:200C:417A]:443", "[[ip]]:443"),
        ("client:2001:db8::1", "client:[ip]"),
        ("::ffff:192.0.2.128", "[ip]"),
        ("at ::1 and fe80::1%eth0", "at [ip] and [ip]%eth0"),
    ],
)
def test_personal_data_is_masked(masker_of: Any, text: str, masked: str) -> None:
    assert masker_of().mask_text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing here",
        "@mention and a@b and ann@localhost",
        "4111111111111112",  # Luhn says no
        "1767225600123456789",  # nanoseconds
        "0.4111111111111111",
        "41111111111111114111111111111111",
        "order 12345678",
        "2026-01-02T03:04:05.678Z",
        "10:05:03",
        "aa:bb:cc:dd:ee:ff",
        "std::string Foo::bar",
        "1.2.3.4.5",
        "999.1.1.1",
        "550e8400-e29b-41d4-a716-446655440000",
        "v1.2.3",
        "555-123-45678",
    ],
)
def test_other_text_stays(masker_of: Any, text: str) -> None:
    assert masker_of().mask_text(text) == text


@pytest.mark.parametrize("pattern", ALL)
def test_patterns_can_be_chosen(masker_of: Any, pattern: str) -> None:
    texts = {"email": "ann@example.com", "card": VISA, "phone": "+14155550123", "ip": "203.0.113.7"}
    masked = masker_of(patterns=[pattern]).mask_text(" ".join(texts.values()))
    assert masked == " ".join(f"[{kind}]" if kind == pattern else text for kind, text in texts.items())


def test_no_patterns_find_nothing(masker_of: Any) -> None:
    assert (
        masker_of(patterns=[]).mask(f'{{"a":{VISA},"b":"ann@example.com"}}') == f'{{"a":{VISA},"b":"ann@example.com"}}'
    )


def test_an_unknown_pattern_is_an_error_that_names_the_known(masker_of: Any) -> None:
    with pytest.raises(ValueError, match=r"MASK_PATTERNS: unknown iban; allowed: email, card, phone, ip"):
        masker_of(patterns=["email", "iban"])


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_the_example_of_the_docstring(pii: Any, run: Any, monkeypatch: Any) -> None:
    record, masked = re.findall(r"^    (\{.*\})$", pii.__doc__, re.MULTILINE)
    monkeypatch.setenv("MASK_FIELDS", "ssn")
    assert run(pii, record.encode()) == [("Ok", masked.encode())]


def test_strings_at_any_depth_are_masked_and_names_are_not(masker_of: Any) -> None:
    text = '{"ann@example.com":[{"x":"ann@example.com"},"203.0.113.7",null,true,7]}'
    assert masker_of().mask(text) == '{"ann@example.com":[{"x":"[email]"},"[ip]",null,true,7]}'


def test_escapes_do_not_hide_anything(masker_of: Any) -> None:
    assert masker_of().mask(r'{"a":"ann\u0040example.com"}') == '{"a":"[email]"}'


def test_numbers_are_searched_for_cards(masker_of: Any) -> None:
    assert masker_of().mask(f'{{"a":{VISA},"b":{int(VISA) + 1}}}') == f'{{"a":"[card]","b":{int(VISA) + 1}}}'


def test_a_record_with_nothing_to_mask_stays_byte_for_byte(masker_of: Any) -> None:
    text = ' {"a" : 1.10,\t"b":"\\u00e9" , "c": 1e400}\r\n'
    assert masker_of().mask(text) == text


def test_numbers_beside_masked_values_keep_their_digits(masker_of: Any) -> None:
    text = '{"a":"ann@example.com","b":1.10,"c":-1E+400,"d":0.12345678901234567890,"e":123456789012345678901234567890}'
    assert masker_of().mask(text) == text.replace("ann@example.com", "[email]")


def test_several_objects_in_a_record_keep_what_stands_between(masker_of: Any) -> None:
    assert masker_of().mask('{"a":"ann@example.com"}\n{"b":1}{"c":2.50}\n') == '{"a":"[email]"}\n{"b":1}{"c":2.50}\n'


@pytest.mark.parametrize("text", ["[INFO] ann@example.com", '{"a":"ann@example.com"', '{"a":NaN} ann@example.com'])
def test_what_is_not_quite_json_is_text(masker_of: Any, text: str) -> None:
    assert masker_of().mask(text) == text.replace("ann@example.com", "[email]")


# --- fields ----------------------------------------------------------------------------------------------------------


def test_named_fields_are_masked_whatever_they_hold(masker_of: Any) -> None:
    text = '{"SSN":"1","a":{"ssn":2.5,"b":[{"ssn":{"x":1}},{"Ssn":[1]}]},"ssn2":"3","s":{"ssn":null}}'
    masked = re.sub(r'"(ssn)":("1"|2.5|{"x":1}|\[1\])', r'"\1":"[masked]"', text, flags=re.IGNORECASE)
    assert masked.count("[masked]") == 4
    assert masker_of(fields=("ssn",)).mask(text) == masked


def test_a_path_names_one_field_only(masker_of: Any) -> None:
    text = '{"user":{"name":"A","pets":[{"name":"B"}]},"name":"C"}'
    assert masker_of(fields=("user.name",)).mask(text) == text.replace('"A"', '"[masked]"')
    assert masker_of(fields=("User.Pets.Name",)).mask(text) == text.replace('"B"', '"[masked]"')


def test_text_fails_where_fields_are_named(pii: Any, run: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("MASK_FIELDS", " ssn , name ")
    text, masked, other = run(pii, b"ssn=1", b'{"ssn":1}', b'"ssn"')
    assert (text, masked, other[0]) == (
        ("ProcessingFailed", b"ssn=1"),
        ("Ok", b'{"ssn":"[masked]"}'),
        "ProcessingFailed",
    )


# --- hashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann@Example.com", "ann@example.com"),
        ("4111 1111 1111 1111", VISA),
        ("+1 (415) 555-0123", "+14155550123"),
        ("2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_a_keyed_hash_is_the_same_however_it_is_written(masker_of: Any, one: str, other: str) -> None:
    masker = masker_of(key="k")
    assert masker.mask_text(one) == masker.mask_text(other)
    assert re.fullmatch(r"\[(email|card|phone|ip):[0-9a-f]{16}\]", masker.mask_text(one))


def test_hashes_depend_on_key_kind_and_value(masker_of: Any) -> None:
    masker = masker_of(key="k", fields=("f",))
    hashes = {
        masker.mask_text("ann@example.com"),
        masker.mask_text("bob@example.com"),
        masker_of(key="l").mask_text("ann@example.com"),
        masker.mask('{"f":"ann@example.com"}'),
        masker.mask('{"f":1.50}'),
        masker.mask('{"f":1.5}'),
        masker.mask('{"f":[1]}'),
    }
    assert len(hashes) == 7


def test_hashes_of_numbers_do_not_change_from_process_to_process(load: Any) -> None:
    values = [
        load("mask_pii").Masker(patterns=[], fields=["f"], key="k").mask('{"f":{"x":1.50},"g":2.50}') for _ in range(2)
    ]
    assert values[0] == values[1]
    assert values[0].endswith('"g":2.50}')


def test_the_environment_is_read(pii: Any, run: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("MASK_PATTERNS", "email, ip")
    monkeypatch.setenv("MASK_KEY", "k")
    ((_, data),) = run(pii, f"ann@example.com {VISA} 203.0.113.7".encode())
    assert re.fullmatch(rb"\[email:[0-9a-f]{16}\] 4111111111111111 \[ip:[0-9a-f]{16}\]", data)


# --- records ---------------------------------------------------------------------------------------------------------


def test_bytes_that_are_not_utf8_fail_alone(pii: Any, run: Any) -> None:
    assert run(pii, b"\xff", b"", b"ann@example.com\n") == [
        ("ProcessingFailed", b"\xff"),
        ("Ok", b""),
        ("Ok", b"[email]\n"),
    ]


def test_json_nested_too_deep_fails_alone(pii: Any, run: Any) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert [result for result, _ in run(pii, deep, b"{}")] == ["ProcessingFailed", "Ok"]


def test_hostile_text_takes_no_time(masker_of: Any) -> None:
    masker = masker_of()
    for text in (
        "a" * 500_000,
        "1" * 500_000,
        "a." * 250_000,
        "1 " * 250_000,
        ":" * 500_000,
        "@" * 500_000,
        "+1" * 250_000,
    ):
        assert masker.mask_text(text) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_without_patterns_only_named_fields_change(load: Any, value: Any) -> None:
    pii = load("mask_pii")
    given_text = json.dumps({"f": "secret", "value": value})
    masked = json.loads(pii.Masker(patterns=[], fields=["f.never", "no key of any example"], key="").mask(given_text))
    assert masked == {"f": "secret", "value": value}


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_an_address_between_blanks_never_survives(load: Any, before: str, after: str) -> None:
    masker = load("mask_pii").Masker(patterns=ALL, fields=[], key="")
    assert "ann@example.com" not in masker.mask_text(f"{before} ann@example.com {after}")


@settings(max_examples=200, deadline=None)
@given(st.integers(min_value=2 * 10**11, max_value=7 * 10**17 - 1))
def test_a_luhn_digit_makes_a_card_and_no_other_does(load: Any, digits: int) -> None:
    cards = [digit for digit in range(10) if load("mask_pii").is_card(f"{digits}{digit}")]
    assert len(cards) == (1 if str(digits)[0] in "23456" else 0)
