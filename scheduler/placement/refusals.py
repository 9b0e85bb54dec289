"""Why a need gets fewer Instances than it should: sentences that a person can act on."""

from collections.abc import Collection

from scheduler.placement.board import Place, is_foreign_held
from scheduler.placement.nouns import Device, Foreign, Labels, Need

#: Of GPUs that are out of use so many are named one by one.
_NAMED = 2
_RUNTIMES = {"image": "Docker", "bundle": "the process runtime"}


def full(need: Need) -> str:
    return f"The deployment has all {need.limit} containers that its max_instances allows."


def refusal(need: Need, places: Collection[Place]) -> str:
    if not places:
        return "No node is up: start one with `python -m worker node`."
    usable = [place for place in places if need.artifact_kind in place.state.artifact_kinds]
    if not usable:
        return f"No node runs {_RUNTIMES[need.artifact_kind]}, which this model needs."
    labelled = [place for place in usable if need.node_labels <= place.state.labels]
    if not labelled:
        return _without_labels(need.node_labels)
    opened = [place for place in labelled if place.state.is_open]
    if not opened:
        return f"Every node that could run this model is {_closed(labelled)}."
    if not need.gpu_count or any(place.free_of(need.gpu_model) >= need.gpu_count for place in opened):
        return f"All {sum(place.state.max_instances for place in opened)} places for containers are taken."
    return " ".join((_without_gpus(need, opened), *_out_of_use(need, opened, len(places) > 1)))


def _without_labels(labels: Labels) -> str:
    named = dict(labels)
    if len(named) == 1 and "node" in named:
        return f"Node {named['node']}, the only one that this model may run on, is not up."
    wanted = ", ".join(sorted(f"{name}={value}" for name, value in labels))
    return f"No node that could run this model has the labels that it asks for: {wanted}."


def _closed(places: list[Place]) -> str:
    words = []
    if any(place.state.is_cordoned and not place.state.is_draining for place in places):
        words.append("cordoned")
    if any(place.state.is_draining for place in places):
        words.append("being drained")
    return " or ".join(words)


def _without_gpus(need: Need, places: list[Place]) -> str:
    counts = [place.gpus.count(need.gpu_model) for place in places]
    if max(counts) < need.gpu_count:
        wanted = need.gpu_model if need.gpu_count == 1 else f"{need.gpu_count} {need.gpu_model}"
        return f"No node has a healthy {wanted}, the Hardware {need.hardware_sku} of this model."
    busy = sum(counts) - sum(place.free_of(need.gpu_model) for place in places)
    together = f"{need.gpu_count} on one node" if need.gpu_count > 1 else "1"
    return f"{busy} of {sum(counts)} {need.gpu_model} busy; this model needs {together}."


def _out_of_use(need: Need, places: list[Place], names_nodes: bool) -> list[str]:
    """Of the GPUs that it could have, those that somebody should look after."""
    found = [
        (f"GPU {device.number} of {place.state.name}" if names_nodes else f"GPU {device.number}", device)
        for place in places
        if place.foreign or len(place.state.devices) > len(place.state.gpus)
        for device in place.state.devices.values()
        if device.model == need.gpu_model and (device.fault or is_foreign_held(device))
    ]
    sentences = [_unhealthy(name, device) if device.fault else _foreign(name, device) for name, device in found]
    more = len(sentences) - _NAMED
    return sentences if more <= 0 else [*sentences[:_NAMED], f"So it is with {more} more."]


def _unhealthy(name: str, device: Device) -> str:
    return f"{name} gets no new containers: {device.fault.rstrip('.')}."


def _foreign(name: str, device: Device) -> str:
    [first, *others] = sorted(device.foreign, key=lambda process: -(process.memory_bytes or 0))
    if not others:
        return f"{name} {_holds([first])} for process {first.pid}, which is not ours."
    ids = ", ".join(str(process.pid) for process in (first, *others))
    return f"{name} {_holds([first, *others])} for processes {ids}, which are not ours."


def _holds(processes: list[Foreign]) -> str:
    known = sum(process.memory_bytes or 0 for process in processes)
    if not known:
        return "is used"
    return f"holds {known / 1e9:.0f} GB" if known >= 1e9 else f"holds {known / 1e6:.0f} MB"
