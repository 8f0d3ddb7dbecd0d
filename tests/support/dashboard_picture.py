"""Draw the dashboard from its queries' data: docs/how-to/images/dashboard.svg.

    python -m tests.support.dashboard_picture

A real worker answers some users for a minute, a real Prometheus scrapes it and answers the queries.
The drawing is this script's, not Grafana's, and the picture says so.
"""

import html
import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.support.databases import ROOT, make_template
from tests.support.processes import open_folder
from tests.support.scraping import ask, chosen, prometheus
from tests.support.watched import Watched, watched
from worker.sandbox.postgres import EmbeddedPostgres
from worker.sandbox.redis import EmbeddedRedis

PICTURE = ROOT / "docs/how-to/images/dashboard.svg"
BOARD = json.loads((ROOT / "deploy/grafana/dashboards/worker.json").read_text())
CAPTION = "Drawn by a script from the data of the dashboard's queries; not a screenshot of Grafana."
SHOWN_ROWS = 40
"""Down to the panels of latency; the others look alike."""
_SECONDS = 60
_WIDTH, _HEIGHT, _GAP = 48, 26, 4
_COLOURS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9")
_UNITS = {"s": " s", "reqps": " /s"}
_STYLE = (
    "text{font:12px sans-serif;fill:#ccccdc}.t{font-weight:bold}.s{font-size:26px}"
    "rect{fill:#181b1f}path{fill:none;stroke-width:1.5}"
)

Line = tuple[str, Sequence[tuple[float, float]]]
"""A legend, and the points: second, value."""


def panels() -> list[dict[str, Any]]:
    """Return the panels that are drawn."""
    return [one for one in BOARD["panels"] if one["gridPos"]["y"] < SHOWN_ROWS]


def drawn(data: Mapping[int, Sequence[Line]]) -> str:
    """Draw each panel with its lines, by the panel's id."""
    height = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in panels()) * _HEIGHT + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * _WIDTH} {height}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{24 * _WIDTH}" height="{height}" style="fill:#111217"/>',
        f'<text x="8" y="20">{CAPTION}</text>',
    ]
    for panel in panels():
        at = panel["gridPos"]
        place = f'<g transform="translate({at["x"] * _WIDTH} {at["y"] * _HEIGHT + 30})">'
        parts += [place, *_panel(panel, data.get(panel["id"], ())), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Mapping[str, Any], lines: Sequence[Line]) -> list[str]:
    title = f'<text class="t" x="10" y="18">{html.escape(panel["title"])}</text>'
    if panel["type"] == "row":
        return [title]
    width = panel["gridPos"]["w"] * _WIDTH - _GAP
    height = panel["gridPos"]["h"] * _HEIGHT - _GAP
    unit = _UNITS.get(panel["fieldConfig"]["defaults"].get("unit"), "")
    parts = [f'<rect width="{width}" height="{height}" rx="3"/>', title]
    if panel["type"] == "stat":
        value = f"{lines[0][1][-1][1]:.3g}{unit}" if lines else "?"
        return [*parts, f'<text class="s" x="10" y="{height - 30}">{value}</text>']
    top = max((value for _, points in lines for _, value in points), default=0)
    parts.append(f'<text x="10" y="38">{top:.3g}{unit}</text>')
    for number, (legend, points) in enumerate(lines[: len(_COLOURS)]):
        colour = _COLOURS[number]
        right, up = (width - 20) / _SECONDS, 114 / (top or 1)
        xy = (f"{10 + x * right:.0f} {height - 36 - y * up:.0f}" for x, y in points)
        parts.append(f'<path stroke="{colour}" d="M{"L".join(xy)}"/>')
        place = f'x="{10 + number % 3 * 124}" y="{height - 19 + number // 3 * 13}"'
        parts.append(f'<text {place} style="fill:{colour}">{html.escape(legend)}</text>')
    return parts


def _lines(server: httpx.Client, panel: Mapping[str, Any], end: float) -> list[Line]:
    found: list[Line] = []
    for target in panel.get("targets", ()):
        query = chosen(target["expr"], interval="10s")
        begin = end - _SECONDS
        answer = ask(server, "query_range", query=query, start=f"{begin}", end=f"{end}", step="2")
        for series in answer["result"]:
            labels = series["metric"]
            legend = re.sub(
                r"\{\{(\w+)\}\}", lambda it, of=labels: of.get(it[1], ""), target["legendFormat"]
            )
            points = [(at - begin, float(value)) for at, value in series["values"]]
            found.append((legend, [one for one in points if one[1] == one[1]]))
    return [one for one in found if one[1]]


def _live(seen: Watched) -> None:
    """Let users write for as long as the picture shows, more of them towards the end."""
    ground, began = seen.ground, time.monotonic()
    while (passed := time.monotonic() - began) < _SECONDS:
        for number in range(1 + int(passed / 10)):
            ground.fleet.send(ground.envelope("Are you open?", user=f"visitor-{number}"))
        time.sleep(0.5)


def main() -> None:
    """Run the servers, let users write, draw."""
    with (
        open_folder() as folder,
        tempfile.TemporaryDirectory() as data,
        EmbeddedPostgres(folder / "postgres", fast=True) as postgres,
        EmbeddedRedis(folder / "redis") as redis,
    ):
        make_template(postgres)
        with watched(postgres, redis) as seen, prometheus(seen, Path(data)) as server:
            _live(seen)
            end = time.time()
            PICTURE.write_text(
                drawn({panel["id"]: _lines(server, panel, end) for panel in panels()})
            )


if __name__ == "__main__":
    main()
