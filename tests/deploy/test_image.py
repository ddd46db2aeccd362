"""The image, built from the steps of deploy/Dockerfile, stores a generation in a sandbox like the container."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy import dockerfile
from tests.deploy.image import NO_CACHE_VARIABLE, ROOT, build, isolated
from tests.deploy.start_like_image import FILES, run
from tests.pythons.interpreters import find

WRITE_PROBE = 'for path in "$@"; do if (: >"$path/probe") 2>/dev/null; then echo "$path"; fi; done'
READ_ONLY = ("/", "/etc", "/home", "/mnt", "/opt", "/root", "/run", "/srv", "/usr", "/usr/local", "/var", "/var/lib")


@pytest.fixture(scope="module")
def image():
    """The image, built with the Dockerfile's Python, or with this one if that is not installed (CI requires it)."""
    found = find(dockerfile.read().minor)
    folder = ROOT / ".outlast/image"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield build(found.prefix if found else Path(sys.base_prefix), folder)


def output(image, *argv):
    return subprocess.run(image.command(*argv), capture_output=True, text=True, check=True).stdout  # noqa: S603


def test_the_image_has_the_dockerfiles_python_and_no_pip(image):
    version = output(image, "python", "-c", "import sys; print('{}.{}'.format(*sys.version_info))").strip()
    assert version == image.dockerfile.minor or (find(image.dockerfile.minor) is None and not os.environ.get("CI"))
    assert not list((image.tree / "bin").glob("pip*"))
    assert "Usage" in output(image, "outlast", "--help")


def test_the_image_has_a_copy_of_outlast_without_tests(image):
    path = output(image, "python", "-c", "import worker; print(worker.__file__)").strip()
    assert Path(path).is_relative_to(image.tree)
    assert not list(image.tree.glob("lib/python3*/site-packages/tests"))


def test_only_the_temporary_folder_is_writable(image):
    inside = [str(path) for path in (image.tree, image.tree / "bin", image.folder, ROOT)]
    found = output(image, "sh", "-c", WRITE_PROBE, "sh", image.writable, *inside, *(READ_ONLY if isolated() else ()))
    expected = [image.writable]
    if os.geteuid() == 0 and not isolated():
        pytest.fail("root needs mount namespaces for this: run as another user, or allow `unshare --mount`")
    if isolated():
        assert output(image, "id", "-u").strip() == "10001"
        assert found.split() == expected
    else:  # permissions only: this user may write to the other folders
        assert not {str(image.tree), str(image.tree / "bin")} & set(found.split())
        assert image.writable in found.split()


@pytest.mark.usefixtures("broker_of_stacks")
async def test_receiver_and_worker_store_a_generation(image, tmp_path, record_property):
    """On the local stack, started with the image's entry point, environment and user."""
    assert await run(tmp_path / "stack", image.command()) == len(FILES)
    record_property("image", f"{len(FILES)} files stored by Python {image.dockerfile.minor}")


def test_the_health_check_fails_without_a_process(image):
    argv = image.command(*image.dockerfile.health_command)
    done = subprocess.run([*argv[:6], "env", "RECEIVER_PORT=1", "METRICS_PORT=1", *argv[6:]], check=False)  # noqa: S603
    assert done.returncode == 1


def test_an_unknown_dockerfile_instruction_is_an_error(tmp_path):
    text = dockerfile.DOCKERFILE.read_text()
    changed = tmp_path / "Dockerfile"
    changed.write_text(text.replace("WORKDIR /src\n", "WORKDIR /src\nADD https://example.com/x /src/\n"))
    with pytest.raises(ValueError, match="ADD"):
        dockerfile.read(changed)


def test_the_dockerfile_is_parsed():
    found = dockerfile.read()
    assert found.build.env[NO_CACHE_VARIABLE] == "1"
    assert found.entrypoint == ["outlast"]
    assert found.final.env["HOME"] == "/tmp"  # noqa: S108 - the image's
    assert any("--require-hashes -r requirements.lock" in text for text in found.build.all("RUN"))
