"""The proof over real input, on logs of the same shape made here; and that it notices what it is there to notice."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proof import real_input
from proof.damage import ACCESS_LOG, NGINX_STATUS, damaged

pytestmark = pytest.mark.integration

#: 2,000 and 500: 1% of them is enough for each way of damaging a line.
LINES, SNAPSHOTS = 2_000, 500

AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0",
    'a \\"quoted\\" agent',
    "curl/8.10.1",
    "-",
)


def access_log(chance: random.Random) -> list[bytes]:
    at = datetime(2026, 7, 12, 21, 0, tzinfo=UTC)
    return [access_line(chance, at + timedelta(seconds=40 * number)) for number in range(LINES)]


def access_line(chance: random.Random, at: datetime) -> bytes:
    status = chance.choices([200, 206, 301, 304, 404, 500], [88, 2, 2, 4, 3, 1])[0]
    size = "-" if status == 304 else str(chance.choice([0, chance.randrange(1, 10**6), 10**10]))
    request = f"{chance.choice(['GET', 'HEAD', 'POST'])} /{chance.randrange(500)}?q=[{chance.random():.3f}] HTTP/1.1"
    user = chance.choice(["-", "-", "ann"])
    time = at.strftime("%d/%b/%Y:%H:%M:%S +0000")
    host, agent = ".".join(str(chance.randrange(256)) for _ in range(4)), chance.choice(AGENTS)
    return f'{host} - {user} [{time}] "{request}" {status} {size} "https://example.com/" "{agent}"'.encode()


def responses(chance: random.Random) -> dict[str, int]:
    counts = {f"{family}xx": chance.randrange(10**6) for family in range(1, 6)}
    return counts | {"total": sum(counts.values())}


def peer(chance: random.Random, number: int) -> dict[str, Any]:
    found = {"id": number, "server": f"10.0.0.{number}:80", "backup": number > 0, "weight": 1, "active": 0}
    found |= {
        "state": chance.choice(["up", "down"]),
        "requests": chance.randrange(10**9),
        "responses": responses(chance),
    }
    found |= {"received": chance.randrange(10**12), "health_checks": {"checks": 3, "fails": 0, "last_passed": True}}
    return found | ({"max_conns": 42} if number else {})


def snapshot(chance: random.Random, number: int) -> bytes:
    found = {
        "version": 6,
        "address": "192.0.2.7",
        "load_timestamp": 1_783_900_000_123,
        "timestamp": 1_783_951_509_001 + 5_000 * number,
        "pid": 64_000 + number % 2,
        "connections": {"accepted": chance.randrange(10**9), "dropped": 0, "active": 2, "idle": 9},
        "requests": {"total": chance.randrange(10**9), "current": chance.randrange(9)},
        "server_zones": {
            zone: {"processing": 0, "requests": 7, "responses": responses(chance)}
            for zone in ("www.example.com", "api.example.com")
        },
        "upstreams": {
            "api-backend": {"peers": [peer(chance, each) for each in range(chance.randrange(4))], "keepalive": 0}
        },
        "caches": {
            "http_cache": {"size": 1, "cold": False, "miss": {"responses": 5, "bytes": chance.randrange(10**9)}}
        },
        "stream": {"server_zones": {"postgres": {"connections": 4, "sent": 9}}, "upstreams": {}},
    }
    return json.dumps(found, separators=(",", ":")).encode()


def test_the_proof_holds_and_notices_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(20260713)
    lines, snapshots = access_log(chance), [snapshot(chance, number) for number in range(SNAPSHOTS)]
    assert real_input.prove(lines, snapshots, tmp_path) == 0, capsys.readouterr().out

    # the lake as it now is, against logs that say something else
    lake, report = tmp_path / "lake", real_input.Report()
    real_input.check_access_log(report, lake, lines[1:])
    assert report.differences >= 2  # the rows, and a status or a day
    one_value = [*snapshots[1:], snapshots[0].replace(b'"idle":9', b'"idle":8')]
    report = real_input.Report()
    real_input.check_nginx_status(report, lake, one_value)
    assert report.differences == 2  # a value that is not in its place, and another that is beside


@pytest.mark.parametrize(("stream", "ways"), [("access_log", ACCESS_LOG), ("nginx_status", NGINX_STATUS)])
def test_every_way_of_damage_is_used_and_changes_its_line(stream: str, ways: Any) -> None:
    chance = random.Random(1)
    lines = access_log(chance) if stream == "access_log" else [snapshot(chance, number) for number in range(SNAPSHOTS)]
    sent = damaged(lines, ways, seed=1)
    assert [each.line for each in sent] == lines
    assert {each.damage for each in sent} == {None, *ways}
    assert sum(each.damage is not None for each in sent) == len(lines) // 100
    assert all((each.record != each.line) == (each.damage is not None) for each in sent)
    assert damaged(lines, ways, seed=1) == sent != damaged(lines, ways, seed=2)
