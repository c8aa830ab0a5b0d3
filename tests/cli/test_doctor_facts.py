"""What `spectraderm doctor` makes of single things: versions, control groups, instructions, variables."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from spectraderm.cli.doctor import cgroup, clashes, packages, processor, room, surroundings, training
from spectraderm.cli.doctor.fact import Fact, State


def versions(monkeypatch: pytest.MonkeyPatch, **found: str) -> None:
    """What counts as installed; `_` for `-`."""
    monkeypatch.setattr(packages, "installed", lambda name: found.get(name.replace("-", "_"), ""))
    monkeypatch.setattr(clashes, "installed", packages.installed)


def states(facts: Iterator[Fact]) -> list[State]:
    return [fact.state for fact in facts]


def test_a_package_is_judged_by_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    versions(monkeypatch, numpy="1.20", typer="0.30.1", torch="2.13.0+cpu", pillow="12.0")
    assert packages.judge(Requirement("pillow>=11.3,<14")).state == State.ok
    assert packages.judge(Requirement("torch>=2.9,<=2.13.0")).state == State.ok
    old = packages.judge(Requirement("numpy>=1.26,<3"))
    assert (old.state, old.remedy) == (State.warning, 'pip install "numpy>=1.26,<3"')
    assert "every start waits" in packages.judge(Requirement("typer>=0.16,<0.29")).value
    assert packages.judge(Requirement("rich>=13")).state == State.broken


def test_an_extra_is_its_packages_and_those_of_extras_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "numpy>=1",
        'uvicorn>=1; extra == "serve"',
        'spectraderm[serve]; extra == "page"',
        'gradio>=6; extra == "page"',
    )
    needs = [Requirement(line) for line in lines]
    assert [need.name for need in packages.of_extra(needs, "")] == ["numpy"]
    page = list(packages.of_extra(needs, "page"))
    assert [need.name for need in page] == ["uvicorn", "gradio"]

    def judged() -> tuple[State, str]:
        fact = packages.judge_extra("page", page)
        return fact.state, fact.value

    versions(monkeypatch)
    assert judged() == (State.absent, "not installed: no web page")
    versions(monkeypatch, uvicorn="1.2")
    assert judged() == (State.absent, "lacks gradio: no web page")
    versions(monkeypatch, uvicorn="1.2", gradio="5.0")
    assert judged() == (State.warning, "gradio 5.0 is outside of >=6")
    versions(monkeypatch, uvicorn="1.2", gradio="6.1")
    assert judged() == (State.ok, "uvicorn 1.2, gradio 6.1")


def test_packages_in_each_others_way(monkeypatch: pytest.MonkeyPatch) -> None:
    built = {"torch": "2.13.0+cpu"}
    monkeypatch.setattr(clashes, "build", lambda name: built.get(name, ""))
    versions(monkeypatch, opencv_python_headless="5.0", onnxruntime="1.32")
    assert states(clashes.clashes()) == []
    versions(monkeypatch, opencv_python="5.0")
    assert [fact.name for fact in clashes.clashes()] == ["OpenCV"]
    versions(monkeypatch, opencv_python_headless="5.0", opencv_python="5.0", onnxruntime="1", onnxruntime_gpu="1")
    assert states(clashes.clashes()) == [State.warning, State.warning]
    versions(monkeypatch)
    for version, count in (("0.28.0 cuda 13.0", 1), ("0.28.0+cpu", 0)):
        built["torchvision"] = version
        assert len(states(clashes.clashes())) == count


def test_a_build_is_read_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cuda in (("graphical", "'13.0'"), ("plain", "None")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit")
        (tmp_path / name / "version.py").write_text(f"__version__ = '2.9.0'\ncuda: Optional[str] = {cuda}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert clashes.build("graphical") == "2.9.0 cuda 13.0"
    assert clashes.build("plain") == "2.9.0"
    assert clashes.build("not_there_at_all") == ""


def write(root: Path, **files: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)


def test_control_groups_of_both_versions(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    write(tmp_path / "2", cpu__max="400000 100000\n")
    write(tmp_path / "2" / "a", cpu__max="150000 100000\n", memory__max="1000\n", memory__current="900\n")
    write(tmp_path / "2" / "a" / "b", cpu__max="max 100000\n", memory__max="max\n", memory__stat="inactive_file 50\n")
    assert cgroup.quota(tmp_path / "2", own) == 1.5
    assert cgroup.memory(tmp_path / "2", own) == cgroup.Memory(1000, 100)
    own.write_text("4:memory:/x\n1:cpu,cpuacct:/x\n0::/\n")
    write(tmp_path / "1" / "cpu,cpuacct" / "x", cpu__cfs_quota_us="50000\n", cpu__cfs_period_us="100000\n")
    limits = {"memory__limit_in_bytes": "2000\n", "memory__usage_in_bytes": "1900\n"}
    write(tmp_path / "1" / "memory" / "x", **limits, memory__stat="total_inactive_file 400\ncache 1\n")
    write(tmp_path / "1" / "memory", memory__limit_in_bytes="9223372036854771712\n", memory__usage_in_bytes="1\n")
    assert cgroup.quota(tmp_path / "1", own) == 0.5
    assert cgroup.memory(tmp_path / "1", own) == cgroup.Memory(2000, 500)
    own.write_text("4:memory:/\n")
    assert cgroup.memory(tmp_path / "1", own) is None
    assert cgroup.quota(tmp_path / "none", own) is None
    assert cgroup.memory(tmp_path, tmp_path / "none") is None


def test_a_quota_smaller_than_the_cores_is_told() -> None:
    told = processor._cores(8, 16, 2.0)
    assert told.state == State.warning
    assert "taskset -c 0-1" in told.remedy
    assert processor._cores(2, 16, 2.0).state == processor._cores(2, 2, None).state == State.ok


@pytest.mark.parametrize(
    ("flags", "integers", "floats"),
    [
        ("avx2 avx512f avx512_vnni avx512_bf16", "fast", "no AMX"),
        ("avx2 avx_vnni amx_int8 amx_bf16 amx_tile", "fast", "AMX); predictions still use 32"),
        ("avx2 avx_vnni", "fast", "no units"),
        ("avx2 fma", "half as fast", "no units"),
        ("sse4_2", "slow", "no units"),
    ],
)
def test_what_instructions_mean(tmp_path: Path, flags: str, integers: str, floats: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name\t: Acme 1\nflags\t\t: fpu {flags}\n\nmodel name\t: Other\n")
    found = processor.read(tmp_path / "cpuinfo", "x86_64")
    assert found.name == "Acme 1 (x86_64)"
    assert integers in processor.integers(found).value
    assert (processor.integers(found).state == State.warning) == ("avx2" not in flags)
    assert floats in processor.floats(found).value


def test_little_memory_is_told_of_machine_and_container() -> None:
    gigabyte = 10**9
    machine = {"MemTotal": 8 * gigabyte, "MemAvailable": 4 * gigabyte}
    assert room.memory(machine, None).state == State.ok
    assert room.memory(machine, cgroup.Memory(gigabyte, gigabyte // 5)).state == State.warning
    assert room.memory({**machine, "MemAvailable": gigabyte // 5}, None).state == State.warning
    assert room.memory({}, None).state == State.ok


def test_folders_that_are_full_or_of_no_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert room.disk("cache", tmp_path, "").state == State.ok
    assert "not made yet" in room.disk("cache", tmp_path / "a" / "b", "").value
    assert not (tmp_path / "a").exists()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Path("/dev/full").open("wb", buffering=0))  # noqa: SIM115
    full = room.disk("cache", tmp_path, "Make room")
    assert (full.state, "No space left" in full.value) == (State.warning, True)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    assert "can't be used" in room.temporary().value


def test_what_the_cache_takes_is_told_with_how_to_empty_it(tmp_path: Path) -> None:
    folder = tmp_path / "my cache" / "features" / "x"
    folder.mkdir(parents=True)
    (folder / "1").write_bytes(bytes(2_000_000))
    kept, remedy = room.kept(tmp_path / "my cache")
    assert (kept.name, kept.value) == ("cache: features", "2 MB in 1 file")
    assert remedy.value.startswith(f"rm -r '{tmp_path}/my cache'")
    assert [room.size(count) for count in (999, 1500, 2.5e9, 123_456e6)] == ["999 bytes", "1.5 KB", "2.5 GB", "123 GB"]


def test_threads_that_spin_and_other_allocators() -> None:
    calm = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
    assert surroundings.spinning(calm).state == State.ok
    for variables in ({"OMP_WAIT_POLICY": "ACTIVE"}, {"KMP_BLOCKTIME": "infinite"}, {"GOMP_SPINCOUNT": "infinity"}):
        fact = surroundings.spinning(variables)
        assert (fact.state, fact.remedy) == (State.warning, f"unset {next(iter(variables))}")
    assert surroundings.allocator({"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"}, "").value.startswith("jemalloc")
    assert surroundings.allocator({}, "glibc").state == State.ok
    assert surroundings.allocator({}, "").state == State.warning


def test_imports_are_tried_in_a_process_of_their_own() -> None:
    assert training.run("print('fine')") == (0, "fine")
    assert training.run("import os; os.abort()")[0] != 0
    assert training.run("raise OSError('libGL.so.1')") == (1, "OSError: libGL.so.1")
