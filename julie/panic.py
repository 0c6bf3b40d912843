"""`julie panic`: out of everything with nothing but the broker's credentials.

No Redis, no service, no ledger: it logs in by itself, cancels, closes, looks again, until two looks in a row
say flat with explicit empty answers (`flat.py`). A live execution sees the halt file and opens nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape

from julie import flat
from shared.broker.errors import BrokerQueryFailed, Unauthorized
from shared.broker.limiter import LocalLimiter
from shared.broker.port import (
    Accepted,
    AccountPort,
    Credentials,
    LimitKind,
    LoggedIn,
    LoginRefused,
    OrderPort,
    Outcome,
    SessionPort,
)
from shared.broker.projectx.adapter import ProjectX, ProjectXSettings
from shared.domain.report import OrderReport
from shared.runtime.clock import NS_PER_S, Clock
from shared.runtime.config import BrokerSection, halt_flag

QUESTION_WITHIN_S = 4.0
ANSWER_WAIT_S = 3.0
"""A cancel or close without an answer by then holds the next look up no longer."""
LOGIN_PAUSES_S = (0.3, 0.6, 1.0, 2.0)
REQUESTS_MAX, REQUESTS_RESERVED = 150, 60
"""Of the broker's 200 a minute; the services may be at it as well. Questions leave the reserve to cancels."""
PAUSE_S_MAX = 2.0
"""After a 429. The broker may ask for more; whoever wants out asks again, and gets in as the window moves."""

T = TypeVar("T")


class Refused(Exception):
    """The broker does not let us in, and trying again is useless."""


class _Budget(LocalLimiter):
    async def pause(self, kind: LimitKind, pause_s: float) -> None:
        await super().pause(kind, min(pause_s, PAUSE_S_MAX))


class Panic:
    """One run. Prints each step with the seconds since its start."""

    def __init__(self, broker: BrokerSection, *, clock: Clock, console: Console, timeout_s: float) -> None:
        self._clock = clock
        self._console = console
        self._started_ns = clock.monotonic_ns()
        self._timeout_s = timeout_s
        self._token: str | None = None
        self._refused: str | None = None
        self._last_send_s = 0.0
        self._adapter = ProjectX(
            settings=ProjectXSettings(api_url=broker.rest_url, hub_url=broker.hub_url),
            clock=clock,
            limiter=_Budget(clock=clock, general_max=REQUESTS_MAX, urgent_reserve=REQUESTS_RESERVED),
            token=lambda: self._token,
            chance=random.Random(0).random,
            on_sent=self._sent,
        )
        key = broker.api_key().reveal()
        self._session: SessionPort = self._adapter.session(
            Credentials(user_name=broker.user_name, api_key=key)
        )
        self._broker: AccountPort = self._adapter.account()
        self._orders: OrderPort = self._adapter.orders()
        self._login = asyncio.Lock()
        self._running: dict[tuple[str, int, object], asyncio.Task[None]] = {}

    async def run(self, account_ids: list[int] | None) -> bool:
        """Return True when every account was seen flat, False when time is over.

        Args:
            account_ids: None for every account of the credentials.

        Raises:
            Refused: The login is refused.
        """
        try:
            await self._log_in()
            if account_ids is None:
                account_ids = await self._all_accounts()
            accounts = {account_id: flat.Account() for account_id in account_ids}
            results = await asyncio.gather(*(self._until_flat(*one) for one in accounts.items()))
            return all(results) and bool(results)
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)
            await self._adapter.close()

    # -- one account ------------------------------------------------------------------

    async def _until_flat(self, account_id: int, account: flat.Account) -> bool:
        said = ""
        while self._left_s() > 0:
            round_ = flat.decide(account, await self._look(account_id))
            if round_.flat:
                self._say(f"account {account_id}: [green]flat[/green], seen twice; the last cancel or close "
                          f"was sent at {self._last_send_s:.2f} s")  # fmt: skip
                return True
            words = account.left() if round_.cancels or round_.closes else self._doubt(account)
            if words != said:
                said = words
                self._say(f"account {account_id}: {escape(words)}")
            await self._send(account_id, round_)
            await self._clock.sleep(min(round_.wait_s, max(0.0, self._left_s())))
        self._say(
            f"account {account_id}: [red]not seen flat[/red] within {self._timeout_s:g} s. Left: "
            f"{escape(account.left())}. Use the broker's platform now: cancel and close there."
        )
        return False

    def _doubt(self, account: flat.Account) -> str:
        known = account.positions_known and account.orders_known
        return "no position, no working order; looking once more" if known else account.left()

    async def _look(self, account_id: int) -> flat.Look:
        """Ask all at once; each question that fails says so and is unknown."""
        positions, orders = await asyncio.gather(
            self._ask("positions", lambda: self._broker.positions(account_id)),
            self._ask("working orders", lambda: self._broker.working_orders(account_id)),
        )
        others = None
        if orders is None:
            others = await self._ask("open orders", lambda: self._broker.open_orders(account_id))
        return flat.Look(
            mono_ns=self._clock.monotonic_ns(),
            positions=None if positions is None else {one.contract_id: one.net_qty for one in positions},
            orders=_described(orders),
            open_orders=_described(others),
        )

    async def _send(self, account_id: int, round_: flat.Round) -> None:
        """Send what is not under way already, all at once, and wait a moment for the answers."""
        for number in round_.cancels:
            self._start(("cancel", account_id, number), self._orders.cancel(account_id, number))
        for contract_id in round_.closes:
            self._start(
                ("close", account_id, contract_id), self._orders.close_contract(account_id, contract_id)
            )
        tasks = [task for (_, owner, _), task in self._running.items() if owner == account_id]
        if tasks:
            await asyncio.wait(tasks, timeout=min(ANSWER_WAIT_S, max(0.0, self._left_s())))

    def _start(self, key: tuple[str, int, object], call: Coroutine[Any, Any, Outcome]) -> None:
        if key in self._running:
            call.close()
            return

        async def send() -> None:
            outcome = await call
            if not isinstance(outcome, Accepted):
                self._say(f"account {key[1]}: {key[0]} {key[2]}: {escape(str(outcome))}")

        task = self._running[key] = asyncio.create_task(send())
        task.add_done_callback(lambda _: self._running.pop(key, None))

    # -- questions ----------------------------------------------------------------------

    async def _ask(self, what: str, question: Callable[[], Awaitable[T]]) -> T | None:
        """Return the answer, or None when there is none in time: unknown."""
        try:
            if self._token is None:
                await self._log_in()
            async with asyncio.timeout(min(QUESTION_WITHIN_S, max(0.0, self._left_s()))):
                return await question()
        except Unauthorized:
            self._token = None
        except (BrokerQueryFailed, TimeoutError) as error:
            self._say(f"{what}: no answer ({escape(str(error) or 'too late')})")
        return None

    async def _log_in(self) -> None:
        """Return with a token, or when time is over.

        Raises:
            Refused: Trying again is useless.
        """
        async with self._login:
            tries = 0
            while self._token is None and self._refused is None and self._left_s() > 0:
                try:
                    async with asyncio.timeout(min(QUESTION_WITHIN_S, self._left_s())):
                        answer = await self._session.login()
                except (BrokerQueryFailed, TimeoutError) as error:
                    self._say(f"login: no answer ({escape(str(error) or 'too late')})")
                else:
                    if isinstance(answer, LoggedIn):
                        self._token = answer.token.value
                        self._say("logged in")
                        return
                    assert isinstance(answer, LoginRefused)
                    if answer.fatal:
                        self._refused = f"{answer.sentence} {answer.remedy}"
                        break
                    self._say(f"login: {escape(answer.sentence)}")
                await self._clock.sleep(LOGIN_PAUSES_S[min(tries, len(LOGIN_PAUSES_S) - 1)])
                tries += 1
            if self._refused is not None:
                raise Refused(self._refused)

    async def _all_accounts(self) -> list[int]:
        while self._left_s() > 0:
            found = await self._ask("accounts", lambda: self._broker.accounts(only_active=False))
            if found is not None:
                return [one.account_id for one in found]
            await self._clock.sleep(LOGIN_PAUSES_S[1])
        return []

    # -- time and words --------------------------------------------------------------------

    def _elapsed_s(self) -> float:
        return (self._clock.monotonic_ns() - self._started_ns) / NS_PER_S

    def _left_s(self) -> float:
        return self._timeout_s - self._elapsed_s()

    def _sent(self, path: str) -> None:
        if path.endswith(("/cancel", "/closeContract")):
            self._last_send_s = self._elapsed_s()

    def _say(self, words: str) -> None:
        self._console.print(f"{self._elapsed_s():6.2f} s  {words}", highlight=False, soft_wrap=True)


async def panic(
    broker: BrokerSection,
    account_ids: list[int] | None,
    *,
    data_dir: Path,
    clock: Clock,
    console: Console,
    timeout_s: float,
    reason: str,
) -> int:
    """Halt what may be alive here, then get out. Returns 0 when flat was seen, else 1."""
    _halt(data_dir, reason, console)
    try:
        done = await Panic(broker, clock=clock, console=console, timeout_s=timeout_s).run(account_ids)
    except Refused as refused:
        console.print(f"[red]{escape(str(refused))}[/red]\nUse the broker's platform now.", soft_wrap=True)
        return 1
    if not done:
        return 1
    console.print(
        f"Execution stays halted by {halt_flag(data_dir)}: look at the broker's platform, "
        "then `julie resume`.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 0


def _halt(data_dir: Path, reason: str, console: Console) -> None:
    flag = halt_flag(data_dir)
    try:
        flag.parent.mkdir(parents=True, exist_ok=True)
        flag.write_text(f"julie panic: {reason}\n", encoding="utf-8")
    except OSError as error:
        console.print(
            f"[yellow]{flag} cannot be written ({escape(str(error))}): stop execution by hand[/yellow]"
        )


def _described(orders: list[OrderReport] | None) -> dict[int, str] | None:
    if orders is None:
        return None
    return {
        one.broker_order_id: " ".join(
            [one.status, one.order_type or "order", one.side, str(one.order_qty), one.contract_id]
        )
        for one in orders
    }
