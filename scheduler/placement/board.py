"""What is free while a plan is being made, indexed so that a need is placed without looking at every Node.

Knows nothing of who must go, see `clearing.py`, and of sentences, see `refusals.py`.
"""

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Iterator

from scheduler.placement.nouns import Assignment, Device, Held, Need, NodeState

#: Of a GPU's memory; drivers, fragments and a peak that is a little higher than the last one take it.
MARGIN = 0.05
#: Up to so many Nodes that have an artifact are looked at one by one.
_FEW = 32


class Place:
    """A Node as it fills up. `free`: by model, the GPUs that one Instance could have for itself."""

    __slots__ = ("changes", "foreign", "free", "gpus", "instances", "pools", "residents", "room", "state")

    def __init__(self, state: NodeState) -> None:
        self.state = state
        self.room = state.max_instances
        self.gpus: list[str] = []
        """The models of its healthy GPUs, whoever holds them."""
        self.free: dict[str, list[str]] = {}
        self.instances: list[Held] = []
        self.residents: dict[str, list[Held]] = {}
        """By GPU, whom it is held by."""
        self.foreign: set[str] = set()
        """GPUs that are held by somebody else, too."""
        self.pools: list[Pool] = []
        self.changes = 0
        """How often something there was taken, or promised, so that what was found out of it may be kept until then."""

    def free_of(self, model: str | None) -> int:
        return len(self.free.get(model, ())) if model else 0

    def may_share(self, need: Need) -> bool:
        return need.gpu_count == 1 and need.peak_bytes is not None and (need.shares_gpu or self.state.shares_gpus)


class Pool:
    """The Nodes on which needs of one kind may run and that have room, by how much of it: the tightest come first."""

    def __init__(self, model: str | None, places: Iterable[Place]) -> None:
        self.model = model
        self.places = dict.fromkeys(places)
        """Those that are full, too."""
        self._key_of: dict[Place, int] = {}
        self._by_key: dict[int, dict[Place, None]] = defaultdict(dict)
        for place in self.places:
            place.pools.append(self)
            self.move(place)

    def __contains__(self, place: Place) -> bool:
        return place in self._key_of

    def move(self, place: Place) -> None:
        """To be called when it has got less, or more, room than it had."""
        if (old := self._key_of.pop(place, None)) is not None:
            del self._by_key[old][place]
        if place.room > 0:
            key = place.free_of(self.model) if self.model else place.room
            self._key_of[place] = key
            self._by_key[key][place] = None

    def fits(self, place: Place, count: int) -> bool:
        return place in self._key_of and place.free_of(self.model) >= count

    def tightness(self, place: Place) -> int:
        return self._key_of[place]

    def tightest(self, count: int) -> Iterator[Place]:
        for key in sorted(self._by_key):
            if key >= count:
                yield from self._by_key[key]


class Board:
    def __init__(self, needs: list[Need], nodes: list[NodeState], held: list[Held]) -> None:
        self.places = {node.id: Place(node) for node in nodes}
        self.deployed = Counter(instance.deployment_id for instance in held)
        self._versions = {need.version_id for need in needs}
        self._near: dict[str, dict[Place, None]] = defaultdict(dict)
        """Where a Version that is needed is already."""
        self._spread: dict[str | None, Counter[Place]] = {n.deployment_id: Counter() for n in needs if n.is_spread}
        self._pools: dict[tuple, Pool] = {}
        self._left: dict[str, list[tuple[int, str, Place]]] = defaultdict(list)
        """By model, GPUs that are shared: the bytes left on each, least first."""
        self._left_of: dict[str, int] = {}
        self._take_what_is_held(held)
        self._find_free()
        self._local: dict[str | None, dict[Place, None]] = {None: {}}

    # --- what there is ------------------------------------------------------------------------------------------------

    def _take_what_is_held(self, held: list[Held]) -> None:
        self._holders: dict[str, list[Held]] = defaultdict(list)
        for instance in held:
            for uuid in instance.gpu_uuids:
                self._holders[uuid].append(instance)
            place = self.places.get(instance.node_id)
            if place is not None:
                place.room -= 1
                place.instances.append(instance)
                self._note(place, instance.version_id, instance.deployment_id)

    def _note(self, place: Place, version_id: str, deployment_id: str | None) -> None:
        if version_id in self._versions:
            self._near[version_id][place] = None
        if deployment_id in self._spread:
            self._spread[deployment_id][place] += 1

    def _find_free(self) -> None:
        seen: set[str] = set()
        for place in self.places.values():
            for uuid, model in place.state.gpus.items():
                if uuid in seen:
                    continue  # Two nodes on one machine: a device is the first one's.
                seen.add(uuid)
                place.gpus.append(model)
                holders = self._holders.get(uuid)
                if holders:
                    place.residents[uuid] = holders
                device = place.state.devices.get(uuid)
                if device is not None and is_foreign_held(device):
                    place.foreign.add(uuid)
                elif not holders:
                    place.free.setdefault(model, []).append(uuid)
                    continue
                if device is not None and (left := _left(device, holders or [])) is not None:
                    self._left_of[uuid] = left
                    self._left[model].append((left, uuid, place))
        for lefts in self._left.values():
            lefts.sort(key=_by_left)

    def pool(self, need: Need) -> Pool:
        key = (need.artifact_kind, need.gpu_model if need.gpu_count else None, need.node_labels)
        if key not in self._pools:
            kind, model, labels = key
            able = (
                place
                for place in self.places.values()
                if place.state.is_open and kind in place.state.artifact_kinds and labels <= place.state.labels
            )
            self._pools[key] = Pool(model, able)
        return self._pools[key]

    # --- what is taken ------------------------------------------------------------------------------------------------

    def is_full(self, need: Need) -> bool:
        """Whether its Deployment may have no more, wherever that would be."""
        return need.limit is not None and self.deployed[need.deployment_id] >= need.limit

    def fits(self, need: Need) -> bool:
        pool = self.pool(need)
        return next(pool.tightest(need.gpu_count), None) is not None or self._beside(need, pool) is not None

    def place(self, need: Need) -> Assignment | None:
        if self.is_full(need):
            return None
        pool = self.pool(need)
        beside = self._beside(need, pool)
        if beside is not None:
            return self._share(need, *beside)
        best = self._choose(need, pool)
        return None if best is None else self._give(need, best)

    def reserve(self, place: Place, model: str | None, count: int) -> None:
        """Keeps what is free there for somebody who waits for the rest of it."""
        if place.room > 0:
            place.room -= 1
        if model and count:
            del place.free.get(model, [])[:count]
        self._changed(place)

    def keep(self, uuid: str, model: str, place: Place, bytes: int) -> None:
        """As `reserve`, of what is left on a GPU that is shared."""
        if bytes > 0:
            self._drop_left(uuid, model)
            self._set_left(model, self._left_of[uuid] - bytes, uuid, place)

    def _give(self, need: Need, place: Place) -> Assignment:
        uuids: tuple[str, ...] = ()
        reserved = None
        if need.gpu_count:
            free = place.free[need.gpu_model]
            uuids = tuple(sorted(free, key=need.avoids.__contains__)[: need.gpu_count])
            place.free[need.gpu_model] = [uuid for uuid in free if uuid not in uuids]
            if place.may_share(need):
                reserved = self._open_up(need, place, uuids[0])
        self._taken(need, place)
        return Assignment(need, place.state.id, uuids, reserved is not None, reserved)

    def _open_up(self, need: Need, place: Place, uuid: str) -> int | None:
        """Whoever may share leaves to others what it does not use. None: it takes all, or nobody knows how much is."""
        left = _left(place.state.devices.get(uuid), [])
        if left is None or left < need.peak_bytes:
            return None
        self._set_left(need.gpu_model, left - need.peak_bytes, uuid, place)
        return need.peak_bytes

    def _share(self, need: Need, uuid: str, place: Place) -> Assignment:
        self._drop_left(uuid, need.gpu_model)
        self._set_left(need.gpu_model, self._left_of[uuid] - need.peak_bytes, uuid, place)
        self._taken(need, place)
        return Assignment(need, place.state.id, (uuid,), True, need.peak_bytes)

    def _drop_left(self, uuid: str, model: str) -> None:
        lefts = self._left[model]
        del lefts[bisect_left(lefts, (self._left_of[uuid], uuid), key=_by_left)]

    def _set_left(self, model: str, left: int, uuid: str, place: Place) -> None:
        self._left_of[uuid] = left
        insort(self._left[model], (left, uuid, place), key=_by_left)

    def _taken(self, need: Need, place: Place) -> None:
        place.room -= 1
        self.deployed[need.deployment_id] += 1
        self._note(place, need.version_id, need.deployment_id)
        self._changed(place)

    def _changed(self, place: Place) -> None:
        place.changes += 1
        for pool in place.pools:
            pool.move(place)

    # --- where it is best ---------------------------------------------------------------------------------------------

    def left_of(self, uuid: str) -> int:
        """Bytes that are left on a GPU that is shared; fewer than none, where its holders grew."""
        return self._left_of[uuid]

    def is_shared(self, uuid: str) -> bool:
        return uuid in self._left_of

    def _beside(self, need: Need, pool: Pool) -> tuple[str, Place] | None:
        """A GPU that others hold, too, with the least room that suffices."""
        if need.gpu_count != 1 or need.peak_bytes is None:
            return None
        lefts = self._left[need.gpu_model]
        for index in range(bisect_left(lefts, (need.peak_bytes, ""), key=_by_left), len(lefts)):
            _, uuid, place = lefts[index]
            if place in pool and place.may_share(need):
                return uuid, place
        return None

    def _choose(self, need: Need, pool: Pool) -> Place | None:
        """Rather not where its containers died, whatever else speaks for it."""
        avoided = {self.places[id] for id in need.avoids if id in self.places}
        best = self._choose_among(need, pool, avoided)
        return self._choose_among(need, pool, ()) if best is None and avoided else best

    def _choose_among(self, need: Need, pool: Pool, without: Collection[Place]) -> Place | None:
        """Packed tightly: where the Version is already, or its artifact, else where least is free, so that whole
        Nodes stay empty. What is spread goes rather where nothing of its Deployment is."""
        if need.is_spread:
            hosts = self._spread[need.deployment_id]
            away = self._tightest(need, pool, {*hosts, *without})
            if away is not None:
                return away
            fitting = [place for place in hosts if pool.fits(place, need.gpu_count) and place not in without]
            return min(fitting, key=lambda place: (hosts[place], pool.tightness(place)), default=None)
        homes = self._near.get(need.version_id, ())
        near = [place for place in homes if pool.fits(place, need.gpu_count) and place not in without]
        return min(near, key=pool.tightness) if near else self._tightest(need, pool, without)

    def _tightest(self, need: Need, pool: Pool, without: Container[Place] = ()) -> Place | None:
        local = self._where(need.artifact)
        if len(local) <= _FEW:
            here = [place for place in local if pool.fits(place, need.gpu_count) and place not in without]
            if here:
                return min(here, key=pool.tightness)
            local = {}
        others = None
        for place in pool.tightest(need.gpu_count):
            if place in without:
                continue
            if not local or place in local:
                return place
            others = others or place
        return others

    def _where(self, artifact: str | None) -> dict[Place, None]:
        if artifact not in self._local:
            places = self.places.values()
            self._local[artifact] = dict.fromkeys([place for place in places if artifact in place.state.artifacts])
        return self._local[artifact]


def is_foreign_held(device: Device) -> bool:
    """Whether somebody else uses more of it than nobody would notice."""
    if not device.foreign:
        return False
    uses = [process.memory_bytes for process in device.foreign]
    return None in uses or sum(uses) > device.memory_bytes * MARGIN


def _left(device: Device | None, holders: list[Held]) -> int | None:
    """Bytes of a GPU that measured Instances may still be given; None: it is not one that may be shared now."""
    if device is None or not all(holder.shares_gpu and holder.reserved_bytes is not None for holder in holders):
        return None
    foreign = [process.memory_bytes for process in device.foreign]
    if None in foreign:
        return None
    return int(device.memory_bytes * (1 - MARGIN)) - sum(foreign) - sum(holder.reserved_bytes for holder in holders)


def _by_left(item: tuple[int, str, Place]) -> tuple[int, str]:
    return item[:2]
