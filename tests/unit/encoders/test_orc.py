"""ORC files, read back by Apache's own reader (pyorc) and by pyarrow, which share their core."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyorc
import pytest
from hypothesis import HealthCheck, given, settings
from pyarrow import orc
from pydantic import ValidationError

from firehose import arrow
from firehose.converters.openx import OpenXConfig
from firehose.encoders import orc as orc_encoder
from firehose.encoders.orc import OrcConfig
from firehose.errors import InvalidError
from tests.unit.converters.tables import Case, cases
from tests.unit.encoders import every_type
from tests.unit.encoders.every_type import (
    COLUMNS,
    SCHEMA,
    batch_of,
    encoded,
    every_row,
    filled,
    in_whole_seconds,
    without_zone,
)

relaxed = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)

MICROSECOND = timedelta(microseconds=1)


def config(**options: Any) -> OrcConfig:
    return OrcConfig.model_validate({"table": "db.t", **options})


def write(*batches: pa.RecordBatch, **options: Any) -> bytes:
    return encoded(config(**options), *batches)


def reader(body: bytes, **options: Any) -> pyorc.Reader:
    return pyorc.Reader(BytesIO(body), struct_repr=pyorc.StructRepr.DICT, **options)


def read(body: bytes) -> list[Any]:
    return [without_zone(row) for row in reader(body)]


def numbers(count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": pa.array(range(count), pa.int64())})


@relaxed
@given(cases())
def test_any_rows_of_any_table_are_read_back(case: Case) -> None:
    columns = OpenXConfig().build(case.schema).convert(arrow.binary_column(case.records)).columns
    assert read(write(columns)) == in_whole_seconds(case.rows)


def test_every_type_to_its_ends() -> None:
    rows = list(every_row(30))
    found = reader(write(batch_of(rows)))
    types = {name: "string" if "char" in kind else kind for name, kind in COLUMNS.items()}
    assert str(found.schema) == f"struct<{','.join(f'{name}:{kind}' for name, kind in types.items())}>"
    assert [without_zone(row) for row in found] == filled_rows(rows)


@pytest.mark.parametrize(("first", "count"), [(0, 30), (1, 29), (3, 1), (7, 20), (29, 1)])
def test_slices_are_written_as_they_are(first: int, count: int) -> None:
    """However nested: Arrow's own writer takes the rows of structs from where the slice was cut."""
    rows = list(every_row(30))
    whole = batch_of(rows)
    inner = pa.ListArray.from_arrays(pa.array([0, *range(1, 30), 29], pa.int32()), whole.column("user").slice(1))
    whole = whole.append_column("inner", inner)
    found = read(write(whole.slice(first, count), whole.slice(0, first)))
    expected = [each | {"inner": inner[at].as_py()} for at, each in enumerate(filled_rows(rows))]
    assert found == expected[first : first + count] + expected[:first]


INNER = pa.struct([("n", pa.int32()), ("text", pa.string()), ("list", pa.list_(pa.int8()))])
IN = pa.struct([("inner", INNER), ("map", pa.map_(pa.string(), INNER))])
NULLS = pa.schema([("outer", IN), ("list", pa.list_(IN)), ("map", pa.map_(pa.int8(), IN))])


@pytest.mark.parametrize("outer_is_null", [False, True])
def test_rows_behind_a_null_in_nested_structs_keep_their_values(outer_is_null: bool) -> None:
    """Arrow's own writer has values for the fields of NULL, and gives them to the next rows."""
    values = [{"inner": None, "map": None}, {"inner": None, "map": {"a": None}}]
    for number in (1, 2):
        inner = {"n": number, "text": f"t{number}", "list": [number]}
        values.append({"inner": inner, "map": {"b": inner, "c": None, "d": inner}})
    values += [None, *values] if outer_is_null else values
    rows = [{"outer": each, "list": values, "map": {1: each, 2: None, 3: each}} for each in values] * 300
    assert read(write(batch_of(rows, NULLS))) == rows
    assert read(write(batch_of(rows, NULLS).slice(5, 1500))) == rows[5:1505]


def filled_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: filled(row[name], every_type.TYPES[name]) for name in COLUMNS} for row in rows]


def test_pyarrow_sees_the_types_and_values_too() -> None:
    columns = [field for field in SCHEMA if field.name != "far"]  # it reads times as 64 bits of nanoseconds
    rows = batch_of(list(every_row(30)))
    found = orc.ORCFile(BytesIO(write(rows))).read(columns=[field.name for field in columns])
    assert found.cast(pa.schema(columns)).equals(pa.table(rows).select(found.column_names))


class TestTimes:
    """Before 1970 ORC has whole seconds only."""

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (datetime(2026, 1, 2, 3, 4, 5, 678901),) * 2,
            (datetime(1970, 1, 1, 0, 0, 0, 1),) * 2,
            (datetime(1970, 1, 1),) * 2,
            (datetime(1970, 1, 1) - MICROSECOND, datetime(1969, 12, 31, 23, 59, 59)),
            (datetime(1969, 12, 31, 23, 59, 58, 500_000), datetime(1969, 12, 31, 23, 59, 58)),
            (datetime(1969, 12, 31, 23, 59, 58),) * 2,
            (datetime(1, 1, 1, 0, 0, 0, 1), datetime(1, 1, 1)),
            (datetime(9999, 12, 31, 23, 59, 59, 999999),) * 2,
            (None, None),
        ],
    )
    def test_times(self, given: datetime | None, expected: datetime | None) -> None:
        others = [None, datetime(1960, 5, 6, 7, 8, 9, 10)]
        rows = pa.RecordBatch.from_pydict({"t": pa.array([*others, given], pa.timestamp("us"))})
        assert read(write(rows)) == [{"t": None}, {"t": datetime(1960, 5, 6, 7, 8, 9)}, {"t": expected}]

    NESTED = pa.schema(
        [
            ("list", pa.list_(pa.timestamp("us"))),
            ("map", pa.map_(pa.string(), pa.struct([("at", pa.timestamp("us")), ("n", pa.int8())]))),
            ("struct", pa.struct([("list", pa.list_(pa.list_(pa.timestamp("us"))))])),
        ]
    )
    OLD = datetime(1960, 1, 1, 0, 0, 0, 9)
    ROWS = (
        {"list": [OLD, None, datetime(2000, 1, 1, 0, 0, 0, 9)], "map": {}, "struct": None},
        {"list": None, "map": None, "struct": {"list": None}},
        {"list": [], "map": {"a": {"at": OLD, "n": 1}, "b": None}, "struct": {"list": [[OLD], None, [None, OLD]]}},
        {"list": [OLD], "map": {"c": {"at": None, "n": None}}, "struct": {"list": []}},
    )

    @pytest.mark.parametrize(("first", "count"), [(0, 4), (1, 3), (2, 1), (3, 1), (1, 1), (0, 0)])
    def test_nested_and_sliced(self, first: int, count: int) -> None:
        rows = batch_of(list(self.ROWS), self.NESTED).slice(first, count)
        assert read(write(rows)) == [in_whole_seconds(row) for row in self.ROWS[first : first + count]]

    def test_the_rows_that_came_in_are_left_alone(self) -> None:
        rows = batch_of(list(self.ROWS), self.NESTED)
        write(rows)
        assert rows.equals(batch_of(list(self.ROWS), self.NESTED))


class TestOptions:
    """Each option is to be seen in the file."""

    @pytest.mark.parametrize("compression", ["none", "snappy", "zlib", "zstd", "lz4"])
    def test_compression(self, compression: str) -> None:
        rows = pa.RecordBatch.from_pydict({"text": [f"the same words again and again {n}" for n in range(2000)]})
        body = write(rows, compression=compression)
        assert reader(body).compression.name.lower() == compression
        assert (len(body) * 3 < rows.nbytes) == (compression != "none")
        assert [row["text"] for row in read(body)] == rows.column("text").to_pylist()

    def test_defaults_are_those_of_firehose(self) -> None:
        found = reader(write(numbers(1)))
        assert (found.compression.name, found.row_index_stride, found.format_version) == ("SNAPPY", 10_000, (0, 12))
        assert (config().stripe_size_bytes, config().bloom_filter_fpp) == (64 * 2**20, 0.05)

    @pytest.mark.parametrize(("version", "expected"), [("0.11", (0, 11)), ("0.12", (0, 12))])
    def test_file_version(self, version: str, expected: tuple[int, int]) -> None:
        rows = list(every_row(30))
        found = reader(write(batch_of(rows), file_version=version))
        assert found.format_version == expected
        assert [row["deep"] for row in found] == [filled(row["deep"], every_type.TYPES["deep"]) for row in rows]

    def test_row_index_stride(self) -> None:
        body = write(numbers(5000), row_index_stride=1000)
        assert reader(body).row_index_stride == 1000
        wanted = list(reader(body, predicate=pyorc.PredicateColumn(pyorc.TypeKind.LONG, "n") == 4321))
        assert [wanted[0], wanted[-1], len(wanted)] == [{"n": 4000}, {"n": 4999}, 1000]

    def test_stripes_end_at_their_size(self) -> None:
        texts = pa.array([f"{number * 7919 % 100_003:0100d}" for number in range(2000)])
        batch = pa.RecordBatch.from_arrays([texts], names=["text"])
        body = write(*[batch] * 30, stripe_size="1MiB", compression="none")
        assert 5 <= reader(body).num_of_stripes <= 8, "6 MB in stripes of 1 MiB, looked at after each thousand rows"
        assert reader(write(*[batch] * 30, compression="none")).num_of_stripes == 1

    def test_dictionaries_are_written_where_few_values_are_distinct(self) -> None:
        few = pa.array([f"this is one of five texts: {number % 5}" for number in range(5000)])
        rows = pa.RecordBatch.from_arrays([few], names=["text"])
        without, with_some, with_all = (
            len(write(rows, compression="none", dictionary_key_threshold=threshold)) for threshold in (0, 0.01, 1)
        )
        assert with_some * 20 < without
        assert with_some == with_all
        distinct = pa.RecordBatch.from_arrays([pa.array([f"{n:030d}" for n in range(5000)])], names=["text"])
        without, with_some = (
            len(write(distinct, compression="none", dictionary_key_threshold=threshold)) for threshold in (0, 0.8)
        )
        assert with_some == without

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"compression": "gzip"}, "Input should be 'snappy', 'zlib', 'zstd', 'lz4' or 'none'"),
            ({"stripe_size": "1KiB"}, "greater than or equal to 1048576"),
            ({"stripe_size": "4GiB"}, "less than or equal to 2147483647"),
            ({"row_index_stride": 999}, "greater than or equal to 1000"),
            ({"dictionary_key_threshold": 1.1}, "less than or equal to 1"),
            ({"dictionary_key_threshold": -0.1}, "greater than or equal to 0"),
            ({"bloom_filter_fpp": 0}, "greater than 0"),
            ({"bloom_filter_fpp": 1}, "less than 1"),
            ({"file_version": "0.13"}, "Input should be '0.11' or '0.12'"),
            ({"level": 3}, "Extra inputs are not permitted"),
        ],
    )
    def test_options_that_cannot_be_are_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValidationError) as caught:
            config(**options)
        assert message in str(caught.value)


class TestBloomFilters:
    """They belong to the columns that were named, whatever number ORC gives these."""

    KIND = pa.struct([("at", pa.timestamp("us")), ("id", pa.string()), ("more", pa.struct([("size", pa.int64())]))])
    TABLE = pa.schema(
        [
            ("first", pa.map_(pa.string(), pa.list_(pa.int32()))),
            ("user", KIND),
            ("Name", pa.string()),
            ("n", pa.int64()),
        ]
    )

    def rows(self) -> pa.RecordBatch:
        # each thousand rows has texts and numbers from all over, so that least and greatest values skip nothing
        ids = [f"{number * 7919 % 10_007:05d}" for number in range(10_000)]
        users = [{"id": each, "more": {"size": int(each)}} for each in ids]
        columns = {"first": [{"k": [1, 2]}] * len(ids), "user": users, "Name": ids, "n": map(int, ids)}
        return pa.RecordBatch.from_pylist(
            [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], schema=self.TABLE
        )

    @staticmethod
    def read_for(body: bytes, predicate: Any) -> int:
        return sum(1 for _ in reader(body, predicate=predicate))

    def test_readers_skip_rows_by_them(self) -> None:
        name = pyorc.PredicateColumn(pyorc.TypeKind.STRING, "Name") == "07919"
        n = pyorc.PredicateColumn(pyorc.TypeKind.LONG, "n") == 7919
        options = {"row_index_stride": 1000, "bloom_filter_fpp": 0.001}
        by_name = write(self.rows(), bloom_filter_columns=["name"], **options)
        assert (self.read_for(by_name, name), self.read_for(by_name, n)) == (1000, 10_000)
        by_number = write(self.rows(), bloom_filter_columns=["N"], **options)
        assert (self.read_for(by_number, name), self.read_for(by_number, n)) == (10_000, 1000)

    @pytest.mark.parametrize(
        ("name", "number"),
        [("first.key", 2), ("user.at", 6), ("user.id", 7), ("USER.more.size", 9), ("name", 10), ("n", 11)],
    )
    def test_nested_columns_have_their_numbers(self, name: str, number: int) -> None:
        stripe = reader(write(self.rows(), bloom_filter_columns=[name])).read_stripe(0)
        assert stripe.bloom_filter_columns == (number,)
        assert [*self.preorder()][number].lower() == name.lower()

    def preorder(self) -> Iterator[str]:
        """Yield the columns' paths by ORC's own count, which begins with the row."""
        schema = reader(write(self.rows())).schema
        names: dict[int, str] = {}

        def walk(kind: pyorc.TypeDescription, path: str) -> None:
            names[kind.column_id] = path.lstrip(".")
            match kind:
                case pyorc.Struct():
                    for name, field in kind.fields.items():
                        walk(field, f"{path}.{name}")
                case pyorc.Map():
                    walk(kind.key, f"{path}.key")
                    walk(kind.value, f"{path}.value")
                case pyorc.Array():
                    walk(kind.type, f"{path}.item")

        walk(schema, "")
        return (names[number] for number in sorted(names))

    @pytest.mark.parametrize("name", ["nobody", "user", "first", "user.more", "user.nobody", ""])
    def test_what_has_no_values_is_refused(self, name: str) -> None:
        with pytest.raises(InvalidError) as caught:
            config(bloom_filter_columns=["n", name]).encoder().open(BytesIO(), self.TABLE)
        assert str(caught.value) == (
            f"bloom_filter_columns: {name!r} is no column of single values; these are "
            "first.key, first.value.item, user.at, user.id, user.more.size, name, n"
        )
        assert caught.value.code == "DataFormatConversion.InvalidSchema"


def test_the_same_batches_make_the_same_bytes() -> None:
    batches = [batch_of(list(every_row(200))), batch_of(list(every_row(77)))]
    for options in ({}, {"compression": "zstd", "dictionary_key_threshold": 1, "bloom_filter_columns": ["text"]}):
        assert write(*batches, **options) == write(*batches, **options)


def test_an_object_without_rows_has_its_columns_all_the_same() -> None:
    nothing = BytesIO()
    assert config().encoder().open(nothing, SCHEMA).close().rows == 0
    for body in (nothing.getvalue(), write(batch_of([]))):
        assert list(reader(body).schema.fields) == list(COLUMNS)
        assert read(body) == []


def test_a_row_may_be_as_large_as_a_record() -> None:
    large = {"text": "é" * (8 << 20), "body": bytes(range(256)) * (16 << 10), "list": list(range(1 << 20))}
    rows = [every_type.NOTHING | large, every_type.USUAL]
    first, second = read(write(batch_of(rows), stripe_size="1MiB"))
    assert {name: first[name] for name in large} == large
    assert second["text"] == every_type.USUAL["text"]


def test_a_system_without_time_zones_is_shown_those_of_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TZDIR", "")  # so that it is put back, also where there was none
    monkeypatch.delenv("TZDIR")
    config().encoder()
    assert "TZDIR" not in os.environ, "this system has its own"
    monkeypatch.setattr(orc_encoder, "_SYSTEM_ZONES", tmp_path)
    config().encoder()
    done = subprocess.run([sys.executable, "-c", WRITE_A_TIME], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1970-01-01\n"), done.stderr
    monkeypatch.setenv("TZDIR", str(tmp_path))
    config().encoder()
    assert os.environ["TZDIR"] == str(tmp_path), "who says where they are is believed"


WRITE_A_TIME = """
import io
import pyarrow
from pyarrow import orc
with orc.ORCWriter(out := io.BytesIO()) as writer:
    writer.write(pyarrow.table({"t": pyarrow.array([0], pyarrow.timestamp("us"))}))
(row,) = orc.read_table(io.BytesIO(out.getvalue())).to_pylist()
print(row["t"].date())
"""


class TestOutputs:
    """An output that fails: its error comes through, and the process lives on."""

    class Full(BytesIO):
        def __init__(self, room_bytes: int) -> None:
            super().__init__()
            self.room_bytes = room_bytes

        def write(self, data: Any, /) -> int:
            if self.tell() + len(data) > self.room_bytes:
                raise TimeoutError(self.room_bytes)
            return super().write(data)

    @pytest.mark.parametrize("room_bytes", [0, 2, 3, 5000, 200_000, 1_200_000, 3_000_000])
    def test_errors(self, room_bytes: int) -> None:
        out = self.Full(room_bytes)
        rows = pa.RecordBatch.from_pydict({"text": ["x" * 1000] * 1000})
        writer = None
        with pytest.raises(TimeoutError) as caught:
            writer = config(stripe_size="1MiB", compression="none").encoder().open(out, rows.schema)
            for _ in range(4):
                writer.write(rows)
            writer.close()
        assert caught.value.args == (room_bytes,)
        size = out.tell()
        del writer
        assert out.tell() == size

    def test_an_error_is_told_again_by_close(self) -> None:
        writer = config().encoder().open(self.Full(3), numbers(1).schema)
        writer.write(numbers(1))
        for _ in range(2):
            with pytest.raises(TimeoutError):
                writer.close()


class TestMemory:
    """What is held is a stripe, buffers for each column, and dictionaries; and it is counted."""

    def test_what_is_held_ends_with_the_stripe(self) -> None:
        writer = config(stripe_size="1MiB", compression="none").encoder().open(out := BytesIO(), numbers(1).schema)
        own_bytes, most = writer.held_bytes, 0
        assert own_bytes == 600 * 2**10, "of one column"
        random = np.random.default_rng(7)
        for _ in range(100):
            writer.write(pa.RecordBatch.from_pydict({"n": random.integers(-(2**63), 2**63 - 1, 2**14)}))
            most = max(most, writer.held_bytes - own_bytes)
        assert 2**19 < most <= 2**20
        assert out.tell() > 100 * 2**14 * 8 - 3 * 2**20
        assert writer.held_bytes - own_bytes < 2**20
        writer.close()

    def test_columns_are_counted_with_what_is_nested_in_them(self) -> None:
        held = config().encoder().open(BytesIO(), TestBloomFilters.TABLE).held_bytes
        assert held == 11 * 600 * 2**10

    @pytest.mark.parametrize("kind", ["numbers", "texts", "dictionary", "wide"])
    def test_the_process_takes_no_more_than_is_counted(self, kind: str) -> None:
        done = subprocess.run([sys.executable, "-c", MEASURE, kind], capture_output=True, text=True, check=True)
        taken_bytes, held_bytes = map(int, done.stdout.split())
        slack_bytes = 16 * 2**20  # of the batch in hand, and of the allocator
        assert taken_bytes <= held_bytes + slack_bytes
        assert taken_bytes * 4 >= held_bytes - slack_bytes, "nor is much more counted than taken"


#: Writes 16 MiB of rows that share nothing, and says how much the process grew by at most, and the most that was held.
MEASURE = """
import sys
from pathlib import Path
import numpy, pyarrow
from firehose.encoders.orc import OrcConfig

class Out:
    def write(self, data, /):
        return len(data)

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

kind, random = sys.argv[1], numpy.random.default_rng(7)
columns, rows = {"numbers": (1, 2**17), "texts": (1, 2**16), "dictionary": (1, 2**16), "wide": (64, 2**10)}[kind]

def batch():
    values = [pyarrow.array(random.integers(10**17, 10**18, rows)) for _ in range(columns)]
    if kind != "numbers":
        values = [each.cast(pyarrow.string()) for each in values]
    return pyarrow.RecordBatch.from_arrays(values, names=[f"c{number}" for number in range(columns)])

options = {"stripe_size": "8MiB", "compression": "zstd", "dictionary_key_threshold": int(kind == "dictionary")}
encoder = OrcConfig.model_validate({"table": "a.b", **options}).encoder()
schema, before_bytes = batch().schema, resident_bytes()
writer, taken_bytes, held_bytes, given_bytes = encoder.open(Out(), schema), 0, 0, 0
while given_bytes < 16 * 2**20:
    given = batch()
    given_bytes += given.nbytes
    writer.write(given)
    taken_bytes, held_bytes = max(taken_bytes, resident_bytes() - before_bytes), max(held_bytes, writer.held_bytes)
print(taken_bytes, held_bytes)
"""


def test_decimals_keep_their_scale() -> None:
    rows = pa.RecordBatch.from_pydict({"d": pa.array([Decimal("1.10"), Decimal("-0.01")], pa.decimal128(38, 2))})
    assert [str(row["d"]) for row in read(write(rows))] == ["1.10", "-0.01"]


def test_days_from_the_first_to_the_last() -> None:
    days = [date(1, 1, 1), date(1582, 10, 4), date(1582, 10, 15), date(1969, 12, 31), date(9999, 12, 31)]
    rows = pa.RecordBatch.from_pydict({"d": pa.array(days, pa.date32())})
    assert [row["d"] for row in read(write(rows))] == days
