"""The number of available cores, the available memory, and the defaults derived from them."""

import os

import pytest

from handlers import cpu, memory
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


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_the_codec_processes_follow_the_cores(monkeypatch, cores):
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: set(range(cores)))
    assert Settings.load().codec_processes == cores


@pytest.fixture
def control_groups(tmp_path, monkeypatch):
    """Folders in place of /sys/fs/cgroup and /proc/self/cgroup, and a machine with 8 GiB."""
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2 << 20}.__getitem__)
    return tmp_path


@pytest.mark.parametrize(
    ("own", "file", "limit", "expected"),
    [
        ("0::/", "memory.max", "268435456", 256),
        ("0::/system.slice/outlast.service", "system.slice/outlast.service/memory.max", "536870912", 512),
        ("0::/system.slice/outlast.service", "system.slice/memory.max", "536870912", 512),
        ("4:memory:/docker/1\n0::/", "memory/memory.limit_in_bytes", "268435456", 256),
        ("4:memory:/docker/1\n3:cpu:/", "memory/docker/1/memory.limit_in_bytes", str(1 << 62), 8192),
        ("0::/", "memory.max", "max", 8192),
        ("0::/", "elsewhere", "1", 8192),
    ],
)
def test_the_memory_limit_of_the_control_group_is_found(control_groups, own, file, limit, expected):
    assert memory.limit_mib() == 8192
    (control_groups / "own").write_text(own)
    (control_groups / file).parent.mkdir(parents=True, exist_ok=True)
    (control_groups / file).write_text(limit)
    assert memory.limit_mib() == expected


@pytest.mark.parametrize(
    ("mib", "given", "expected"),
    [
        (256, {}, (1, 4, 256)),
        (1023, {"CODEC_PROCESSES": "2", "WORKER_CONCURRENCY": "9"}, (2, 9, 256)),
        (2048, {}, (6, 64, 256)),
        (2048, {"CODEC_PROCESSES": "2", "CODEC_MEMORY_MB": "1024"}, (2, 64, 1024)),
        (16384, {"CODEC_PROCESSES": "2"}, (2, 64, 2048)),
    ],
)
def test_serve_fits_what_is_not_set_to_the_memory(monkeypatch, mib, given, expected):
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(memory, "limit_mib", lambda: mib)
    needed = {"SUPABASE_WEBHOOK_SECRETS": "x" * 16, "SUPABASE_URL": "http://x", "SUPABASE_SERVICE_ROLE_KEY": "k"}
    for name, value in (needed | given).items():
        monkeypatch.setenv(name, value)
    settings = Settings.load(_env_file=None).for_serve().for_serve()
    assert (settings.codec_processes, settings.worker_concurrency, settings.codec_memory_mb) == expected
