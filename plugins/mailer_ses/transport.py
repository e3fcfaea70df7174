"""The ses transport: plans the calls, makes them side by side, says what became of each mail."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from mailer.errors import TransportHalted, TransportUnreachable
from mailer.hookspecs import Envelope, Outcome, Quota
from mailer.vocabulary import OutcomeKind
from mailer_ses import bulk, outcomes
from mailer_ses.account import Account, Client, NoAnswer, NotSent, Refused
from mailer_ses.requests import Call, check, is_plain, single

log = logging.getLogger("mailer.ses")

SIDE_BY_SIDE: Final = 16
"""So many calls of one `send` at once: mail that goes one by one has to leave within its slot."""
BEGIN_WITHIN_S: Final = 5.0
"""A call that could not begin by then is not made: its slot of the rate has long passed."""
NOT_MADE_S: Final = 1.0
"""The pause after calls that were not made; without one it would look like too high a rate."""

_TEMPLATE: Final = re.compile(r"\btemplate\b", re.IGNORECASE)
_T = TypeVar("_T")


class SesTransport:
    """One account in one region; its client is shared by all sessions of the process."""

    max_in_flight = 16

    def __init__(self, account: Account, client: Client | None = None) -> None:
        """The client is made when it is first needed, unless there is one already."""
        self.account = account
        self.batch_size = bulk.MAX_ENTRIES if account.bulk else 1
        self.reports_events = account.tells_events
        self.destination = f"Amazon SES in {account.region}"
        # Connecting and reading may both take long; a bulk call refused is made again, singly.
        self.call_timeout_s = BEGIN_WITHIN_S + 3 * (
            account.connect_timeout_s + account.read_timeout_s
        )
        self.out_of_reach = ""
        """Why the last call did not reach SES; while it is said, sessions try nothing."""
        self._lock = threading.Lock()
        self._client = client
        self._greeted = False
        self._said: set[str] = set()

    def open(self) -> SesSession:
        """The first time, and after SES was out of reach: ask for the account, as a greeting.

        Raises TransportUnreachable when SES can't be reached, or takes no mail from this account.
        """
        with self._lock:
            try:
                client = self._connected()
                if not self._greeted:
                    self._greet(client)
            except TransportUnreachable as error:
                self.say(f"no mail is sent: {error}")
                raise
            self._greeted = True
            self.out_of_reach = ""
        return SesSession(self, client)

    def quota(self) -> Quota:
        with self._lock:
            client = self._connected()
        try:
            account = client.call("get_account", {})
        except Refused as error:
            if error.code != "AccessDeniedException":
                raise _no_mail(error) from None
            self.say(f"the account's quota is not known, for want of ses:GetAccount: {error}")
            return Quota()
        except (NotSent, NoAnswer) as error:
            raise TransportUnreachable(f"{error}") from None
        notice = self._look_at(account)
        limits = account.get("SendQuota", {})
        max_24h = limits.get("Max24HourSend", -1)
        unlimited = max_24h < 0
        return Quota(
            max_per_second=limits.get("MaxSendRate"),
            max_24h=None if unlimited else int(max_24h),
            sent_24h=None if unlimited else int(limits.get("SentLast24Hours", 0)),
            notice=notice,
        )

    def lost_touch(self, why: str) -> None:
        """The next session has to greet again before mail is claimed for it."""
        with self._lock:
            self._greeted = False
            self.out_of_reach = why

    def go_singly(self, why: str) -> None:
        """Use SendBulkEmail no more in this process."""
        self.batch_size = 1
        self.say(f"mails are sent one by one, for SES refuses them in bulk: {why}")

    def say(self, sentence: str) -> None:
        """Warn once in the life of a process."""
        if sentence not in self._said:
            self._said.add(sentence)
            log.warning("ses: %s", sentence)

    def _connected(self) -> Client:
        if self._client is None:
            self._client = Client(self.account, connections=self.max_in_flight * SIDE_BY_SIDE)
        return self._client

    def _greet(self, client: Client) -> None:
        try:
            account = client.call("get_account", {})
        except (NotSent, NoAnswer) as error:
            raise TransportUnreachable(f"{error}") from None
        except Refused as error:
            rule = outcomes.rule_for(error.code, error.words, error.status)
            # Whether we may ask for the account, or too often, says nothing of sending.
            if rule.fix and error.code != "AccessDeniedException":
                raise _no_mail(error) from None
        else:
            self._look_at(account)

    def _look_at(self, account: dict[str, Any]) -> str:
        """What people should know of the account. Raises TransportHalted when it may not send."""
        notices = []
        if account.get("ProductionAccessEnabled") is False:
            notices.append(
                f"the account is in the SES sandbox in {self.account.region}: only verified"
                " recipients get mail, 200 a day; ask AWS for production access"
            )
        if (standing := account.get("EnforcementStatus", "HEALTHY")) != "HEALTHY":
            notices.append(
                f"AWS has put this account's sending under {standing}; see the SES console"
            )
        for notice in notices:
            self.say(notice)
        if account.get("SendingEnabled") is False:
            raise _no_mail(Refused("SendingPausedException", "SendingEnabled is false", 200))
        return "; ".join(notices)


class SesSession:
    """Nothing of its own: connections are the client's."""

    def __init__(self, transport: SesTransport, client: Client) -> None:
        self._transport = transport
        self._account = transport.account
        self._client = client

    def send(self, envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        if self._transport.out_of_reach:
            raise TransportUnreachable(self._transport.out_of_reach)
        found: dict[int, Outcome] = {}
        calls: list[Call] = []
        plain: list[tuple[int, Envelope]] = []
        in_bulk = self._transport.batch_size > 1
        for place, envelope in enumerate(envelopes):
            try:
                check(envelope)
                if in_bulk and is_plain(envelope):
                    plain.append((place, envelope))
                else:
                    calls.append(self._single(envelope, place))
            except ValueError as error:
                found[place] = Outcome(OutcomeKind.REJECTED, f"{error}")
        calls += bulk.calls(plain, self._account.configuration_set)
        unsent: list[NotSent] = []
        found.update(self._make_all(calls, envelopes, unsent))
        if unsent and len(unsent) == len(calls):
            self._transport.lost_touch(f"{unsent[0]}")
            raise TransportUnreachable(f"{unsent[0]}")
        return [found[place] for place in range(len(envelopes))]

    def close(self) -> None:
        pass

    def _single(self, envelope: Envelope, place: int) -> Call:
        return single(envelope, place, self._account.configuration_set)

    def _make_all(
        self, calls: Sequence[Call], envelopes: Sequence[Envelope], unsent: list[NotSent]
    ) -> dict[int, Outcome]:
        """Each mail's outcome, by its place; `unsent` gets an entry for a call that wasn't sent."""

        def make(call: Call) -> dict[int, Outcome]:
            try:
                return self._make(call, envelopes)
            except NotSent as error:
                unsent.append(error)
                return _waits(call, f"{error}")

        made = _side_by_side(make, calls)
        late = "not handed over: the calls before it took too long"
        found: dict[int, Outcome] = {}
        for call, outcomes_by_place in zip(calls, made, strict=True):
            found.update(outcomes_by_place or _waits(call, late))
        return found

    def _make(self, call: Call, envelopes: Sequence[Envelope]) -> dict[int, Outcome]:
        """Make one call. Raises NotSent."""
        mails = [envelopes[place] for place in call.places]
        default_from = self._account.from_email
        try:
            answer = self._client.call(call.operation, call.request)
        except NoAnswer as error:
            lost = Outcome(OutcomeKind.UNKNOWN, f"SES did not answer: {error}")
            return dict.fromkeys(call.places, lost)
        except Refused as error:
            if self._can_go_singly(call, error, mails[0]):
                apart = [self._single(envelopes[place], place) for place in call.places]
                return self._make_all(apart, envelopes, [])
            found = [outcomes.of_error(error, mail, default_from) for mail in mails]
        else:
            if "BulkEmailEntryResults" in answer:
                found = outcomes.of_entries(answer["BulkEmailEntryResults"], mails, default_from)
            else:
                found = [outcomes.of_answer(answer.get("MessageId"))] * len(mails)
        return dict(zip(call.places, found, strict=True))

    def _can_go_singly(self, call: Call, error: Refused, mail: Envelope) -> bool:
        """Whether a refused bulk call may be one mail's fault, or that of sending in bulk.

        Nothing of it was taken then, so that all of it can go again.
        """
        if call.operation != "send_bulk_email":
            return False
        if error.code == "AccessDeniedException" or _TEMPLATE.search(error.words):
            self._transport.go_singly(f"{error}")
            return True
        as_one = outcomes.of_error(error, mail, self._account.from_email)
        return as_one.kind is OutcomeKind.REJECTED


def _waits(call: Call, why: str) -> dict[int, Outcome]:
    waits = Outcome(OutcomeKind.THROTTLED, why, retry_after_s=NOT_MADE_S)
    return dict.fromkeys(call.places, waits)


def _side_by_side(make: Callable[[Call], _T], calls: Sequence[Call]) -> list[_T | None]:
    """Make the calls at once, in threads; None for those that could not begin in time."""
    made: list[_T | None] = [None] * len(calls)
    waiting = iter(range(len(calls)))
    begin_until = time.monotonic() + BEGIN_WITHIN_S
    broken: list[Exception] = []

    def work() -> None:
        for number in waiting:
            if broken or time.monotonic() > begin_until:
                return
            try:
                made[number] = make(calls[number])
            except Exception as error:
                broken.append(error)

    others = [
        threading.Thread(target=work, daemon=True) for _ in range(min(len(calls), SIDE_BY_SIDE) - 1)
    ]
    for thread in others:
        thread.start()
    work()
    for thread in others:
        thread.join()
    if broken:
        raise broken[0]  # the sender then takes every mail's outcome for unknown
    return made


def _no_mail(error: Refused) -> TransportUnreachable:
    """That the account may not send or be asked: for somebody to mend, or for now."""
    rule = outcomes.rule_for(error.code, error.words, error.status)
    words = f"{error} ({rule.fix})" if rule.fix else f"{error}"
    return TransportHalted(words) if rule.halts else TransportUnreachable(words)
