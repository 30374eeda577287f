"""Where a number comes from: machines, versions and checkouts that are pretended."""

import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

import pytest

from vggbook.book import provenance


@pytest.fixture(autouse=True)
def fresh():
    provenance.device.cache_clear()
    yield
    provenance.device.cache_clear()


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_gpu_is_named_where_the_driver_names_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = '[ "$*" = "--query-gpu=name --format=csv,noheader" ] || exit 1\n'
    program(tmp_path, "nvidia-smi", asked + "echo ' NVIDIA T4 '; echo 'NVIDIA T4'")
    assert provenance.device() == "NVIDIA T4"
    program(tmp_path, "nvidia-smi", "exit 9")
    assert provenance.device() == "NVIDIA T4"  # asked once
    for script in ("echo broken; exit 9", "true", "echo ' '"):
        provenance.device.cache_clear()
        program(tmp_path, "nvidia-smi", script)
        assert provenance.device() == provenance.processor()
    provenance.device.cache_clear()
    (tmp_path / "nvidia-smi").unlink()
    assert provenance.device() == provenance.processor()


TABLE = "processor\t: 0\nmodel name\t: Abacus: 9 beads \nmodel name\t: other\n"


@pytest.mark.parametrize("count, words", [(1, "1 core"), (2, "2 cores")])
def test_a_processor_in_words(monkeypatch, count, words):
    monkeypatch.setattr(provenance, "cores", lambda: count)
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/proc/cpuinfo")
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: TABLE)
    assert provenance.processor() == f"Abacus: 9 beads, {words}"
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: "nothing")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert provenance.processor() == f"arm64, {words}"
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert provenance.processor() == f"arm, {words}"


def test_a_mac_is_asked_by_its_own_program(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance.sys, "platform", "darwin")
    monkeypatch.setattr(Path, "exists", lambda path: False)
    monkeypatch.setattr(provenance, "cores", lambda: 8)
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "sysctl", '[ "$*" = "-n machdep.cpu.brand_string" ] && echo Apple M9')
    assert provenance.processor() == "Apple M9, 8 cores"
    (tmp_path / "sysctl").unlink()
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert provenance.processor() == "arm, 8 cores"


def test_versions():
    found = provenance.versions(["torch", "no-such-package"])
    told = {"torch": metadata.version("torch"), "no-such-package": "absent"}
    assert found == {"python": platform.python_version(), **told}


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "a")
    return tmp_path


def test_a_checkouts_commit_and_its_changes(checkout, monkeypatch):
    head = git(checkout, "rev-parse", "HEAD")
    assert provenance.commit(checkout) == head[:7]
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # the caller's own settings do not count
    assert provenance.git(checkout, "rev-parse", "HEAD") == head
    monkeypatch.delenv("GIT_DIR")
    (checkout / "a").write_text("2")
    assert provenance.commit(checkout) == head[:7] + "+"
    assert provenance.git(checkout, "rev-parse", "nothing") is None


def test_what_is_no_checkout_of_its_own(checkout, tmp_path_factory, monkeypatch):
    inside = checkout / "inside"
    inside.mkdir()
    outside = tmp_path_factory.mktemp("outside")
    for folder in (inside, outside, outside / "missing"):
        assert provenance.git(folder, "status") is None and provenance.commit(folder) == ""
    link = outside / "link"
    link.symlink_to(checkout)
    assert provenance.commit(link) == provenance.commit(checkout) != ""
    monkeypatch.setenv("PATH", str(outside))
    assert provenance.git(checkout, "status") is None and provenance.commit(checkout) == ""


def test_a_checkout_without_a_commit(tmp_path):
    git(tmp_path, "init", "-q")
    assert provenance.commit(tmp_path) == ""


@pytest.mark.parametrize("kind, device", [("cpu", "beads"), ("cuda", "GPU"), ("cuda:1", "GPU")])
def test_a_run_names_the_device_that_it_ran_on(monkeypatch, kind, device):
    monkeypatch.setattr(provenance, "device", lambda: "GPU")
    monkeypatch.setattr(provenance, "processor", lambda: "beads")
    run = provenance.of_run("command", kind, 3)
    assert run["device"] == device
    assert run["versions"]["torchvision"] == metadata.version("torchvision").split("+")[0]


def test_what_a_run_records(monkeypatch):
    roots = []
    monkeypatch.setattr(provenance, "commit", lambda root: roots.append(root) or "abc1234+")
    monkeypatch.setattr(provenance, "processor", lambda: "beads")
    days = [time.strftime("%Y-%m-%d", time.gmtime())]
    run = provenance.of_run("python -m experiments.mine")
    days.append(time.strftime("%Y-%m-%d", time.gmtime()))
    assert run.pop("date") in days
    packages = ("torch", "torchvision", "numpy", "vggbook")
    assert run == {
        "command": "python -m experiments.mine",
        "commit": "abc1234+",
        "device": "beads",
        "versions": provenance.versions(packages),
        "seed": None,
    }
    assert list(run["versions"]) == ["python", *packages]
    here = Path(provenance.__file__)
    assert [root / "src/vggbook/book" / here.name for root in roots] == [here]
    assert provenance.of_run("command", "cpu", 0)["seed"] == 0


def test_a_program_that_hangs_is_left_after_a_minute(monkeypatch):
    asked = []

    def hangs(command, **how):
        asked.append(how["timeout"])
        raise subprocess.TimeoutExpired(command, how["timeout"])

    monkeypatch.setattr(provenance.subprocess, "run", hangs)
    assert provenance.git(Path("/"), "status") is None
    assert provenance.device() == provenance.processor()
    assert asked == [60, 60]


def test_programs_and_tables_are_read_as_utf_8(tmp_path, monkeypatch, ascii_machine):
    monkeypatch.setattr(subprocess, "_text_encoding", lambda: "ascii")
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "nvidia-smi", "printf 'K\\303\\244rtchen\\n'")
    assert provenance.device() == "Kärtchen"
    real = Path.read_text
    (tmp_path / "cpuinfo").write_bytes("model name\t: Zählwerk\n".encode())

    def read_text(path, *words, **options):
        there = tmp_path / "cpuinfo" if str(path) == "/proc/cpuinfo" else path
        return real(there, *words, **options)

    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/proc/cpuinfo")
    monkeypatch.setattr(Path, "read_text", read_text)
    assert provenance.processor().startswith("Zählwerk, ")
