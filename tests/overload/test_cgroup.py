"""Control groups, as files tell about them: every tree here stands in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.overload.cgroup import find_cgroups
from gateway.overload.reading import Reading
from tests.support.memory import MIB, V2_MOUNT, Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def read(machine: Machine) -> Reading | None:
    (group,) = find_cgroups(machine.root)
    return group.read()


def test_version_2_counts_what_cannot_be_reclaimed_against_the_hard_limit(machine: Machine) -> None:
    machine.in_v2("/app")
    machine.v2("app", current=600 * MIB, inactive=200 * MIB, maximum=1000 * MIB)
    assert read(machine) == Reading(400 * MIB, 1000 * MIB, "cgroup v2")


def test_the_limit_that_throttles_counts_where_it_is_lower(machine: Machine) -> None:
    machine.in_v2("/app")
    machine.v2("app", current=400 * MIB, maximum=1000 * MIB, high=500 * MIB)
    assert read(machine) == Reading(400 * MIB, 500 * MIB, "cgroup v2")


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        pytest.param(900, Reading(900 * MIB, 1000 * MIB, "cgroup v2"), id="the pod is fuller"),
        pytest.param(500, Reading(300 * MIB, 400 * MIB, "cgroup v2"), id="the container is fuller"),
    ],
)
def test_the_level_with_the_least_room_counts_with_its_own_use(machine: Machine, pod: int, expected: Reading) -> None:
    machine.in_v2("/pod/app")
    machine.v2("pod", current=pod * MIB, maximum=1000 * MIB)
    machine.v2("pod/app", current=300 * MIB, high=400 * MIB)
    assert read(machine) == expected


def test_a_limit_far_up_the_tree_holds_for_a_group_without_one(machine: Machine) -> None:
    machine.in_v2("/a/b/c")
    machine.v2("a", current=70 * MIB, maximum=100 * MIB)
    machine.v2("a/b", current=60 * MIB)
    machine.v2("a/b/c", current=50 * MIB)
    assert read(machine) == Reading(70 * MIB, 100 * MIB, "cgroup v2")


def test_max_is_no_limit(machine: Machine) -> None:
    machine.in_v2("/app")
    machine.v2("app", current=600 * MIB)
    assert read(machine) is None


def test_a_container_that_sees_its_own_group_as_the_root_of_the_mount(machine: Machine) -> None:
    machine.in_v2("/docker/1234", mounted="/docker/1234")
    machine.v2("", current=50 * MIB, maximum=100 * MIB)
    assert read(machine) == Reading(50 * MIB, 100 * MIB, "cgroup v2")


def test_a_container_with_a_namespace_of_its_own(machine: Machine) -> None:
    machine.in_v2("/")
    machine.v2("", current=50 * MIB, maximum=100 * MIB)
    assert read(machine) == Reading(50 * MIB, 100 * MIB, "cgroup v2")


def test_a_mount_that_shows_another_part_of_the_tree_is_read_at_its_root(machine: Machine) -> None:
    machine.in_v2("/../../elsewhere", mounted="/")
    machine.v2("", current=50 * MIB, maximum=100 * MIB)
    assert read(machine) == Reading(50 * MIB, 100 * MIB, "cgroup v2")


def test_the_root_of_all_groups_has_no_account(machine: Machine) -> None:
    machine.in_v2("/")
    (machine.root / V2_MOUNT).mkdir(parents=True)
    assert find_cgroups(machine.root) == []


def test_version_1(machine: Machine) -> None:
    machine.in_v1("/docker/1")
    machine.v1("", usage=9000 * MIB)
    machine.v1("docker", usage=500 * MIB)
    machine.v1("docker/1", usage=300 * MIB, inactive=100 * MIB, limit=400 * MIB)
    assert read(machine) == Reading(200 * MIB, 400 * MIB, "cgroup v1")


def test_version_1_tells_about_limits_that_cannot_be_seen_from_inside(machine: Machine) -> None:
    machine.in_v1("/docker/1", mounted="/docker/1")
    machine.v1("", usage=300 * MIB, hierarchical=400 * MIB)
    assert read(machine) == Reading(300 * MIB, 400 * MIB, "cgroup v1")


def test_version_1_without_a_limit_shows_a_very_large_one(machine: Machine) -> None:
    machine.in_v1("/app")
    machine.v1("", usage=300 * MIB)
    machine.v1("app", usage=300 * MIB)
    assert read(machine) is None


def test_a_hybrid_machine_has_memory_in_version_1_only(machine: Machine) -> None:
    machine.in_v2("/app")
    (machine.root / V2_MOUNT / "app").mkdir(parents=True)
    machine.in_v1("/app")
    machine.v1("app", usage=100 * MIB, limit=400 * MIB)
    assert read(machine) == Reading(100 * MIB, 400 * MIB, "cgroup v1")


@pytest.mark.parametrize("file", ["memory.current", "memory.stat"])
def test_what_is_used_must_be_there(machine: Machine, file: str) -> None:
    machine.in_v2("/app")
    folder = machine.v2("app", current=600 * MIB, maximum=1000 * MIB)
    (group,) = find_cgroups(machine.root)
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError):
        group.read()


@pytest.mark.parametrize("file", ["memory.current", "memory.max", "memory.stat"])
def test_garbage_is_an_error(machine: Machine, file: str) -> None:
    machine.in_v2("/app")
    folder = machine.v2("app", current=600 * MIB, maximum=1000 * MIB)
    (folder / file).write_text("what?\n")
    with pytest.raises(ValueError, match=r"invalid literal|not enough values"):
        read(machine)


def test_less_used_than_reclaimable_is_nothing(machine: Machine) -> None:
    """The kernel does not count both at one moment."""
    machine.in_v2("/app")
    machine.v2("app", current=5 * MIB, inactive=6 * MIB, maximum=100 * MIB)
    assert read(machine) == Reading(0, 100 * MIB, "cgroup v2")
