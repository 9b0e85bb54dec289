"""Summaries as SVG, drawn by hand: few shapes, no library."""

import math
from collections.abc import Iterable
from pathlib import Path

from bench.simulator.fleet import Use
from bench.simulator.report import CLASSES, Summary

_COLORS = ("#0b6e4f", "#c8553d", "#e0a458", "#588b8b", "#6d6875")
_USES = {Use.BUSY: "#0b6e4f", Use.BOOTING: "#c8553d", Use.LEAVING: "#e0a458", Use.IDLE: "#a9c5ba", Use.FREE: "#eceff1"}
_LEFT, _TOP, _WIDE, _HIGH = 70, 50, 560, 260
_INK = "#263238"
#: In percent of the calls: below it nobody waits.
_FIRST = 50


def draw(found: list[Summary], folder: Path) -> None:
    """Those of the first seed."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = [one for one in found if one.seed == found[0].seed]
    (folder / "waiting.svg").write_text(_waiting(shown))
    (folder / "gpus.svg").write_text(_gpus(shown))
    (folder / "boots.svg").write_text(_by_boot(shown))


def _waiting(shown: list[Summary]) -> str:
    top = _round(_most(one.curve[99] for one in shown))
    body = [*_ruler(top, "s"), *_legend([one.policy for one in shown], _COLORS)]
    body += [_text(_across(share), _TOP + _HIGH + 18, f"{share} %", "middle") for share in (50, 60, 70, 80, 90, 99)]
    for one, color in zip(shown, _COLORS, strict=False):
        points = " ".join(
            f"{_across(share):.1f},{_TOP + _HIGH * (1 - wait / top):.1f}"
            for share, wait in enumerate(one.curve)
            if share >= _FIRST and wait <= top
        )
        body.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2.5"/>')
    return _page("So many of all calls wait no longer than", body)


def _gpus(shown: list[Summary]) -> str:
    body = [*_ruler(100.0, "%"), *_legend(list(_USES), _USES.values())]
    step = _WIDE / len(shown)
    for number, one in enumerate(shown):
        y, x = _TOP + _HIGH, _LEFT + step * (number + 0.2)
        for use, color in _USES.items():
            height = one.gpu_shares[use] * _HIGH
            y -= height
            body.append(_bar(x, y, step * 0.6, height, color))
        body.append(_text(x + step * 0.3, _TOP + _HIGH + 18, one.policy, "middle"))
    return _page("What the GPUs did, share of their time", body)


def _by_boot(shown: list[Summary]) -> str:
    top = _round(_most(max(one.by_boot) for one in shown))
    body = [*_ruler(top, "s"), *_legend([one.policy for one in shown], _COLORS)]
    names, low = [], 2.0
    for limit in CLASSES[:-1]:
        names.append(f"{low:g} to {limit:g} s")
        low = limit
    group = _WIDE / len(CLASSES)
    for place, name in enumerate([*names, f"over {low:g} s"]):
        width = group * 0.8 / len(shown)
        for number, (one, color) in enumerate(zip(shown, _COLORS, strict=False)):
            wait = one.by_boot[place]
            height = min(wait / top, 1.0) * _HIGH
            x = _LEFT + group * (place + 0.1) + width * number
            body.append(_bar(x, _TOP + _HIGH - height, width * 0.9, height, color))
            if wait > top:
                body.append(_text(x + width * 0.45, _TOP - 4, f"{wait:.0f} s", "middle"))
        body.append(_text(_LEFT + group * (place + 0.5), _TOP + _HIGH + 18, name, "middle"))
    return _page("Mean wait for models that boot in", body)


def _across(share: int) -> float:
    return _LEFT + (share - _FIRST) / (100 - _FIRST) * _WIDE


def _most(values: Iterable[float]) -> float:
    """Of all but one that is so far away that nothing could be told of the others: that one leaves the picture."""
    *_, second, first = sorted([0.0, *values])
    return second if 0.0 < second * 3 < first else first


def _round(most: float) -> float:
    """The top of a ruler with four steps, each of them a round number."""
    size = 10.0 ** math.floor(math.log10(max(most, 1e-9) / 4))
    return 4 * size * next(step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10) if 4 * size * step >= most)


def _ruler(top: float, unit: str) -> list[str]:
    marks = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _TOP + _HIGH * (1 - share)
        line = f'<line x1="{_LEFT}" x2="{_LEFT + _WIDE}" y1="{y:.1f}" y2="{y:.1f}" stroke="#cfd8dc"/>'
        marks += [line, _text(_LEFT - 8, y + 4, f"{top * share:.3g} {unit}", "end")]
    return marks


def _legend(names: Iterable[str], colors: Iterable[str]) -> list[str]:
    marks = []
    for number, (name, color) in enumerate(zip(names, colors, strict=False)):
        x = _LEFT + number * 118
        marks += [_bar(x, _TOP + _HIGH + 36, 12, 12, color), _text(x + 18, _TOP + _HIGH + 46, name, "start")]
    return marks


def _bar(x: float, y: float, width: float, height: float, color: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{color}"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="12" fill="{_INK}">{words}</text>'


def _page(title: str, body: list[str]) -> str:
    width, height = _LEFT + _WIDE + 40, _TOP + _HIGH + 64
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
    ground = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    heading = f'<text x="{_LEFT}" y="28" font-size="16" fill="{_INK}">{title}</text>'
    return "\n".join([head, ground, heading, *body, "</svg>\n"])
