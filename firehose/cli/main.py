"""The command's verbs."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import click

from firehose.cli import output
from firehose.cli.call import call
from firehose.cli.options import Duration, data_dir_option, filter_options, given, json_option
from firehose.datadir import DataDirectory
from firehose.errors import FirehoseError, InvalidError
from firehose.units import format_bytes, format_duration_ms

#: Characters of a message that `failed ls` shows: with all else a line of a wide terminal.
MESSAGE_CHARACTERS = 100


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FirehoseError as error:
            _end_with(str(error))
        except BrokenPipeError:
            raise  # whoever read our output has enough of it
        except OSError as error:
            _end_with(str(error))


def _end_with(message: str) -> NoReturn:
    click.echo(f"firehose: {message}", err=True)
    sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="firehose")
def main() -> None:
    """Delivery streams on your own machines, with the API of Amazon Data Firehose."""


def _config(*, required: bool) -> Callable[[Any], Any]:
    return click.argument("config", nargs=-1, required=required, type=click.Path(path_type=Path, exists=True))


@main.command()
@_config(required=False)
@click.option("--host", help="The address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="The port to listen on; 0 takes a free one.  [default: 4573]"
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="FIREHOSE_DATA_DIR",
    help="Where everything durable lies.  [default: server.data_dir of CONFIG, or .firehose]",
)
@click.option("--log-style", type=click.Choice(["json", "plain"]), help="How log lines look.")
def run(config: tuple[Path, ...], **overrides: Any) -> None:
    """Run the service with the streams of CONFIG: YAML files, or folders of them.

    Without CONFIG there are the streams that were made by the API, and those that will be.
    """
    from firehose.cli.run import run as run_service

    run_service(config, given(**overrides))


@main.command()
@_config(required=True)
@json_option
def validate(config: tuple[Path, ...], as_json: bool) -> None:
    """Say everything that is wrong in CONFIG, each with its place.

    Looks into catalogs that are files, and loads each function once, in a process of its own. Warnings are about what
    is allowed but likely a mistake; they do not make CONFIG invalid.
    """
    from firehose.cli.configuration import validate as check

    report = check(config)
    problems, warnings = report.problems, report.warnings
    if as_json:
        output.show_json({"valid": not problems, "problems": problems, "warnings": warnings})
    else:
        for problem in problems:
            click.echo(problem["text"], err=True)
        for warning in warnings:
            click.echo(f"warning: {warning['text']}", err=True)
        click.echo(output.counted(len(problems), "problem") if problems else report.summary)
    sys.exit(1 if problems else 0)


@main.command()
@click.option("--markdown", is_flag=True, help="A page for people instead: every key and what it means.")
def schema(markdown: bool) -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from firehose.config.reference import reference_text
    from firehose.config.schema import json_schema_text

    click.echo(reference_text() if markdown else json_schema_text(), nl=False)


@main.command()
@click.argument("stream")
@click.argument("file", type=click.File("rb"), default="-")
@data_dir_option
@json_option
def put(stream: str, file: BinaryIO, data_dir: Path, as_json: bool) -> None:
    """Send each line of FILE (default: stdin) to STREAM as a record; blank lines are left out."""
    from firehose.cli.put import put as put_lines

    accepted = put_lines(data_dir, stream, file)
    if as_json:
        output.show_json({"stream": stream, "accepted": accepted})
    else:
        click.echo(f"{stream}: {output.counted(accepted, 'record')} accepted")


@main.command()
@click.argument("stream", required=False)
@data_dir_option
@json_option
def status(stream: str | None, data_dir: Path, as_json: bool) -> None:
    """Show what each stream is doing: backlog, freshness, last error."""
    answer = call(data_dir, "status", given(stream=stream))
    if as_json:
        output.show_json(answer)
        return
    rows = [
        (
            each["name"],
            each["state"] + (", paused" if each["paused"] and each["state"] != "paused" else ""),
            each["backlog_records"],
            format_bytes(each["backlog_bytes"]),
            "-" if each["freshness_ms"] is None else format_duration_ms(each["freshness_ms"]),
            each["open_objects"],
            each["failed_records"],
            "-" if each["last_error"] is None else f"{each['last_error']['code']}: {each['last_error']['message']}",
        )
        for each in answer["streams"]
    ]
    output.show_table(
        ("stream", "state", "records waiting", "bytes", "oldest", "objects open", "failed", "last error"), rows
    )
    used, quota = format_bytes(answer["log_bytes"]), format_bytes(answer["log_quota_bytes"])
    throttled = ": full, producers are throttled until deliveries make room" if answer["log_is_full"] else ""
    click.echo(f"log {used} of {quota}{throttled}", err=True)
    for each in answer["streams"]:
        for line in output.remarks(each):
            click.echo(f"{each['name']}: {line}", err=True)
    for problem in answer["problems"]:
        click.echo(problem, err=True)


@main.command()
@click.argument("stream", required=False)
@click.option(
    "--deep", is_flag=True, help="Also read every object that was delivered, and compare it with its manifest."
)
@data_dir_option
@json_option
def audit(stream: str | None, deep: bool, data_dir: Path, as_json: bool) -> None:
    """Show whether every record is accounted for, by stream and hour; exit with 1 where the account does not close.

    With --deep also where an object is not there, or not as it was delivered: of objects in the last 90 days
    (`server.manifest_retention`), and of all failed records.
    """
    answer = call(data_dir, "audit", given(stream=stream))
    if deep:
        from firehose.cli.objects import audit_objects

        answer |= {"objects": audit_objects(data_dir, stream, is_quiet=as_json)}
        answer["closes"] = answer["closes"] and not (answer["objects"]["differ"] or answer["objects"]["problems"])
    if as_json:
        output.show_json(answer)
    else:
        _show_audit(answer["streams"])
        for problem in answer["problems"]:
            click.echo(problem, err=True)
        for each in answer["streams"]:
            if each["problem"]:
                click.echo(f"firehose: stream {each['stream']!r}: {each['problem']}", err=True)
        if deep:
            _show_objects(answer["objects"])
    sys.exit(0 if answer["closes"] else 1)


def _show_objects(found: dict[str, Any]) -> None:
    for each in found["differences"]:
        click.echo(f"{each['url']} {each['what']}")
    for each in found["problems"]:
        click.echo(f"firehose: stream {each['stream']!r}: {each['message']}", err=True)
    objects, records = output.counted(found["objects"], "object"), output.counted(found["records"], "record")
    elsewhere = (
        f"; {found['elsewhere']:,} lie where their stream does not deliver any more" if found["elsewhere"] else ""
    )
    click.echo(f"{objects} with {records} read, {found['differ']:,} differ from what was delivered{elsewhere}")


def _show_audit(streams: Sequence[dict[str, Any]]) -> None:
    terms = ["accepted", "created", "delivered", "failed", "dropped", "pending"]
    rare = ["duplicate", "expired", "discarded", "unreadable"]
    terms += [term for term in rare if any(each["total"][term] for each in streams)]
    rows = []
    for each in streams:
        for hour in [*each["hours"], {"hour_ms": None, **each["total"]}]:
            when = "total" if hour["hour_ms"] is None else output.moment(hour["hour_ms"])[:13] + "h"
            closes = "closes" if hour["difference"] == 0 else f"OFF BY {hour['difference']}"
            rows.append((_account_name(each), when, *(hour[term] for term in terms), closes))
    output.show_table(("stream", "hour (UTC)", *terms, "account"), rows)


def _account_name(account: dict[str, Any]) -> str:
    """Return the stream's name; several that are no more may have had the same one."""
    if account["kind"] == "defined":
        return str(account["stream"])
    return f"{account['stream']} ({account['kind']}, {account['uid'][:8]})"


def _control(verb: str, text: str, done: str, later: str) -> None:
    """Add a command. `done`, `later`: what became of the stream, where a service runs and where none does."""

    @main.command(verb, help=text)
    @click.argument("stream", required=True)
    @data_dir_option
    def command(stream: str, data_dir: Path) -> None:
        call(data_dir, verb, {"stream": stream})
        is_running = DataDirectory(data_dir).running() is not None
        click.echo(f"{stream}: {done if is_running else later}")


_control("pause", "Stop delivering STREAM; producers may go on putting.", "paused", "paused")
_control(
    "resume",
    "Go on delivering STREAM.",
    "delivering",
    "not paused any more; it is delivered once the service runs (`firehose run`)",
)


@main.command()
@click.argument("stream")
@click.option("--timeout", "timeout_ms", type=Duration(), default="60s", show_default=True, help="How long to wait.")
@data_dir_option
def flush(stream: str, timeout_ms: int, data_dir: Path) -> None:
    """Deliver what STREAM has accepted so far, now; return when it is delivered."""
    from firehose.cli.flush import flush as deliver

    deliver(data_dir, stream, timeout_ms)
    click.echo(f"{stream}: flushed")


def _end_with_problems(answer: dict[str, Any]) -> None:
    """Say why there may be nothing, and what could not be read; end with 1 where there is such a thing."""
    if answer.get("note"):
        click.echo(answer["note"], err=True)
    for each in answer["problems"]:
        click.echo(f"firehose: stream {each['stream']!r}: {each['message']}", err=True)
    if answer["problems"]:
        sys.exit(1)


@main.group()
def failed() -> None:
    """Look at the records that failed."""


@failed.command("ls")
@filter_options
@click.option("--all", "all_", is_flag=True, help="Those that were replayed, too.")
@click.option("--limit", type=int, default=100, show_default=True)
@data_dir_option
@json_option
def failed_ls(data_dir: Path, as_json: bool, all_: bool, **parameters: Any) -> None:
    """List failed records, oldest first."""
    answer = call(data_dir, "failed_ls", given(**parameters, all=all_))
    if as_json:
        output.show_json(answer)
        _end_with_problems(answer)
        return
    rows = [
        (
            output.moment(each["arrival_ms"]),
            each["stream"],
            each["stage"],
            each["code"],
            output.cut(_message(each), MESSAGE_CHARACTERS),
            each["id"],
        )
        for each in answer["records"]
    ]
    output.show_table(("arrived (UTC)", "stream", "stage", "code", "message", "id"), rows)
    if any(len(_message(each)) > MESSAGE_CHARACTERS for each in answer["records"]):
        click.echo("messages that end in … go on: `firehose failed show ID`, or --json", err=True)
    if answer["more"]:
        click.echo("... and more; raise --limit, or narrow the filter", err=True)
    _end_with_problems(answer)


def _message(record: dict[str, Any]) -> str:
    """Return why a record failed in one line: what a function itself said, where one did."""
    return " ".join((record["detail"] or record["message"]).split())


@failed.command("show")
@click.argument("id")
@click.option("--raw", is_flag=True, help="Write the record's original bytes to stdout, and nothing else.")
@data_dir_option
@json_option
def failed_show(id: str, data_dir: Path, as_json: bool, raw: bool) -> None:
    """Show one failed record with its original bytes. ID: as `failed ls` prints it."""
    if raw and as_json:
        raise InvalidError("--raw and --json exclude each other; `data` of --json is the bytes in base64")
    answer = call(data_dir, "failed_show", {"id": id})
    if as_json:
        output.show_json(answer)
        return
    data = base64.b64decode(answer["data"])
    if raw:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    for name in ("stream", "stage", "code", "message", "detail", "attempts", "replayed", "shard", "sequence"):
        if answer[name] is not None:
            click.echo(f"{name:10} {answer[name]}")
    click.echo(f"{'arrived':10} {output.moment(answer['arrival_ms'])} UTC")
    click.echo(f"{'failed':10} {output.moment(answer['failed_ms'])} UTC")
    click.echo(f"{'record':10} {answer['text']}")
    if answer["text"].encode() != data:
        click.echo(f"the record is {len(data)} bytes that are no text; --raw writes them as they are", err=True)


@failed.command("stats")
@filter_options
@data_dir_option
@json_option
def failed_stats(data_dir: Path, as_json: bool, **parameters: Any) -> None:
    """Count failed records by reason."""
    answer = call(data_dir, "failed_stats", given(**parameters))
    if as_json:
        output.show_json(answer)
        _end_with_problems(answer)
        return
    names = ("stream", "stage", "code", "records", "replayed", "open")
    heads = (*names[:3], "failures", *names[4:])  # a record that fails again after a replay is another failure
    output.show_table(heads, [tuple(each[name] for name in names) for each in answer["reasons"]])
    _end_with_problems(answer)


@main.command()
@filter_options
@click.option("--dry-run", is_flag=True, help="Only say how many records would be replayed.")
@click.option("--rate", type=click.IntRange(min=1), help="At most so many records a second.")
@data_dir_option
@json_option
def replay(data_dir: Path, as_json: bool, dry_run: bool, rate: int | None, **parameters: Any) -> None:
    """Send failed records through their streams again, each once however often this is called."""
    from firehose.cli.replay import replay as run_replay

    answer = run_replay(data_dir, given(**parameters, dry_run=dry_run), rate=rate, is_quiet=as_json)
    if as_json:
        output.show_json(answer)
        _end_with_problems(answer)
        return
    verb = "would be replayed" if dry_run else "replayed"
    click.echo(
        f"{output.counted(answer['replayed'], 'record')} {verb}; {answer['replayed_before']:,} were replayed before"
    )
    _end_with_problems(answer)


@main.command()
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option(
    "--key-file", type=click.Path(path_type=Path, exists=True), help="The key that the objects were encrypted with."
)
@click.option("--kms-key", help="The KMS key that the objects' keys were wrapped with.")
def cat(urls: tuple[str, ...], key_file: Path | None, kms_key: str | None) -> None:
    """Print the objects at URL (s3://BUCKET/KEY, file:///PATH or a path), decrypted and decompressed."""
    from firehose.cli.cat import cat as print_objects

    print_objects(urls, key_file=key_file, kms_key=kms_key)
