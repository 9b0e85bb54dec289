"""Who must go, so that a need which fits nowhere fits soon: the cheapest to lose of those who may be lost.

What is chosen is kept for that need, so that no later one takes half of it away: a model that needs four GPUs gets
them, though others need one at a time.
"""

import heapq
import math
from collections import defaultdict
from typing import NamedTuple

from scheduler.placement.board import Board, Place, Pool
from scheduler.placement.nouns import Held, Need

#: Whoever has waited for so many of its own boots may displace what is at work and would never become idle: nobody
#: waits for ever while others are called again and again. Whoever is displaced has had as many of its own boots of
#: time, so that two models that are always called spend most of it at work.
PATIENCE_BOOTS = 10.0
LEAST_PATIENCE_SECONDS = 60.0
#: So many who are gone are looked at again and again, before they are forgotten.
_MANY = 64
#: No idle Instance is as dear as one at work.
_DISPLACING = 1e9


class Way(NamedTuple):
    """One Node on which a need would fit, were these gone."""

    cost: float
    number: int
    """Of Ways that cost the same, the first Node's comes first."""
    place: Place
    changes: int
    """Those of the place, when this was found."""
    victims: tuple[Held, ...]
    free: int
    """How many GPUs are free there already."""


class Clearing:
    def __init__(self, board: Board, held: list[Held]) -> None:
        self._board = board
        self._held = held
        self._spoken_for: set[str] = set()
        """Evicted by this plan, or leaving already, and their place is somebody's."""
        self._heaps: dict[tuple[Pool, int, bool], list[Way]] = {}
        self._prices: dict[tuple[Place, bool], tuple[int, list[tuple[float, str, str]]]] = {}
        self._sharing: dict[tuple[str, bool], list[tuple[float, Held]]] = {}
        self._too_much: dict[tuple[Pool, bool, bool], int] = {}
        """What was asked for of a shared GPU, and nobody's going would have left: nor would it more."""
        self._deployed: dict[str | None, list[Held]] | None = None

    def find(self, need: Need) -> tuple[Held, ...] | None:
        """Who must go for one more Instance, besides those who are leaving; None: nobody's going would help."""
        if self._board.is_full(need):
            return self._within_deployment(need)
        found = self._find(need, False)
        if found is None and is_out_of_patience(need):
            found = self._find(need, True)
        return found

    def _find(self, need: Need, displaces: bool) -> tuple[Held, ...] | None:
        found = self._beside(need, displaces) or self._cheapest(need, displaces)
        if found is None:
            return None
        self._spoken_for.update(victim.id for victim in found)
        return tuple(victim for victim in found if not victim.leaving)

    def _price(self, instance: Held, displaces: bool) -> float | None:
        """What it costs to lose it; None: it stays."""
        if instance.id in self._spoken_for:
            return None
        if instance.leaving:
            return 0.0
        if instance.is_pinned:
            return None
        if instance.evictable and _age(instance) >= instance.boot_seconds:
            return loss(instance)
        if displaces and instance.displaceable and _has_had_its_turn(instance):
            return _DISPLACING + loss(instance)
        return None

    # --- a place of its own -------------------------------------------------------------------------------------------

    def _cheapest(self, need: Need, displaces: bool) -> tuple[Held, ...] | None:
        pool, count = self._board.pool(need), need.gpu_count
        heap = self._heap(pool, count, displaces)
        own: list[Way] = []
        found: Way | None = None
        while heap and found is None:
            way = heapq.heappop(heap)
            if way.changes != way.place.changes:
                way = self._way(way.number, way.place, pool.model, count, displaces)
                if way is not None:
                    heapq.heappush(heap, way)
            elif way.cost >= need.worth:
                own.append(way)
                break
            elif any(victim.target == need.target for victim in way.victims):
                own.append(way)
            else:
                found = way
                own.append(way)
        for way in own:
            heapq.heappush(heap, way)
        if found is None:
            return None
        self._board.reserve(found.place, pool.model, found.free)
        return found.victims

    def _heap(self, pool: Pool, count: int, displaces: bool) -> list[Way]:
        key = (pool, count, displaces)
        if key not in self._heaps:
            ways = (self._way(*item, pool.model, count, displaces) for item in enumerate(pool.places))
            self._heaps[key] = [way for way in ways if way is not None]
            heapq.heapify(self._heaps[key])
        return self._heaps[key]

    def _way(self, number: int, place: Place, model: str | None, count: int, displaces: bool) -> Way | None:
        """The cheapest there is on this Node."""
        free = min(place.free_of(model), count)
        cost, victims = 0.0, {}
        if free < count:
            gpus = [item for item in self._priced(place, displaces) if item[1] == model][: count - free]
            if len(gpus) < count - free:
                return None
            cost = sum(item[0] for item in gpus)
            victims = {holder.id: holder for _, _, uuid in gpus for holder in place.residents[uuid]}
        elif place.room <= 0:
            priced = ((self._price(instance, displaces), instance.id, instance) for instance in place.instances)
            cost, id, cheapest = min((item for item in priced if item[0] is not None), default=(0.0, "", None))
            if cheapest is not None:
                victims = {id: cheapest}
        if not victims:
            return None  # It fits already, or its place is somebody else's.
        return Way(cost, number, place, place.changes, tuple(victims.values()), free)

    def _priced(self, place: Place, displaces: bool) -> list[tuple[float, str, str]]:
        """(cost, model, UUID) of GPUs there that can be cleared, the cheapest first."""
        changes, found = self._prices.get((place, displaces), (-1, []))
        if changes != place.changes:
            found = []
            for uuid, holders in place.residents.items():
                prices = [self._price(holder, displaces) for holder in holders]
                if None not in prices and uuid not in place.foreign:
                    found.append((sum(prices), place.state.gpus[uuid], uuid))
            found.sort()
            self._prices[place, displaces] = place.changes, found
        return found

    # --- a place beside others ----------------------------------------------------------------------------------------

    def _beside(self, need: Need, displaces: bool) -> tuple[Held, ...] | None:
        """One that shares its GPU, and leaves enough of it when it goes."""
        if need.gpu_count != 1 or need.peak_bytes is None:
            return None
        pool = self._board.pool(need)
        kind = (pool, need.shares_gpu, displaces)
        if need.peak_bytes >= self._too_much.get(kind, math.inf):
            return None
        sharers = self._sharers(need.gpu_model, displaces)
        gone = 0
        for index, (price, instance) in enumerate(sharers):
            if price >= need.worth:
                return None
            gone += instance.id in self._spoken_for
            if instance.target != need.target and self._leaves_enough(instance, need, pool):
                if gone > _MANY:
                    sharers[:index] = [item for item in sharers[:index] if item[1].id not in self._spoken_for]
                return (instance,)
        self._too_much[kind] = need.peak_bytes
        return None

    def _leaves_enough(self, instance: Held, need: Need, pool: Pool) -> bool:
        """Keeps its place, if so."""
        [uuid] = instance.gpu_uuids
        place = self._board.places[instance.node_id]
        if instance.id in self._spoken_for or place not in pool.places or not place.may_share(need):
            return False
        if not self._board.is_shared(uuid) or self._board.left_of(uuid) + instance.reserved_bytes < need.peak_bytes:
            return False
        self._board.reserve(place, None, 0)
        self._board.keep(uuid, need.gpu_model, place, need.peak_bytes - instance.reserved_bytes)
        return True

    def _sharers(self, model: str | None, displaces: bool) -> list[tuple[float, Held]]:
        key = (model or "", displaces)
        if key not in self._sharing:
            priced = (
                (self._price(instance, displaces), instance)
                for place in self._board.places.values()
                for uuid, holders in place.residents.items()
                if place.state.gpus[uuid] == model
                for instance in holders
                if instance.shares_gpu and instance.reserved_bytes is not None and len(instance.gpu_uuids) == 1
            )
            self._sharing[key] = sorted((item for item in priced if item[0] is not None), key=lambda item: item[0])
        return self._sharing[key]

    # --- a place of one's own Deployment ------------------------------------------------------------------------------

    def _within_deployment(self, need: Need) -> tuple[Held, ...] | None:
        """There the place is theirs who wait longest: who came for an earlier Release, until served. One at a time."""
        if self._deployed is None:
            self._deployed = defaultdict(list)
            for instance in self._held:
                self._deployed[instance.deployment_id].append(instance)
        fits = self._board.fits(need)
        helpful = [
            instance
            for instance in self._deployed[need.deployment_id]
            if instance.id not in self._spoken_for and (fits or self._makes_room(instance, need))
        ]
        if any(instance.leaving for instance in helpful):
            return None
        candidates = [
            instance
            for instance in helpful
            if instance.target != need.target and not instance.is_pinned and need.oldest_wait > instance.oldest_wait
        ]
        if not candidates:
            return None
        cheapest = min(candidates, key=loss)
        self._spoken_for.add(cheapest.id)
        if cheapest.node_id in self._board.places:
            self._board.places[cheapest.node_id].changes += 1
        return (cheapest,)

    def _makes_room(self, instance: Held, need: Need) -> bool:
        place = self._board.places.get(instance.node_id)
        pool = self._board.pool(need)
        if place is None or place not in pool.places:
            return False
        gpus = place.state.gpus
        if sum(model == pool.model for model in gpus.values()) < need.gpu_count:
            return False
        if place.free_of(pool.model) < need.gpu_count:
            return any(gpus.get(uuid) == pool.model for uuid in instance.gpu_uuids)
        return place.room <= 0


def is_out_of_patience(need: Need) -> bool:
    return need.waiting > 0 and need.oldest_wait > max(LEAST_PATIENCE_SECONDS, need.boot_seconds * PATIENCE_BOOTS)


def loss(instance: Held) -> float:
    """For each of its GPUs: whoever needs one of four may leave the others to the next."""
    whole = instance.boot_seconds / (1.0 + instance.idle_seconds) if instance.loss is None else instance.loss
    return whole / max(1, len(instance.gpu_uuids))


def _age(instance: Held) -> float:
    return instance.idle_seconds if instance.age_seconds is None else instance.age_seconds


def _has_had_its_turn(instance: Held) -> bool:
    return _age(instance) >= max(LEAST_PATIENCE_SECONDS, instance.boot_seconds * PATIENCE_BOOTS)
