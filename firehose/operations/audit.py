"""`audit`: does the account close? accepted + created = what became of the rows + pending, by stream and hour."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from firehose.delivery.plan import DESTINATION
from firehose.errors import UnavailableError
from firehose.operations.parameters import unknown_stream
from firehose.service import Service
from firehose.service.backlog import count_backlog, ends_of
from firehose.state import Term

#: What a row that was accepted or created can have become.
ENDS = [term for term in Term if term not in (Term.ACCEPTED, Term.CREATED)]

#: What stands for the name of a stream that neither the configuration nor the state knows.
NOBODY = "?"


@dataclass(slots=True)
class Account:
    """The account of one stream. `ends`: up to where its shards are looked at for pending rows.

    `problem`: why the rows that wait could not be counted, so that it does not close.
    """

    name: str
    uid: str
    #: `defined` now; `removed`, deleted or delivered to its end; or `unknown`: state and log do not belong together.
    kind: Literal["defined", "removed", "unknown"]
    ends: Mapping[str, int] = field(default_factory=dict)
    hours: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    problem: str | None = None

    def add(self, term: str, hours: Mapping[int, int]) -> None:
        """Add rows by hour to a term."""
        for hour, rows in hours.items():
            self.hours[hour][term] += rows

    def show(self) -> dict[str, Any]:
        """Return the account as JSON."""
        listed = [
            {"hour_ms": hour, **_terms(counts)} for hour, counts in sorted(self.hours.items()) if any(counts.values())
        ]
        total = sum(self.hours.values(), Counter[str]())
        closes = self.problem is None and all(each["difference"] == 0 for each in listed)
        facts = {"stream": self.name, "uid": self.uid, "kind": self.kind, "problem": self.problem}
        return facts | {"hours": listed, "total": _terms(total), "closes": closes}


async def audit(service: Service, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return every term of the account by stream and hour, and whether it closes; of streams that are no more, too.

    `accepted` comes from the log's books, the ends from the state, `pending` from reading the log's backlog: three
    sources that agree only if nothing was lost and nothing counted twice. What the disk refuses to read keeps the
    accounts of its streams from closing, and no others. `problems`: segments that are missing, or whose rows nobody
    knows.
    """
    async with service.books:  # nothing is banked, reclaimed, replayed or removed meanwhile: one moment for all
        problems = service.log.troubles()
        try:
            await service.replays.settle_unknown()
        except UnavailableError as error:
            problems.append(f"whether a replay that broke off is in the log is not known: {error}")
        closes = not service.log.has_unknown
        removed = await service.state.removed_streams()
        # before the snapshot: an object that is delivered in between is done in it
        sealed = {
            runner.record.uid: (await service.state.load(runner.record.uid)).intents
            for runner in list(service.runners.values())
        }
        snapshot = await service.state.snapshot()
        unbanked = service.log.accepted_unbanked()
        accounts = _accounts(service, removed, {row.stream for row in snapshot.account} | unbanked.keys())
        for row in snapshot.account:
            if row.outlet in ("", DESTINATION):
                accounts[row.stream].add(row.term, {row.hour: row.rows})
        for uid, hours in unbanked.items():
            accounts[uid].add(Term.ACCEPTED, hours)
        chosen = _chosen(list(accounts.values()), parameters)
        for account in chosen:
            done = [each for each in snapshot.done.get(account.uid, ()) if each.outlet == DESTINATION]
            try:
                left = await count_backlog(service.log, account.uid, done, sealed.get(account.uid, ()), account.ends)
            except UnavailableError as error:
                account.problem = str(error)
            else:
                account.add("pending", left.pending)
                account.add(Term.UNREADABLE, left.unreadable)
    streams = [account.show() for account in chosen]
    return {"streams": streams, "problems": problems, "closes": closes and all(each["closes"] for each in streams)}


def _accounts(service: Service, removed: Mapping[str, str], counted: set[str]) -> dict[str, Account]:
    """Return an empty account for each stream that is, and for those that were and have something in theirs."""
    accounts = {
        runner.record.uid: Account(name, runner.record.uid, "defined", ends_of(service.log, runner.record.uid))
        for name, runner in sorted(service.runners.items())
    }
    for uid in sorted(counted - accounts.keys()):
        if uid in removed:
            accounts[uid] = Account(removed[uid], uid, "removed")
        else:
            accounts[uid] = Account(NOBODY, uid, "unknown", ends_of(service.log, uid))
    return accounts


def _chosen(accounts: list[Account], parameters: dict[str, Any]) -> list[Account]:
    name = parameters.get("stream")
    if name is None:
        return accounts
    found = [account for account in accounts if account.name == name]
    if not found:
        raise unknown_stream(name, {account.name for account in accounts})
    return found


def _terms(counts: Counter[str]) -> dict[str, int]:
    terms = {str(term): counts[term] for term in Term} | {"pending": counts["pending"]}
    terms["difference"] = terms["accepted"] + terms["created"] - sum(counts[end] for end in ENDS) - terms["pending"]
    return terms
