"""Which method counts, and what happens when one does not work."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.overload import MemoryProbe, Reading, own_memory
from gateway.overload.probe import PAGE_BYTES
from tests.support.memory import MIB, V2_MOUNT, Machine

OWN = 100 * MIB
"""What all workers have."""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def probe(machine: Machine, limit_bytes: int = 0) -> MemoryProbe:
    return MemoryProbe.find(machine.root, used=lambda: OWN, limit_bytes=limit_bytes)


def limited(machine: Machine) -> Path:
    """A machine with a control group that has 300 of 400 MiB."""
    machine.in_v2("/app")
    return machine.v2("app", current=300 * MIB, maximum=400 * MIB)


FROM_GROUP = Reading(300 * MIB, 400 * MIB, "cgroup v2")
FROM_HOST = Reading(OWN, OWN + 8192 * MIB, "host")


def test_a_control_group_comes_first(machine: Machine) -> None:
    limited(machine)
    assert probe(machine).read() == FROM_GROUP


def test_without_control_groups_it_is_what_the_machine_has_left(machine: Machine) -> None:
    assert probe(machine).read() == FROM_HOST


def test_what_other_programs_take_from_the_machine_is_not_left(machine: Machine) -> None:
    looking = probe(machine)
    machine.meminfo(total=16384 * MIB, available=20 * MIB)
    reading = looking.read()
    assert reading == Reading(OWN, OWN + 20 * MIB, "host")
    assert reading.share > 0.8


def test_the_limit_is_never_more_than_the_machine_has(machine: Machine) -> None:
    machine.meminfo(total=150 * MIB, available=120 * MIB)
    assert probe(machine).read() == Reading(OWN, 150 * MIB, "host")


def test_a_group_without_a_limit_or_with_one_beyond_the_machine_leaves_it_to_the_machine(machine: Machine) -> None:
    folder = limited(machine)
    (folder / "memory.max").write_text("max\n")
    assert probe(machine).read() == FROM_HOST
    (folder / "memory.max").write_text(f"{16384 * MIB}\n")
    assert probe(machine).read() == FROM_HOST


def test_a_group_that_is_limited_while_we_run_counts_from_then_on(machine: Machine) -> None:
    folder = limited(machine)
    (folder / "memory.max").write_text("max\n")
    looking = probe(machine)
    assert looking.read() == FROM_HOST
    (folder / "memory.max").write_text(f"{400 * MIB}\n")
    assert looking.read() == FROM_GROUP


@pytest.mark.parametrize("broken", ["gone", "garbage", "no file"])
def test_what_cannot_be_read_is_said_once_and_the_next_method_counts(machine: Machine, broken: str) -> None:
    folder = limited(machine)
    with capture_logs() as lines:
        looking = probe(machine)
        assert looking.read() == FROM_GROUP
        current = folder / "memory.current"
        current.unlink()
        if broken == "garbage":
            current.write_bytes(b"\xff\xfe")
        elif broken == "no file":
            current.mkdir()
        assert [looking.read() for _ in range(3)] == [FROM_HOST] * 3
    (line,) = lines
    assert (line["log_level"], line["event"]) == ("warning", "memory cannot be read this way")
    assert line["source"] == "cgroup v2"
    assert line["error"]


def test_it_comes_back_when_it_can_be_read_again(machine: Machine) -> None:
    folder = limited(machine)
    looking = probe(machine)
    (folder / "memory.current").rename(folder / "away")
    assert looking.read() == FROM_HOST
    (folder / "away").rename(folder / "memory.current")
    assert looking.read() == FROM_GROUP


@pytest.mark.parametrize("file", ["cgroup", "mountinfo"])
@pytest.mark.parametrize("text", [None, "", "garbage\n", "1 2 3 - x\n"])
def test_a_proc_that_tells_nothing_useful_leaves_it_to_the_machine(
    machine: Machine, file: str, text: str | None
) -> None:
    limited(machine)
    path = machine.root / "proc/self" / file
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert probe(machine).read() == FROM_HOST


def test_no_proc_at_all_is_no_reading(tmp_path: Path) -> None:
    with capture_logs() as lines:
        looking = probe(Machine(tmp_path / "a"))
        nothing = MemoryProbe.find(tmp_path / "empty", used=lambda: OWN, limit_bytes=0)
        assert [nothing.read() for _ in range(3)] == [None] * 3
    assert looking.read() is not None
    assert [line["source"] for line in lines] == ["control group", "host"]


def test_a_configured_limit_counts_what_the_workers_have(machine: Machine) -> None:
    assert probe(machine, 200 * MIB).read() == Reading(OWN, 200 * MIB, "memory.limit_bytes")


def test_of_a_configured_limit_and_the_groups_the_tighter_one_counts(machine: Machine) -> None:
    folder = limited(machine)
    assert probe(machine, 200 * MIB).read() == FROM_GROUP
    (folder / "memory.current").write_text(f"{10 * MIB}\n")
    assert probe(machine, 200 * MIB).read() == Reading(OWN, 200 * MIB, "memory.limit_bytes")


def test_a_configured_limit_works_where_nothing_else_does(tmp_path: Path) -> None:
    looking = MemoryProbe.find(tmp_path, used=lambda: OWN, limit_bytes=200 * MIB)
    assert looking.read() == Reading(OWN, 200 * MIB, "memory.limit_bytes")


def test_stalls_are_those_of_the_group_if_it_tells_and_else_of_the_machine(machine: Machine) -> None:
    machine.pressure(12.5)
    looking = probe(machine).read()
    assert looking is not None
    assert looking.stalled == 12.5
    limited(machine)
    machine.pressure(3.25, f"{V2_MOUNT}/app/memory.pressure")
    assert probe(machine).read() == FROM_GROUP._replace(stalled=3.25)


@pytest.mark.parametrize("text", ["", "full avg10=3.0", "some", "some avg10=x\n", "\n"])
def test_stalls_that_are_not_told_are_none(machine: Machine, text: str) -> None:
    machine.put("proc/pressure/memory", text)
    assert probe(machine).read() == FROM_HOST


def test_own_memory_is_what_is_resident_and_not_shared(machine: Machine) -> None:
    machine.statm(resident_pages=1000, shared_pages=300)
    assert own_memory(machine.root) == 700 * PAGE_BYTES
    machine.put("proc/self/statm", "1 2\n")
    assert own_memory(machine.root) == 0


def test_this_machine_can_be_read() -> None:
    system = Path("/")
    block = bytearray(32 * MIB)
    block[:] = b"x" * len(block)  # Resident from now on.
    assert own_memory(system) > len(block)
    reading = MemoryProbe.find(system, used=lambda: own_memory(system), limit_bytes=0).read()
    assert reading is not None
    assert reading.used_bytes > 0
    assert 0 < reading.limit_bytes < 2**60
