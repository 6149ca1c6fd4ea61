"""`casket doctor`."""

from pathlib import Path

import casket
from tests.stores.files import strict_json, traces


def damage(file):
    """Overwrite two bytes of an epoch; return where."""
    data = Path(file).read_bytes()
    at = data.index(b'"kind":"epoch"') + 3
    Path(file).write_bytes(data[:at] + b"\0\0" + data[at + 2 :])
    return at


def test_a_sound_file_is_exit_code_0(run, filled):
    before = traces(Path(filled).parent)
    said = run("doctor", filled)
    assert "of 4 sessions" in said
    assert said.splitlines()[-1] == "no damage"
    assert traces(Path(filled).parent) == before


def test_damage_is_named_with_its_cost_and_is_exit_code_1(run, filled):
    at = damage(filled)
    before = traces(Path(filled).parent)
    said = run("doctor", filled, code=1)
    assert "lost: 1 record of session" in said
    assert said.splitlines()[-1] == "1 damage"
    report = run.json("doctor", filled, code=1)
    assert (report["is_sound"], report["sessions"], report["records"]["epoch"]) == (False, 4, 9)
    [finding] = [one for one in report["findings"] if one["is_damage"]]
    assert finding["start"] < at < finding["stop"]
    [session] = finding["sessions"]
    assert f"lost: 1 record of session {session}" in said
    assert f"session {session}: 1 of its records are not there" in said
    assert traces(Path(filled).parent) == before


def test_repair_asks_keeps_the_old_file_and_makes_it_sound(run, filled):
    damage(filled)
    old = Path(filled).read_bytes()
    before = traces(Path(filled).parent)
    assert "Repair" in run("doctor", filled, "--repair", input="n\n", code=1)
    assert "nothing was changed" in run("doctor", filled, "--repair", "--dry-run", code=1)
    assert traces(Path(filled).parent) == before
    said = run("doctor", filled, "--repair", "--yes")
    [kept] = Path(filled).parent.glob("*.damaged-*")
    assert str(kept) in said
    assert kept.read_bytes() == old
    assert "no damage" in run("doctor", filled)
    assert len(casket.open(filled).sessions()) == 4


def test_a_sound_file_is_not_repaired(run, filled):
    before = traces(Path(filled).parent)
    assert "nothing to repair" in run("doctor", filled, "--repair", "--yes")
    assert traces(Path(filled).parent) == before


def test_what_a_repair_cannot_bring_back_stays_exit_code_1(run, tmp_path):
    file = tmp_path / "runs.json"
    with casket.Experiment.use(file, exp_id="e").model("m").session() as session:
        session.add_epoch(1, {"loss": 0.5})
        session.add_artifact("a.bin", b"a")
    casket.open(file).sessions()[0].artifacts["a.bin"].path.unlink()
    damage(file)
    said = run("doctor", file, "--repair", "--yes", code=1)
    assert "remaining damage: artifact 'a.bin' of session" in said
    assert strict_json(file)


def test_what_is_not_there_or_not_caskets_is_exit_code_2(run, tmp_path):
    assert "does not exist" in run.error("doctor", tmp_path / "runs.json")
    other = tmp_path / "other.json"
    other.write_text('{"a": 1}')
    assert "is not a casket file" in run.error("doctor", other)
    assert "only files of this machine" in run.error("doctor", ":memory:")


def test_doctor_shows_how_far_it_is_in_a_terminal_only(run, terminal, tmp_path):
    file = tmp_path / "runs.json"
    with casket.Experiment.use(file, exp_id="e").model("m").session() as session:
        session.add_artifact("a.bin", b"a" * 100_000)
    code, shown = terminal("doctor", file)
    assert code == 0
    assert "checking runs.json" in shown
    assert "100%" in shown
    assert "checking" not in run("doctor", file)
