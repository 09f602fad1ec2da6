"""What people read when their configuration is wrong: place, key, value, what is allowed."""

from __future__ import annotations

import pytest

from tests.unit.config.conftest import Load, Problems, Write, marked

SINK = "sink: {type: file, path: out}"
CATALOG = "catalogs: {c: {type: file, path: c}}\n"


def stream(text: str) -> str:
    return f"streams: {{s: {{{SINK}, {text}}}}}"


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        # keys
        ("§sever: {}", "sever", "unknown key; did you mean `server`?; allowed: server, functions"),
        ("server: {§prot: 1}", "server.prot", "unknown key; did you mean `port`?"),
        ("server: {§zzz: 1}", "server.zzz", "unknown key; allowed: host, port"),
        (
            stream("buffer: {§max_age_ms: 60s}"),
            "streams.s.buffer.max_age_ms",
            "unknown key; did you mean `interval`?; allowed: size, interval",
        ),
        (
            stream("compression: {type: gzip, §levle: 3}"),
            "streams.s.compression.levle",
            "unknown key; did you mean `level`?",
        ),
        (stream("§retention: 7d"), "streams.s.retention", "unknown key; it stands under `source`; allowed: source"),
        (stream("§size: 1MiB"), "streams.s.size", "unknown key; it stands under `deduplicate` or `buffer`; allowed"),
        (stream("§prefix: a/"), "streams.s.prefix", "unknown key; it stands under `sink` or `failed`; allowed"),
        (stream("§table: a.b"), "streams.s.table", "unknown key; it stands under `convert`; allowed"),
        ("§port: 1", "port", "unknown key; it stands under `server`; allowed"),
        ("streams:\n  §s: {}", "streams.s.sink", "is missing; allowed: file, s3"),
        ("streams:\n  s:\n    §sink: {type: file}", "streams.s.sink.path", "is missing"),
        ("functions:\n  §f: {}", "functions.f.path", "is missing"),
        ("streams: {}\n§streams: {}", "streams", "this key stands already in line 1"),
        # numbers, sizes, durations, words, texts
        ("server: {port: §x}", "server.port", "expected a whole number (got x); allowed: 0 to 65535"),
        ("server: {port: §1.5}", "server.port", "expected a whole number (got 1.5)"),
        ("server: {port: §65536}", "server.port", "is too large (got 65536); allowed: 0 to 65535"),
        ("server: {port: §-1}", "server.port", "is too small (got -1); allowed: 0 to 65535"),
        ("server: {port: §[1]}", "server.port", "expected a whole number (got a list)"),
        ('server: {port: §"\\t"}', "server.port", "expected a whole number (got '\\t')"),
        ("server:\n  §port:\n  region: x", "server.port", "is empty; allowed: 0 to 65535"),
        ("server: {memory: §1MiB}", "server.memory", "is too small (got 1MiB); allowed: at least 16MiB"),
        ("server: {memory: §64MO}", "server.memory", "expected a unit of B, KB, MB"),
        ("server: {memory: §lots}", "server.memory", "expected a number and a unit, like 64MiB (got lots)"),
        ("server: {manifest_retention: §7}", "server.manifest_retention", "did you mean `7h` or `7d`? (got 7)"),
        (
            stream("source: {type: direct_put, retention: §7}"),
            "streams.s.source.retention",
            "did you mean `7h` or `7d`?",
        ),
        ("server: {log_level: §loud}", "server.log_level", "(got loud); allowed: debug, info, warning, error"),
        ("server: {account: §12}", "server.account", "(got 12); allowed: 12 digits"),
        ("server: {region: §[x]}", "server.region", "expected text (got a list)"),
        ("server: {data_dir: §{}}", "server.data_dir", "expected a path (got keys and values)"),
        ("server: {credentials: §{}}", "server.credentials", "expected a list (got keys and values)"),
        ("server: §5", "server", "expected keys and values (got 5)"),
        ("streams: {s: §[1]}", "streams.s", "expected keys and values (got a list)"),
        ("streams:\n  §s:\n", "streams.s", "is empty"),
        (
            stream("buffer: {interval: §60}"),
            "streams.s.buffer.interval",
            "expected a unit of ms, s, m, h, d, w, like 300s; did you mean `60s`? (got 60); allowed: 0ms to 15m",
        ),
        (
            stream("buffer: {interval: §16m}"),
            "streams.s.buffer.interval",
            "is too large (got 16m); allowed: 0ms to 15m",
        ),
        (f"streams: {{§a b: {{{SINK}}}}}", "streams.a b", "does not have the form it needs (got a b)"),
        (stream("tags: {a: §[1]}"), "streams.s.tags.a", "expected text (got a list)"),
        # components
        (
            "streams: {s: {sink: {type: §fiel, path: out}}}",
            "streams.s.sink.type",
            "unknown type; did you mean `file`? (got fiel); allowed: file, s3",
        ),
        ("streams: {s: {§sink: {path: out}}}", "streams.s.sink.type", "is missing; allowed: file, s3"),
        ("streams: {s: {sink: §[file]}}", "streams.s.sink", "expected one type (got a list); allowed: file, s3"),
        ("streams: {s: {sink: {type: §[x]}}}", "streams.s.sink.type", "expected one type (got a list)"),
        ("streams: {s: {sink: {§type: }}}", "streams.s.sink.type", "is empty; allowed: file, s3"),
        ("streams: {s: {§sink: file}}", "streams.s.sink.path", "is missing"),
        ("streams:\n  s:\n    §sink:\n", "streams.s.sink", "is empty; allowed: file, s3"),
        (
            stream("compression: §gzop"),
            "streams.s.compression",
            "unknown type; did you mean `gzip`? (got gzop); allowed: gzip, hadoop_snappy, none, snappy, zip, zstd",
        ),
        (
            CATALOG + stream("convert: {format: §parqet, table: a.b}"),
            "streams.s.convert.format",
            "unknown format; did you mean `parquet`? (got parqet); allowed: orc, parquet",
        ),
        (stream("encryption: §client_side"), "streams.s.encryption", "key_file"),
        (
            "streams: {s: {sink: {type: s3, bucket: abc, server_side_encryption: §s4}}}",
            "streams.s.sink.server_side_encryption",
            "is none of the words allowed (got s4); allowed: s3 or keys kms_key",
        ),
        (
            "streams: {s: {sink: {type: s3, bucket: abc, §server_side_encryption: {}}}}",
            "streams.s.sink.server_side_encryption.kms_key",
            "is missing",
        ),
        (
            "streams: {s: {sink: {type: s3, bucket: §'s3://lake/events/'}}}",
            "streams.s.sink.bucket",
            "does not have the form it needs; a bucket's name stands alone, did you mean `lake`? (got s3://lake/events/)",
        ),
        (
            "streams: {s: {sink: {type: s3, bucket: §'arn:aws:s3:::lake'}}}",
            "streams.s.sink.bucket",
            "did you mean `lake`? (got arn:aws:s3:::lake); allowed: letters, digits, `_`, `.` and `-`",
        ),
        (
            CATALOG + stream("convert: {format: parquet, table: §events}"),
            "streams.s.convert.table",
            "does not have the form it needs (got events); allowed: DATABASE.TABLE, like web.events",
        ),
        *(
            (
                stream(f"deduplicate: {{record_id: §{path}}}"),
                "streams.s.deduplicate.record_id",
                "write the names of keys with dots between them, like `order.id`",
            )
            for path in ("$.id", "'items[0].id'", "/order/id", "' id'", ".id", "order.", "''")
        ),
        # variables
        ("server: {port: §'${PORT}'}", "server.port", "environment variable PORT is not set"),
        ("server: {port: §'${PORT'}", "server.port", "${ begins no expression"),
    ],
)
def test_says_what_is_wrong_and_where(problems: Problems, text: str, key: str, said: str) -> None:
    text, line, column = marked(text)
    found = problems(text)
    assert [(each.line, each.column, each.key) for each in found] == [(line, column, key)]
    assert said in str(found[0])


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (
            stream("transforms: [{type: lambda, function: §nope}]"),
            "streams.s.transforms[0].function",
            "no function of this name is defined (got nope); allowed: none is defined under `functions`",
        ),
        (
            stream("§convert: {format: parquet, table: a.b}"),
            "streams.s.convert.catalog",
            "the table needs a catalog, and none is defined",
        ),
        (
            "catalogs: {c: {type: file, path: c}, d: {type: file, path: d}}\n"
            + stream("§convert: {format: parquet, table: a.b}"),
            "streams.s.convert.catalog",
            "there are several catalogs, say which; allowed: c, d",
        ),
        (
            CATALOG + stream("convert: {format: parquet, catalog: §d, table: a.b}"),
            "streams.s.convert.catalog",
            "no catalog of this name is defined (got d); allowed: c",
        ),
        (
            CATALOG + stream("compression: §gzip, convert: {format: parquet, table: a.b}"),
            "streams.s.compression",
            "parquet compresses inside",
        ),
        (
            stream("encryption: {type: client_side, key_file: §missing.key}"),
            "streams.s.encryption.key_file",
            "no file stands there",
        ),
        ("functions: {f: {path: §missing.py}}", "functions.f.path", "no file stands there"),
        (
            "streams: {s: {sink: {type: file, path: o, prefix: events/}, failed: {prefix: §events/}}}",
            "streams.s.failed.prefix",
            "failed records would lie among the good ones",
        ),
        (
            "streams: {s: {sink: {type: s3, bucket: abc, prefix: e/}, "
            "failed: {sink: {type: s3, bucket: abc}, prefix: §e/}}}",
            "streams.s.failed.prefix",
            "failed records would lie among the good ones",
        ),
        (
            'streams: {s: {sink: {type: s3, bucket: abc, prefix: §"!{timestamp:yyyy"}}}',
            "streams.s.sink.prefix",
            "must begin an expression like !{timestamp:yyyy}",
        ),
        (
            'streams: {s: {sink: {type: s3, bucket: abc, prefix: §"!{firehose:error-output-type}/"}}}',
            "streams.s.sink.prefix",
            "belongs to the error output prefix",
        ),
        (
            stream('failed: {prefix: §"!{timestamp:yyyy}/"}'),
            "streams.s.failed.prefix",
            "must hold !{firehose:error-output-type}",
        ),
        (
            stream("failed: {sink: {type: s3, bucket: abc, time_zone: §Mars/Olympus}}"),
            "streams.s.failed.sink.time_zone",
            "no such time zone (got Mars/Olympus); allowed: UTC, or an IANA name",
        ),
        ("server: {host: §0.0.0.0}", "server.host", "give `server.credentials`, or listen on loopback"),
        ("server: {host: §example.org}", "server.host", "give `server.credentials`"),
    ],
)
def test_says_what_does_not_fit_together(problems: Problems, text: str, key: str, said: str) -> None:
    text, line, column = marked(text)
    found = problems(text)
    assert [(each.line, each.column, each.key) for each in found] == [(line, column, key)]
    assert said in str(found[0])


@pytest.mark.parametrize(
    "text",
    [
        "server: {host: localhost}",
        "server: {host: '::1'}",
        "server: {host: 0.0.0.0, credentials: [{access_key_id: a, secret_access_key: b}]}",
        CATALOG + stream("compression: none, convert: {format: parquet, table: a.b}"),
        stream("failed: {prefix: failed/}"),
        stream("buffer: {size: 1B, interval: 0s}"),
        stream("convert: "),
        "streams: {s: {sink: {type: file, path: o, prefix: e/}, "
        "failed: {sink: {type: file, path: p, prefix: e/}, prefix: e/}}}",
    ],
)
def test_has_nothing_to_say_about_what_is_right(loaded: Load, text: str) -> None:
    loaded(text)


def test_says_that_a_file_cannot_be_read(
    loaded: Load, problems: Problems, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("def handler(event, context): ...\n", "f.py")
    loaded("functions: {f: {path: f.py}}")
    # root may read every file, so that only the answer can be changed
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "cannot be read by this user" in problems("functions: {f: {path: f.py}}")[0].message


@pytest.mark.parametrize(
    ("mode", "content", "said"),
    [
        (0o600, b"k" * 31, "the file holds no key of 32 bytes"),
        (0o644, bytes(range(32)), "everybody on this machine may open the file; close it with: chmod 600 FILE"),
    ],
)
def test_says_what_is_wrong_with_a_key_file(
    problems: Problems, write: Write, mode: int, content: bytes, said: str
) -> None:
    key = write("", "key")
    key.write_bytes(content)
    key.chmod(mode)
    text, line, column = marked(stream("encryption: {type: client_side, key_file: §'${KEY}'}"))
    (found,) = problems(text, {"KEY": str(key)})
    assert (found.line, found.column, found.key) == (line, column, "streams.s.encryption.key_file")
    assert said in found.message and str(key) not in str(found)
