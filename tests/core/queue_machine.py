"""Everything that is done to queues, in any order, held against the plainest Python that does the same.

Several targets, accounts with limits and without, both lanes. The model says what each take must give, and when a bell
must ring; it knows nothing of how the queue keeps it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from redis.asyncio import Redis

from core import concurrency, queue
from core.ids import new_id
from core.redis import LIMITS, running_key

NORMAL, LOW = "normal", "low"
#: Few of each, so that they meet.
TARGET, ACCOUNT, NUMBER = st.integers(0, 1), st.integers(0, 2), st.integers(0, 7)
LANE = st.sampled_from([NORMAL, NORMAL, LOW])
LOW_EVERY = 4


class Lane:
    """A ring of accounts, and a list for each."""

    def __init__(self) -> None:
        self.ring: list[str] = []
        self.blocked: list[str] = []
        """Out of the ring, because they were at their limit when their turn came."""
        self.waiting: dict[str, list[str]] = {}

    def push(self, account: str, id: str) -> None:
        if not self.waiting.setdefault(account, []):
            self.ring.append(account)
        self.waiting[account].append(id)

    def take(self, may_run: Callable[[str, str], bool]) -> str | None:
        """Of the first account in the ring that may, which goes to its end; those before it are out of it."""
        while self.ring:
            account = self.ring.pop(0)
            id = self.waiting[account][0]
            if may_run(account, id):
                self.waiting[account].remove(id)
                if self.waiting[account]:
                    self.ring.append(account)
                return id
            self.blocked.append(account)
        return None

    def wake(self, account: str) -> None:
        if account in self.blocked:
            self.blocked.remove(account)
            self.ring.insert(0, account)

    def remove(self, account: str, id: str) -> None:
        if id in self.waiting.get(account, []):
            self.waiting[account].remove(id)
            if not self.waiting[account]:
                (self.ring if account in self.ring else self.blocked).remove(account)

    @property
    def ids(self) -> list[str]:
        return [id for ids in self.waiting.values() for id in ids]


class Target:
    def __init__(self) -> None:
        self.lanes = {NORMAL: Lane(), LOW: Lane()}
        self.since_low = 0

    def take(self, may_run: Callable[[str, str], bool]) -> str | None:
        low_waits = bool(self.lanes[LOW].ring)
        if low_waits and self.since_low >= LOW_EVERY - 1:
            id = self.lanes[LOW].take(may_run)
            if id is not None:
                self.since_low = 0
                return id
        id = self.lanes[NORMAL].take(may_run)
        if id is not None:
            self.since_low += low_waits
            return id
        self.since_low = 0
        return self.lanes[LOW].take(may_run)

    @property
    def ids(self) -> list[str]:
        return self.lanes[NORMAL].ids + self.lanes[LOW].ids


class QueueMachine(RuleBasedStateMachine):
    """`run` and `redis` are given by the test: a real Redis."""

    run: Callable[[Awaitable[Any]], Any]
    redis: Redis

    @initialize()
    def begin(self) -> None:
        life = new_id()
        self.names = [f"{life}-{number}@cpu" for number in range(2)]
        self.accounts = [f"{life}-{number}" for number in range(3)]
        self.targets = [Target() for _ in self.names]
        self.limits: dict[str, int] = {}
        self.running: dict[str, set[str]] = {account: set() for account in self.accounts}
        """What counts against a limit."""
        self.taken: dict[str, str] = {}
        """What was taken and has not ended, by id: whose it is."""

    def may_run(self, account: str, id: str) -> bool:
        return not self.limits.get(account) or id in self.running[account] or self.room(account) > 0

    def room(self, account: str) -> int:
        return self.limits[account] - len(self.running[account])

    @rule(where=TARGET, account=ACCOUNT, number=NUMBER, lane=LANE, again=st.booleans())
    def push(self, where: int, account: int, number: int, lane: str, again: bool) -> None:
        """By whoever created it, or by the sweep, which does not know whether it waits, or has been taken since."""
        who, id = self.accounts[account], f"{account}-{where}-{number}"
        entry = (self.names[where], who, id, lane)
        if again:
            pushed = self.run(queue.push_many(self.redis, [entry]))
            assert pushed == (id not in self.targets[where].ids)
        else:
            self.run(queue.push(self.redis, *entry))
        if id not in self.targets[where].ids:
            self.targets[where].lanes[lane].push(who, id)

    @rule(where=TARGET, count=st.integers(1, 5))
    def take(self, where: int, count: int) -> None:
        expected = []
        for _ in range(count):
            id = self.targets[where].take(self.may_run)
            if id is None:
                break
            expected.append(id)
            who = self.accounts[int(id[0])]
            self.taken[id] = who
            if self.limits.get(who):
                self.running[who].add(id)
        if not self.targets[where].lanes[LOW].ring:
            self.targets[where].since_low = 0
        assert self.run(queue.take(self.redis, self.names[where], count)) == expected
        if len(expected) < count:
            assert not self.bell(where), "takers would turn for nothing"

    @rule(where=TARGET, account=ACCOUNT, number=NUMBER)
    def remove(self, where: int, account: int, number: int) -> None:
        who, id = self.accounts[account], f"{account}-{where}-{number}"
        self.run(queue.remove_many(self.redis, [(self.names[where], who, id)]))
        for lane in self.targets[where].lanes.values():
            lane.remove(who, id)
        if not self.targets[where].lanes[LOW].ring:
            self.targets[where].since_low = 0

    @rule(which=st.integers(0, 20), twice=st.booleans())
    def end(self, which: int, twice: bool) -> None:
        """A run ends; another process may say so as well."""
        if not self.taken:
            return
        id = sorted(self.taken)[which % len(self.taken)]
        who = self.taken.pop(id)
        if id in self.running[who]:
            self.running[who].discard(id)
            self.wake(who)
        for _ in range(1 + twice):
            self.run(concurrency.release(self.redis, [(who, id)]))

    @rule(account=ACCOUNT, limit=st.sampled_from([None, 0, 1, 1, 2, 3]))
    def limit(self, account: int, limit: int | None) -> None:
        who = self.accounts[account]
        mine = [id for id, owner in self.taken.items() if owner == who]
        self.run(concurrency.set_limit(self.redis, who, limit, mine if limit != 0 else []))
        self.limits[who] = limit or 0
        if limit != 0:
            self.running[who].update(mine)
        self.wake(who)

    def wake(self, account: str) -> None:
        for target in self.targets:
            for lane in target.lanes.values():
                lane.wake(account)

    def bell(self, where: int) -> int:
        return self.run(self.redis.llen(f"queue:{{{self.names[where]}}}:bell"))

    @invariant()
    def nothing_is_lost_and_whoever_can_be_taken_rings(self) -> None:
        if not hasattr(self, "names"):
            return
        for number, target in enumerate(self.targets):
            assert self.run(queue.depth(self.redis, self.names[number])) == len(target.ids)
            if any(self.may_run(self.accounts[int(id[0])], id) for id in target.ids):
                assert self.bell(number), f"{target.ids} wait, and nobody would come"

    def teardown(self) -> None:
        if not hasattr(self, "names"):
            return
        for account in self.accounts:
            self.run(concurrency.set_limit(self.redis, account, 0, []))
            self.wake(account)
        self.limits = {}
        for number in range(2):
            for _ in range(10):
                self.take(number, 5)
            assert not self.targets[number].ids
            keys = self.run(self.redis.keys(f"queue:{{{self.names[number]}}}*"))
            assert [key for key in keys if not key.endswith(":arrivals")] == []
        self.run(self.redis.hdel(LIMITS, *self.accounts))
        self.run(self.redis.delete(*map(running_key, self.accounts)))
        self.run(queue.wake(self.redis, self.accounts))
