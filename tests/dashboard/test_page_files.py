"""The page's files: the import map made from its folders, and the permitted imports."""

import json
import re

import pytest

from casket.dashboard import page

OWN = {name: file for name, file in page.modules().items() if name.startswith("casket/")}
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
"""Types in comments are imported by the type checker alone."""

TEXTS = {name: COMMENT.sub("", (page.WEB / file).read_text("utf-8")) for name, file in OWN.items()}
STATIC = {name: re.findall(r'\bfrom "([^"]+)";', text) for name, text in TEXTS.items()}
DYNAMIC = {name: re.findall(r'\bimport\("([^"]+)"\)', text) for name, text in TEXTS.items()}


def sent():
    """The page as the server sends it."""
    return page.asset(page.INDEX).content.decode()


def test_every_module_and_every_library_is_in_the_import_map():
    (text,) = re.findall(r'<script type="importmap">(.*?)</script>', sent(), re.DOTALL)
    mapped = json.loads(text)["imports"]
    files = {address.removeprefix("./static/") for address in mapped.values()}
    written = {path.relative_to(page.WEB).as_posix() for path in page.WEB.glob("*/*.js")}
    assert written - files == {"libraries/echarts.js"}  # which is built into vendor/
    assert mapped["casket/model/facts"] == "./static/model/facts.js"
    assert mapped["preact/hooks"] == "./static/vendor/preact/hooks.js"


def test_what_the_page_links_to_is_there():
    linked = re.findall(r'"\./static/([^"]+)"', sent())
    assert linked
    assert not [name for name in linked if page.asset(name) is None]


def test_what_the_first_view_needs_is_loaded_before_it_is_asked_for_and_no_more():
    preloaded = re.findall(r'<link rel="modulepreload" href="\./static/([^"]+)"', sent())
    assert preloaded[0] == "shell/app.js"
    assert len(set(preloaded)) == len(preloaded)
    needed = {"model/facts.js", "sessions/table.js", "vendor/preact.js", "vendor/uplot.js"}
    assert needed | {"curves/curves.js", "curves/painter.js"} <= set(preloaded)
    later = {"where/where.js", "explore/explore.js", "compare/compare.js", "session/session.js"}
    assert not (later | {"vendor/echarts.js", "curves/picture.js"}) & set(preloaded)


def test_a_module_that_is_added_is_in_the_map_at_once(monkeypatch, tmp_path):
    (tmp_path / "shell").mkdir()
    (tmp_path / "shell" / "app.js").write_text('import "casket/shell/other";')
    (tmp_path / "index.html").write_text(f"<head>{page.IMPORTS}</head>")
    monkeypatch.setattr(page, "WEB", tmp_path)
    assert '"casket/shell/app"' in sent()
    (tmp_path / "shell" / "other.js").write_text("")
    assert '"casket/shell/other"' in sent()


def test_the_stylesheets_of_all_parts_come_as_one_the_libraries_first():
    text = page.asset(page.STYLE).content.decode()
    sheets = [*page.WEB.glob("*/*.css")]
    assert len(sheets) > len(page.PARTS) - 1
    assert all(sheet.read_text("utf-8") in text for sheet in sheets)
    assert text.index(".uplot") < text.index(":root") < text.index(".side-by-side")


@pytest.mark.parametrize("name", OWN)
def test_modules_import_what_is_there(name):
    assert not [each for each in (*STATIC[name], *DYNAMIC[name]) if each not in page.modules()]


def test_every_module_is_imported():
    imported = {each for names in (*STATIC.values(), *DYNAMIC.values()) for each in names}
    assert OWN.keys() - imported == {page.ENTRY}


@pytest.mark.parametrize("name", OWN)
def test_no_module_imports_itself_by_a_detour(name):
    seen, waiting = set(), list(STATIC[name])
    while waiting:
        each = waiting.pop()
        if each in OWN and each not in seen:
            seen.add(each)
            waiting += STATIC[each]
    assert name not in seen


@pytest.mark.parametrize("name", [name for name in OWN if name.startswith("casket/model/")])
def test_the_model_knows_no_view(name):
    own = [each for each in STATIC[name] if each.startswith("casket/")]
    assert not [each for each in own if not each.startswith("casket/model/")]
