"""System metrics: samples of the machine, the process and its accelerators, thinned and read."""

import json
import math
import os
import subprocess
import sys
import threading
from types import ModuleType

import pytest

import casket
from casket import Experiment
from casket.cli.app import app
from casket.dashboard.answers import system as answer
from casket.reading.system import ROWS, SystemLog
from casket.writing.capture import gpus, system
from casket.writing.capture.gpus import visible
from casket.writing.capture.system import Probe, Samples
from tests.waiting import eventually

MACHINE = {
    "cpu_percent",
    "memory_bytes",
    "process_cpu_percent",
    "process_memory_bytes",
    "disk_read_bytes",
    "disk_write_bytes",
    "network_sent_bytes",
    "network_received_bytes",
}
UUIDS = [f"GPU-{letter * 8}" for letter in "abcd"]


class FakeNvml(ModuleType):
    """A fake of nvidia-ml-py: the answers that its functions give for four A100 of a machine."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    class Utilization:
        gpu, memory = 87, 41

    class Memory:
        total, free, used = 85_899_345_920, 75_000_000_000, 10_899_345_920

    def nvmlInit(self):
        pass

    def nvmlDeviceGetCount(self):
        return 4

    def nvmlDeviceGetHandleByIndex(self, number):
        return number

    def nvmlDeviceGetUUID(self, handle):
        return UUIDS[handle]

    def nvmlDeviceGetUtilizationRates(self, handle):
        return self.Utilization

    def nvmlDeviceGetMemoryInfo(self, handle):
        return self.Memory

    def nvmlDeviceGetPowerUsage(self, handle):
        return 251_370

    def nvmlDeviceGetTemperature(self, handle, sensor):
        if handle == 3:
            raise self.NVMLError("not supported")
        return 60 + handle


def sampled(model, count=1, **kwargs):
    """Return a session that has taken some samples."""
    with model.session({"lr": 0.1}, system_metrics=0.01, **kwargs):
        eventually(lambda: len(model.sessions()[0].system) >= count)
    return model.sessions()[0]


def test_rows_have_the_machine_and_the_process(model):
    view = sampled(model, 3)
    for row in view.system:
        assert next(iter(row)) == "time"
        assert set(row) - {"time"} <= MACHINE
        assert row["process_memory_bytes"] > 1_000_000
        assert {type(value) for name, value in row.items() if name.endswith("bytes")} == {int}
        assert 0 <= row["cpu_percent"] <= 100
    assert view.system[0].get("disk_read_bytes", 0) == 0
    times = [row["time"] for row in view.system]
    assert times == sorted(set(times))
    assert view.last == {}
    eventually(lambda: "casket-system" not in [each.name for each in threading.enumerate()])


def test_one_thread_samples_all_sessions(memory):
    with memory.session({"n": 1}, system_metrics=0.01):
        with memory.session({"n": 2}, system_metrics=0.02):
            eventually(lambda: all(view.system for view in memory.sessions()))
            names = [each.name for each in threading.enumerate()]
            assert names.count("casket-system") == 1
        ended = len(memory.sessions()[1].system)
        more = len(memory.sessions()[0].system) + 3
        eventually(lambda: len(memory.sessions()[0].system) >= more)
        assert len(memory.sessions()[1].system) == ended


def test_sampling_goes_on_after_a_fork_and_not_in_the_child(tmp_path):
    model = Experiment.use(tmp_path / "runs.json", exp_id="exp").model("net")
    with model.session(system_metrics=0.01):
        eventually(lambda: model.sessions()[0].system)
        pid = os.fork()
        if pid == 0:
            os._exit(sum(each.name == "casket-system" for each in threading.enumerate()))
        assert os.waitpid(pid, 0)[1] == 0
        more = len(model.sessions()[0].system) + 2
        eventually(lambda: len(model.sessions()[0].system) >= more)


def test_the_process_includes_its_children():
    probe = Probe()
    memory = probe.sample()["process_memory_bytes"]
    before = probe._seconds_of(probe._tree())
    burn = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        assert probe._seconds_of(probe._tree()) - before > 0.15  # rounded to ticks
        assert probe.sample()["process_memory_bytes"] > memory + 4_000_000
        child.communicate(b"\n")
    assert probe._seconds_of(probe._tree()) - before > 0.15


def test_off_by_default_and_on_by_the_environment(memory, monkeypatch):
    def interval(**arguments):
        with memory.session(repeat=True, **arguments):
            names = [each.name for each in threading.enumerate()]
            return "casket-system" in names

    assert not interval()
    monkeypatch.setenv("CASKET_SYSTEM_METRICS", "30")
    assert interval()
    assert not interval(system_metrics=False)
    monkeypatch.setenv("CASKET_SYSTEM_METRICS", "0")
    assert not interval()
    assert interval(system_metrics=True)
    for wrong in (-1, math.nan, "often"):
        with pytest.raises(casket.BadLocation, match=r"system_metrics=.*seconds between two"):
            interval(system_metrics=wrong)
    monkeypatch.setenv("CASKET_SYSTEM_METRICS", "often")
    with pytest.raises(casket.BadLocation, match=r"\$CASKET_SYSTEM_METRICS='often'"):
        interval()


def test_without_psutil_the_extra_is_named_before_the_session_starts(run_python, tmp_path):
    said = run_python(
        """
        import casket
        model = casket.Experiment.use("runs.json", exp_id="exp").model("net")
        try:
            model.session({"n": 1}, system_metrics=True)
        except casket.MissingDependency as error:
            print(error)
        print(model.sessions())
        """,
        without=("psutil",),
    )
    assert "casket[system]" in said
    assert said.endswith("[]")


def test_nvidia_by_its_own_library(memory, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml("pynvml"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    row = Probe().sample()
    assert {name: value for name, value in row.items() if name.startswith("gpu")} == {
        "gpu.2.percent": 87.0,
        "gpu.2.memory_bytes": 10_899_345_920,
        "gpu.2.watts": 251.37,
        "gpu.2.celsius": 62.0,
        "gpu.3.percent": 87.0,
        "gpu.3.memory_bytes": 10_899_345_920,
        "gpu.3.watts": 251.37,
    }


def test_another_vendor_is_registered(memory, monkeypatch):
    class Other:
        def read(self):
            return {7: {"percent": 50.0}}

    monkeypatch.setattr(gpus, "_registered", [])
    casket.register_accelerators(Other)
    assert Probe().sample()["gpu.7.percent"] == 50.0


def test_a_machine_without_a_driver_has_no_accelerators(monkeypatch):
    nvml = FakeNvml("pynvml")

    def no_driver():
        raise nvml.NVMLError("library not found")

    nvml.nvmlInit = no_driver
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert set(Probe().sample()) <= MACHINE


def test_a_driver_that_fails_is_named_and_fails_nothing(memory, monkeypatch):
    nvml = FakeNvml("pynvml")
    monkeypatch.setitem(sys.modules, "pynvml", nvml)

    def lost():
        raise OSError("GPU is lost")

    nvml.nvmlDeviceGetCount = lost
    monkeypatch.setattr(system, "_samplers", {})
    with memory.session(system_metrics=0.01) as session:
        eventually(lambda: session._recording._works[0]._samples.problem)
        session.add_epoch(1, {"loss": 0.5})
    (view,) = memory.sessions()
    assert view.status == "completed"
    assert view.meta["capture"] == {"system": "OSError: GPU is lost"}


@pytest.mark.parametrize(
    ("limit", "rank", "numbers"),
    [
        (None, None, [0, 1, 2, 3]),
        (None, "1", [1]),
        ("2,3", "1", [3]),
        ("3", "1", [3]),
        (f"{UUIDS[1]}, GPU-c", None, [1, 2]),
        ("", None, []),
        ("-1", None, []),
        ("0,9,1", None, [0]),
        ("2,3", "7", [2, 3]),
    ],
)
def test_ranks_tell_their_accelerators_apart(limit, rank, numbers, monkeypatch):
    for name, value in (("CUDA_VISIBLE_DEVICES", limit), ("LOCAL_RANK", rank)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert visible(UUIDS) == numbers


def test_a_writer_averages_samples_beyond_the_limit():
    written = []
    samples = Samples(1.0, lambda row, time: written.append(row))
    for n in range(12_500):
        samples.add({"cpu_percent": float(n), "disk_read_bytes": 1_000 + n})
    assert len(written) == 5_000 + 2_500 + 625
    assert written[0] == {"cpu_percent": 0.0, "disk_read_bytes": 0}
    assert written[4_999] == {"cpu_percent": 4_999.0, "disk_read_bytes": 4_999}
    assert written[5_000]["cpu_percent"] == 5_000.5
    assert written[7_500]["cpu_percent"] == 10_001.5


def record(n, **values):
    time = f"2026-11-30T{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}.000000Z"
    return {"time": time, "body": {"values": values}}


def test_a_reader_keeps_at_most_5000_rows():
    log = SystemLog()
    for n in range(ROWS + 500):
        log.add(record(n, cpu_percent=float(n), memory_bytes=2 * n))
    rows = log.rows()
    assert len(rows) == ROWS // 2 + 500
    assert rows[0] == {
        "time": "2026-11-30T00:00:00.500000Z", "cpu_percent": 0.5, "memory_bytes": 1
    }  # fmt: skip
    assert rows[-1]["cpu_percent"] == ROWS + 499
    mean = sum(row["cpu_percent"] * (2 if i < ROWS // 2 else 1) for i, row in enumerate(rows))
    assert mean == sum(range(ROWS + 500))


def test_rows_may_differ_in_their_values():
    log = SystemLog()
    log.add(record(2, a=1.5, odd="text", flag=True))
    log.add(record(1, b_bytes=3))
    assert log.rows() == [
        {"time": "2026-11-30T00:00:01.000000Z", "b_bytes": 3},
        {"time": "2026-11-30T00:00:02.000000Z", "a": 1.5},
    ]


@pytest.mark.parametrize("frame", ["to_pandas", "to_polars"])
def test_frames_have_a_row_for_each_sample(model, frame):
    view = sampled(model, 2)
    table = getattr(model, frame)("system")
    assert len(table) == len(view.system)
    assert {"session", "experiment", "model", "cpu_percent"} <= set(table.columns)
    assert list(table["params.lr"]) == [0.1] * len(table)
    assert list(table["time"]) == sorted(table["time"])
    assert list(table["memory_bytes"]) == [row["memory_bytes"] for row in view.system]


def test_the_command_line_and_the_page_show_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    view = sampled(Experiment.use("runs.json", exp_id="exp").model("net"), 3)
    app(["show", "runs.json"], standalone_mode=False)
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if line.split()[:1] == ["memory_bytes"])
    assert "highest" in line
    app(["show", "runs.json", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["system_rows"] == view.system
    curves = answer.curves(view)
    assert len(curves["seconds"]) == len(view.system)
    assert curves["values"].keys() == view.system[0].keys() - {"time"}
    app(["doctor", "runs.json"], standalone_mode=False)
