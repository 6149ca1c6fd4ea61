"""The report: the page with its data inside, opened from disk without a network."""

import base64
import html.parser
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from casket import Experiment
from casket.dashboard import page as page_files
from tests.dashboard.asking import filled, new_model, numbers

SCRIPT = "</script><script>alert(1)</script><!-- \u2028"


class Elements(html.parser.HTMLParser):
    """Finds the elements of a page as a browser does: `(tag, attributes, text)`."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append([tag, dict(attrs), ""])

    def handle_data(self, data):
        if self.found:
            self.found[-1][2] += data

    def of(self, tag, **wanted):
        return [
            (attributes, text)
            for name, attributes, text in self.found
            if name == tag and wanted.items() <= attributes.items()
        ]


def data_of(text):
    ((_, content),) = Elements(text).of("script", id="casket-data")
    return json.loads(content)


@pytest.fixture
def export(run_command, tmp_path):
    """Export a file as a report; return its text."""

    def write(file, *options):
        output = tmp_path / "report.html"
        run_command("export", file, "-o", output, *options)
        return output.read_text(encoding="utf-8")

    return write


def test_a_report_holds_what_the_page_shows(export, ask, tmp_path):
    path = filled(tmp_path / "runs.json", sessions=3, epochs=4)
    report, client = data_of(export(path)), ask(path)
    live = client.get("/api/overview").json()
    assert report["overview"]["sessions"] == live["sessions"]
    assert report["overview"]["experiments"] == live["experiments"]
    assert report["overview"]["files"] == [
        {"name": "runs.json", "place": "runs.json", "state": "ready", "error": None}
    ]
    question = {"metrics": ["loss"], "sessions": list(report["sessions"])}
    answer = client.post("/api/curves", json=question).json()
    curves = report["curves"]["epoch"]
    assert curves["xs"] == [numbers(xs) for xs in answer["xs"]] == [[1, 2, 3, 4]]
    for ours, theirs in zip(curves["curves"], answer["curves"], strict=True):
        assert theirs.items() <= ours.items()
        times = curves["times"][ours["times"]]
        assert times == sorted(times)
        assert len(times) == 4
    for key, session in report["sessions"].items():
        shown = client.get(f"/api/session/{key}").json()
        assert {**session, "artifacts": []} == {**shown, "artifacts": []}


def test_where_chooses_and_points_bounds(export, tmp_path):
    path = filled(tmp_path / "runs.json", sessions=3, epochs=100)
    data = data_of(export(path, "--where", "params.seed > 0", "--points", "10"))
    assert [row["params"]["seed"] for row in data["overview"]["sessions"]] == [1, 2]
    for curve in data["curves"]["epoch"]["curves"]:
        assert len(curve["y"]) == curve["shown"] <= 10
        assert curve["count"] == 100
    assert data["overview"]["max_points"] == 10


def test_no_name_ends_the_data(export, tmp_path):
    path = tmp_path / "runs.json"
    model = Experiment.use(str(path), exp_id=SCRIPT).model(SCRIPT)
    with model.session({SCRIPT: SCRIPT}) as session:
        session.add_epoch(1, {SCRIPT: 1.0})
    text = export(path)
    data = data_of(text)
    assert data["overview"]["experiments"][0]["id"] == SCRIPT
    assert "alert(1)</script>" not in text
    assert "\u2028" not in text


def test_a_report_asks_nobody_for_anything(export, tmp_path):
    text = export(filled(tmp_path / "runs.json"))
    elements = Elements(text)
    for tag in ("script", "img", "link", "iframe"):
        for attributes, _ in elements.of(tag):
            address = attributes.get("src") or attributes.get("href") or "data:"
            assert address.startswith("data:"), (tag, attributes)
    ((_, mapped),) = elements.of("script", type="importmap")
    files = page_files.modules()
    imports = json.loads(mapped)["imports"]
    assert imports.keys() == files.keys()
    for name, address in imports.items():
        head, _, content = address.partition(",")
        assert head == "data:text/javascript;base64"
        assert base64.b64decode(content) == (page_files.WEB / files[name]).read_bytes()
    ((_, style),) = elements.of("style")
    assert style.strip() == page_files.stylesheet().strip()
    ((policy, _),) = elements.of("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none';")
    assert "'unsafe-inline'" not in policy["content"]
    assert "http" not in policy["content"]


def test_images_are_inside_and_other_artifacts_are_named(export, tmp_path):
    path = tmp_path / "runs.json"
    small, large = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 8)).save(small, "PNG")
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), dtype="uint8")
    Image.fromarray(noise).save(large, "PNG")
    assert large.tell() > 1 << 20
    with new_model(path).session({"a": 1}) as session:
        session.add_artifact("small.png", small.getvalue())
        session.add_artifact("large.png", large.getvalue())
        session.add_artifact("net.bin", b"net")
        session.add_artifact("gone.bin", b"gone")
    for file in (tmp_path / "runs.json.files").iterdir():
        if file.read_bytes() == b"gone":
            file.unlink()
    ((session),) = data_of(export(path))["sessions"].values()
    artifacts = {one["name"]: one for one in session["artifacts"]}
    encoded = base64.b64encode(small.getvalue()).decode()
    assert artifacts["small.png"]["image"] == f"data:image/png;base64,{encoded}"
    for name in ("large.png", "net.bin", "gone.bin"):
        assert artifacts[name].keys() == {"name", "size", "media_type"}
    assert str(tmp_path) not in json.dumps(session["artifacts"])


def test_a_grid_search_has_its_heat_map(export, tmp_path):
    path = tmp_path / "runs.json"
    with new_model(path).session({"a": 1}) as session:
        result = {"grid_search_params": {"C": 1}, "dev_scores": {"mean": 0.5, "std": 0.1}}
        session.add_result(result)
    ((heatmap),) = data_of(export(path))["heatmaps"].values()
    assert heatmap["cells"] == [
        {"params": {"C": 1}, "scores": {"score": {"mean": 0.5, "std": 0.1}}}
    ]


def test_large_arrays_are_not_loaded_into_it(export, tmp_path):
    path = tmp_path / "runs.json"
    with new_model(path).session({"a": 1}) as session:
        session.add_result({"w": np.arange(1_000_000.0)})
    text = export(path)
    ((session),) = data_of(text)["sessions"].values()
    assert session["results"][0]["result"]["w"]["shape"] == [1_000_000]
    assert len(text) < 6_000_000


def test_without_the_servers_packages_a_report_can_be_written(run_python, tmp_path):
    filled(tmp_path / "runs.json")
    printed = run_python(
        """
        from click.testing import CliRunner
        from casket.cli.app import app
        result = CliRunner().invoke(app, ["export", "runs.json", "-o", "report.html"])
        print(result.exit_code, result.output)
        """,
        without=("starlette", "uvicorn", "numpy"),
    )
    assert printed.startswith("0 ")
    assert (tmp_path / "report.html").stat().st_size > 100_000


def test_a_report_opens_from_disk_without_a_network(export, page, tmp_path):
    export(filled(tmp_path / "runs.json", sessions=3, epochs=20))
    page.context.set_offline(True)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    page.get_by_text("exp").first.wait_for()
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


def test_a_report_of_a_file_whose_name_is_not_utf_8_is_written(export, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.json")
    filled(tmp_path / "runs.json").rename(path)
    (file,) = data_of(export(path))["overview"]["files"]
    assert file["name"].endswith("caf\ufffd.json")
