"""The report: the page and its data in a single self-contained HTML file."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from casket import __version__
from casket.dashboard import page
from casket.dashboard.answers import contents, curves, details, heatmap, overview
from casket.dashboard.answers.encoding import json_of
from casket.dashboard.answers.requests import CurveKind, CurvesRequest, RequestError
from casket.format.artifacts import Artifact
from casket.reading.metrics import facts_of
from casket.reading.summary import facts
from casket.reading.sweeps import sweeps_of
from casket.reading.views import ExperimentView, SessionView

LARGEST_IMAGE = 1 << 20
"""Maximum bytes of an embedded image artifact; larger images are only listed."""


def report(
    name: str,
    experiments: Iterable[ExperimentView],
    sessions: Sequence[SessionView],
    points: int,
    advance: Callable[[int], object] = lambda _: None,
) -> bytes:
    """Return the page with its data embedded.

    Args:
        name: the name of the experiment file.
        experiments: the experiments of the sessions.
        sessions: the sessions to show.
        points: the maximum number of points per curve.
        advance: called with the number of newly completed sessions.

    Raises:
        CasketError: the page is incomplete.
    """
    page.check()
    keyed = {f"0.{session.id}": session for session in sessions}
    known = {session.experiment for session in sessions}
    rows, shown, heatmaps = [], {}, {}
    for key, session in keyed.items():
        rows.append(overview.row(session, key, 0) | overview.values(facts(session)))
        shown[key] = _details(session, key)
        with contextlib.suppress(RequestError):  # few sessions are grid searches
            heatmaps[key] = heatmap.heatmap(session)
        advance(1)
    data = {
        "overview": {
            "version": __version__,
            "edit": False,
            "cursor": "",
            "max_points": points,
            "files": [{"name": name, "place": name, "state": "ready", "error": None}],
            "experiments": [overview.experiment(e, 0) for e in experiments if e.id in known],
            "sessions": rows,
            "metrics": {
                name: facts_of(name) for name in frozenset().union(*map(overview.metrics_of, rows))
            },
        },
        "sessions": shown,
        "curves": {kind: _curves(keyed, kind, points) for kind in ("epoch", "batch")},
        "heatmaps": heatmaps,
        "sweeps": [{"file": 0, **sweep.facts()} for sweep in sweeps_of(sessions)],
    }
    return with_data(data)


def with_data(data: Mapping[str, Any]) -> bytes:
    """Return the page with its modules, styles and data embedded."""
    style = page.stylesheet()
    imports = page.import_map({name: _as_data_url(file) for name, file in page.modules().items()})
    start = f"import {orjson.dumps(page.ENTRY).decode()};"
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: blob:; "
        f"script-src data: {page.digest(imports)} {page.digest(start)}; "
        f"style-src {page.digest(style)}"
    )
    parts = {
        "<head>": f'<head>\n    <meta http-equiv="Content-Security-Policy" content="{policy}" />',
        page.STYLE_LINK: f"<style>{style}</style>",
        page.IMPORTS: page.import_map_script(imports),
        page.ENTRY_SCRIPT: (
            f'<script type="application/json" id="casket-data">{_embedded(data)}</script>\n'
            f'    <script type="module">{start}</script>'
        ),
    }
    return re.sub("|".join(map(re.escape, parts)), lambda m: parts[m[0]], page.template()).encode()


def _embedded(data: Mapping[str, Any]) -> str:
    """Return JSON that is safe to embed in HTML and JavaScript."""
    text = json_of(data).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _as_data_url(file: str) -> str:
    content = (page.WEB / file).read_bytes()
    return f"data:text/javascript;base64,{base64.b64encode(content).decode()}"


def _details(session: SessionView, key: str) -> dict[str, Any]:
    fields = details.details(session, key, 0)
    fields["artifacts"] = [_artifact(one) for one in session.artifacts.values()]
    return fields


def _artifact(one: Artifact) -> dict[str, Any]:
    """Return the description of an artifact; only images are embedded in the report."""
    named = {"name": one.name, "size": one.size, "media_type": one.media_type}
    if one.captured is not None:
        named["captured"] = one.captured
    if one.step is not None:
        named["step"] = one.step
    media_type = contents.image_type_of(one)
    if media_type is None or one.size > LARGEST_IMAGE:
        return named  # also if the record exists, but its file is missing
    with one.folder.stream(one.file) as file:
        content = file.read()
    encoded = base64.b64encode(content).decode()
    return {**named, "image": f"data:{media_type};base64,{encoded}"}


def _curves(sessions: Mapping[str, SessionView], kind: CurveKind, points: int) -> dict[str, Any]:
    logged = [session.logged(kind) for session in sessions.values()]
    metrics = list(dict.fromkeys(name for each in logged for name in each.metrics()))
    request = CurvesRequest(metrics, list(sessions), kind, "number", points, None, {})
    return curves.with_times(request, lambda key: contextlib.nullcontext(sessions[key]))
