"""Proves the main job on real input: 1% of the lines damaged, repaired, replayed; every row and total accounted for.

    python proof/real_input.py --access-log apache_logs.gz --nginx-status nginx_json_plus_logs.gz

Any access log in the combined format and any snapshots of the NGINX Plus status API will do, gzip-compressed, a line
each. Public ones, the ones this was written for, are in the repository elastic/examples on GitHub, in the folders
`Common Data Formats/apache_logs` and `Common Data Formats/nginx_json_plus_logs`: download the files, `gzip` them.

What must be there is computed from the raw lines by plain Python; what is there is read by DuckDB, by fastparquet and
as plain files: no code of ours takes part in the comparison. Ends with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import fastparquet

# run as a file, Python looks for modules in the file's own folder only
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from proof.damage import ACCESS_LOG, NGINX_STATUS, Damage, Sent, damaged
from proof.service import Service, running

HERE = Path(__file__).resolve().parent

#: Decides which lines are damaged.
SEED = 20150517

#: What a line of the log tells to somebody who reads it without our function.
_LINE = re.compile(rb'\S+ .*? \[([^\]]*)\] "(?:[^"\\]|\\.)*" (\d{3}) (\d+|-)')

#: Which column holds which key of a snapshot, as in configs/nginx_status.yaml, and which are moments.
RENAMED = {
    "timestamp": "taken_at",
    "load_timestamp": "loaded_at",
    "1xx": "informational",
    "2xx": "successful",
    "3xx": "redirected",
    "4xx": "client_errors",
    "5xx": "server_errors",
}
MOMENTS = ("taken_at", "loaded_at")


class Report:
    """A table that is printed while it grows: what must be there beside what each reader found."""

    def __init__(self) -> None:
        self.differences = 0

    def title(self, text: str, *readers: str) -> None:
        print(f"\n{text:56}" + "".join(f"{reader:>20}" for reader in readers), flush=True)

    def row(self, what: str, expected: object, *found: object) -> None:
        """Print one line; anything but the expected is a difference."""
        agrees = all(each == expected for each in found)
        self.differences += not agrees
        cells = "".join(f"{_shown(each):>20}" for each in (expected, *found))
        print(f"  {what:54}{cells}  {'ok' if agrees else 'DIFFERS'}", flush=True)

    def rows(self, what: str, expected: Mapping[Any, Any], *found: Mapping[Any, Any]) -> None:
        """Print a line for each key of any of them."""
        for key in sorted({*expected, *(key for each in found for key in each)}):
            self.row(f"{what} {key}", expected.get(key), *(each.get(key) for each in found))


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


# What the lines say, read by plain Python.


def access_totals(lines: Iterable[bytes]) -> tuple[Counter[int], Counter[date]]:
    """Return requests by status and bytes by day in UTC."""
    by_status: Counter[int] = Counter()
    by_day: Counter[date] = Counter()
    for line in lines:
        found = _LINE.match(line)
        assert found is not None, line
        time, status, size = found.groups()
        by_status[int(status)] += 1
        moment = datetime.strptime(time.decode(), "%d/%b/%Y:%H:%M:%S %z")
        by_day[moment.astimezone(UTC).date()] += 0 if size == b"-" else int(size)
    return by_status, by_day


def zone_totals(snapshots: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Return successful responses by server zone: a map of structs of structs."""
    totals: Counter[str] = Counter()
    for snapshot in snapshots:
        for zone, facts in snapshot["server_zones"].items():
            totals[zone] += facts["responses"]["2xx"]
    return totals


def peer_totals(snapshots: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Return bytes received by state of the peer: a map of arrays of structs."""
    totals: Counter[str] = Counter()
    for snapshot in snapshots:
        for upstream in snapshot["upstreams"].values():
            for peer in upstream["peers"]:
                totals[peer["state"]] += peer["received"]
    return totals


# What the files hold, read by others.


def check_access_log(report: Report, lake: Path, lines: Sequence[bytes]) -> None:
    """Compare the table of the access log with the lines that must be in it."""
    files = sorted(map(str, (lake / "access_log").rglob("*.parquet")))
    source = _parquet(files)
    by_status, by_day = access_totals(lines)
    statuses, times, sizes = _columns(files, "status", "time", "bytes")
    bytes_by_day: Counter[date] = Counter()
    for time, size in zip(times, sizes, strict=True):
        bytes_by_day[time.date()] += size or 0
    report.title("access_log", "the log", "DuckDB", "fastparquet")
    report.row("rows", len(lines), _one(f"SELECT count(*) FROM {source}"), len(statuses))
    query = f"SELECT status, count(*) FROM {source} GROUP BY 1"
    report.rows("requests with status", by_status, _pairs(query), Counter(statuses))
    query = f"SELECT time::DATE, coalesce(sum(bytes), 0)::BIGINT FROM {source} GROUP BY 1"
    report.rows("bytes on", by_day, _pairs(query), bytes_by_day)


def check_nginx_status(report: Report, lake: Path, lines: Sequence[bytes]) -> None:
    """Compare the table of snapshots with those that must be in it, at the end value by value."""
    files = sorted(map(str, (lake / "nginx_status").rglob("*.parquet")))
    snapshots = [json.loads(line) for line in lines]
    source = _parquet(files)
    totals, accepted = _columns(files, "requests.total", "connections.accepted")
    report.title("nginx_status", "the log", "DuckDB", "fastparquet")
    report.row("rows", len(lines), _one(f"SELECT count(*) FROM {source}"), len(totals))
    for part, name, found in (("requests", "total", totals), ("connections", "accepted", accepted)):
        query = f"SELECT sum({part}.{name})::BIGINT FROM {source}"
        report.row(f"sum of {part}.{name}", sum(each[part][name] for each in snapshots), _one(query), sum(found))
    zones = f"SELECT unnest(map_entries(server_zones)) AS zone FROM {source}"
    query = f"SELECT zone.key, sum(zone.value.responses.successful)::BIGINT FROM ({zones}) GROUP BY 1"
    report.title("nested values", "the log", "DuckDB")
    report.rows("2xx of zone", zone_totals(snapshots), _pairs(query))
    upstreams = f"SELECT unnest(map_values(upstreams)) AS upstream FROM {source}"
    peers = f"SELECT unnest(upstream.peers) AS peer FROM ({upstreams})"
    query = f"SELECT peer.state, sum(peer.received)::BIGINT FROM ({peers}) GROUP BY 1"
    report.rows("bytes of peers that are", peer_totals(snapshots), _pairs(query))
    check_every_value(report, source, snapshots)


def check_every_value(report: Report, source: str, snapshots: Sequence[Mapping[str, Any]]) -> None:
    """Compare each snapshot's tree with its row: nothing lost, nothing NULL that had a value, nothing added."""
    expected = sorted(sorted(_leaves(_as_table(each))) for each in snapshots)
    found = sorted(sorted(_leaves(row)) for row in _rows(f"SELECT * FROM {source}"))
    pairs = zip(expected, found, strict=False)
    same = sum(len(set(wanted) & set(there)) for wanted, there in pairs)
    report.row("values, each in its place", sum(map(len, expected)), same)
    report.row("values beside those", 0, sum(map(len, found)) - same)


def _as_table(value: Any, name: object = None) -> Any:
    """Return a snapshot with the names and types that the table gives its parts."""
    if isinstance(value, dict):
        renamed = {RENAMED.get(key, key): each for key, each in value.items()}
        return {key: _as_table(each, key) for key, each in renamed.items()}
    if isinstance(value, list):
        return [_as_table(each) for each in value]
    if name in MOMENTS:
        return datetime.fromtimestamp(value / 1000, UTC).replace(tzinfo=None)
    return value


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every value that is not NULL, as text, with its path."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, f"{path}/{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _leaves(each, f"{path}/{index}")
    elif value is not None:
        yield path, str(value)


def check_failures(report: Report, service: Service, stream: str, lake: Path, sent: Sequence[Sent]) -> None:
    """Compare the error output with the damaged records: all of them, byte by byte, each with its reason."""
    entries = [
        json.loads(line)
        for file in sorted((lake / "failed" / stream).rglob("*"))
        if file.is_file()
        for line in file.read_bytes().splitlines()
    ]
    found = Counter((base64.b64decode(entry["rawData"]), _code(entry)) for entry in entries)
    report.title(f"error output of {stream}", "damaged", "found there")
    bad = [(each, each.damage) for each in sent if each.damage]
    for way in dict.fromkeys(way for _, way in bad):
        report.row(f"{way.name}: {way.reason[1].partition('.')[2]}", *_matching(bad, way, found))
    report.row("all", len(bad), len(entries))
    told = {
        (each["stage"], each["code"]): each["records"] for each in service.ask("failed_stats", stream=stream)["reasons"]
    }
    report.rows("firehose failed stats:", _by_name(Counter(way.reason for _, way in bad)), _by_name(told))


def _code(entry: Mapping[str, Any]) -> str:
    return str(entry.get("errorCode") or entry["lastErrorCode"])


def _matching(bad: Sequence[tuple[Sent, Damage]], way: Damage, found: Counter[tuple[bytes, str]]) -> tuple[int, int]:
    """Return how many records were damaged this way, and how many of them lie there with the reason for it."""
    wanted = Counter((each.record, way.reason[1]) for each, its in bad if its == way)
    return wanted.total(), (wanted & found).total()


def _by_name(counts: Mapping[tuple[str, str], int]) -> dict[str, int]:
    return {f"{stage} {code.partition('.')[2]}": count for (stage, code), count in counts.items()}


def check_account(report: Report, service: Service, expected: Mapping[str, Mapping[str, int]]) -> None:
    """Compare each stream's account, and whether it closes."""
    audit = service.command("audit")
    report.title("firehose audit", "expected", "found")
    for stream in audit["streams"]:
        for term, count in expected[stream["stream"]].items():
            report.row(f"{stream['stream']}: {term}", count, stream["total"][term])
    report.row("every account closes, hour by hour", True, audit["closes"])


def _parquet(files: Sequence[str]) -> str:
    return f"read_parquet({list(files)!r})"


def _rows(query: str) -> list[dict[str, Any]]:
    cursor = duckdb.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _pairs(query: str) -> dict[Any, Any]:
    return dict(duckdb.execute(query).fetchall())


def _one(query: str) -> int:
    ((value,),) = duckdb.execute(query).fetchall()
    return int(value)


def _columns(files: Sequence[str], *names: str) -> list[list[Any]]:
    """Return what fastparquet reads in these columns."""
    columns: list[list[Any]] = [[] for _ in names]
    for file in files:
        with open(file, "rb") as opened:  # given a name, fastparquet leaves the file open
            table = fastparquet.ParquetFile(opened).to_pandas(columns=list(names))
        for column, name in zip(columns, names, strict=True):
            column += table[name].astype(object).where(table[name].notna(), None).tolist()
    return columns


def _contents(lake: Path) -> dict[str, bytes]:
    return {str(path.relative_to(lake)): path.read_bytes() for path in lake.rglob("*") if path.is_file()}


def prove(access_log: Sequence[bytes], nginx_status: Sequence[bytes], home: Path) -> int:
    """Run the proof in the folder `home`, print its tables and return how many of their rows differ."""
    report, lake = Report(), home / "lake"
    environment = {"PROOF_LAKE": str(lake)}
    sent = {
        "access_log": damaged(access_log, ACCESS_LOG, seed=SEED),
        "nginx_status": damaged(nginx_status, NGINX_STATUS, seed=SEED),
    }
    good = {stream: [each.line for each in lines if not each.damage] for stream, lines in sent.items()}
    bad = {stream: len(lines) - len(good[stream]) for stream, lines in sent.items()}
    for stream, lines in sent.items():
        print(f"{stream}: {len(lines):,} lines, {bad[stream]:,} of them damaged", flush=True)

    with running(HERE / "firehose.yaml", home, environment) as service:
        for stream, lines in sent.items():
            service.put(stream, (each.record for each in lines))
        service.deliver()
        print("\n=== delivered, all but the damaged lines")
        check_access_log(report, lake, good["access_log"])
        check_nginx_status(report, lake, good["nginx_status"])
        for stream, lines in sent.items():
            check_failures(report, service, stream, lake, lines)
        terms = {
            stream: {"accepted": len(sent[stream]), "delivered": len(good[stream]), "failed": bad[stream], "pending": 0}
            for stream in sent
        }
        check_account(report, service, terms)

    with running(HERE / "repaired.yaml", home, environment) as service:
        print("\n=== repaired and replayed, twice")
        first = service.command("replay")
        service.deliver()
        after_first = _contents(lake)
        second = service.command("replay")
        service.deliver()
        report.title("firehose replay", "expected", "found")
        report.row("the first time: records replayed", sum(bad.values()), first["replayed"])
        report.row("the second time: records replayed", 0, second["replayed"])
        report.row("the second time: files changed", 0, len(after_first.items() ^ _contents(lake).items()))
        check_access_log(report, lake, access_log)
        check_nginx_status(report, lake, nginx_status)
        terms = {
            stream: {"accepted": len(lines), "delivered": len(lines), "failed": 0, "pending": 0}
            for stream, lines in sent.items()
        }
        check_account(report, service, terms)
    return report.differences


def _lines(path: Path) -> list[bytes]:
    return [line for line in gzip.decompress(path.read_bytes()).splitlines() if line.strip()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--access-log", type=Path, required=True, help="an access log, a line a request, in gzip")
    parser.add_argument(
        "--nginx-status", type=Path, required=True, help="status snapshots, one JSON object a line, in gzip"
    )
    parser.add_argument(
        "--home", type=Path, help="an empty folder to work in and leave as it is; default: a temporary one"
    )
    given = parser.parse_args()
    access_log, nginx_status = (_lines(path) for path in (given.access_log, given.nginx_status))
    with nullcontext(given.home) if given.home else tempfile.TemporaryDirectory(prefix="firehose-proof-") as home:
        differences = prove(access_log, nginx_status, Path(home))
    print(f"\n{differences} differences" if differences else "\nproved: nothing lost, nothing twice, nothing changed")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
