"""The number of available cores, and the defaults derived from it."""

import os

import pytest

from handlers import cpu
from worker.settings import Settings


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 6), ("150000 100000", 2), ("400000 100000", 4), ("1000 100000", 1), ("900000 100000", 6), ("?", 6)],
)
def test_a_cgroup_quota_limits_the_cores(tmp_path, monkeypatch, quota, expected):
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(cpu, "CGROUP_CPU_MAX", tmp_path / "cpu.max")
    assert cpu.cores() == 6
    cpu.CGROUP_CPU_MAX.write_text(f"{quota}\n")
    assert cpu.cores() == expected


def test_cpu_affinity_limits_the_cores():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert cpu.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(("cores", "processes", "jobs"), [(1, 1, 8), (2, 2, 16), (16, 16, 128)])
def test_default_processes_and_concurrency_follow_the_cores(monkeypatch, cores, processes, jobs):
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: set(range(cores)))
    settings = Settings.load()
    assert (settings.codec_processes, settings.worker_concurrency) == (processes, jobs)
