"""`python -m tests.deploy.checks [ROOT]`: offline checks of the deployment files.

Each check returns the faults it found. A missing checker is a fault, except kubectl, whose version in Debian stable is
too old: patches without a target, the most likely fault, are found without it.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from worker.settings import Settings

BIN = Path(sys.executable).parent
KUBERNETES = "1.30"
CUSTOM = Path(__file__).with_name("custom_resources.yml")
PLATFORMS = Path(__file__).with_name("platforms.yml")
MAX_EXPOSURE = 1.9
PROGRAM = "/opt/outlast/bin/outlast"


def run(*argv: str | Path, always: bool = False) -> list[str]:
    """Run a checker; return its output if it fails, with `always` also if it succeeds."""
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)  # noqa: S603
    output = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return output if done.returncode or always else []


def documents(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every Kubernetes object with its file."""
    for path in sorted((root / "deploy/kubernetes/base").glob("*.yaml")):
        if path.name != "kustomization.yaml":
            for document in yaml.safe_load_all(path.read_text()):
                yield path, document


def dockerfile(root: Path) -> list[str]:
    return run(BIN / "hadolint", root / "deploy/Dockerfile")


def yaml_style(root: Path) -> list[str]:
    paths = ("deploy/compose.yml", "deploy/kubernetes", "deploy/platforms", ".github")
    return run(BIN / "yamllint", "--strict", "-c", root / "deploy/.yamllint", *(root / path for path in paths))


def compose(root: Path) -> list[str]:
    return run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", root / "deploy/compose.yml")


def workflow(root: Path) -> list[str]:
    return run(
        BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", root / ".github/workflows/ci.yml"
    )


def kubernetes(root: Path) -> list[str]:
    """Check Kubernetes' own kinds against its schemas, custom resources against custom_resources.yml."""
    custom = yaml.safe_load(CUSTOM.read_text())
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        for path, document in documents(root):
            name = f"{document['apiVersion']} {document['kind']}"
            if name in custom:
                errors = jsonschema.Draft202012Validator(custom[name]).iter_errors(document)
                faults += [f"{path.name}: {name}: {error.json_path}: {error.message}" for error in errors]
                continue
            with (Path(folder) / path.name).open("a") as file:
                file.write("---\n" + yaml.safe_dump(document))
        validate = (BIN / "kubernetes-validate", "--strict", "--quiet", "-k", KUBERNETES)
        return faults + run(*validate, *sorted(Path(folder).iterdir()))


def overlays(root: Path) -> list[str]:
    """Check that each overlay's patches and images have a target; build them with kubectl if it is installed."""
    targets = {identity(document): document for _, document in documents(root)}
    images = {found for document in targets.values() for found in all_of("image", document)}
    faults = []
    for path in sorted((root / "deploy/kubernetes/overlays").iterdir()):
        overlay = yaml.safe_load((path / "kustomization.yaml").read_text())
        patches = [yaml.safe_load(patch["patch"]) for patch in overlay["patches"]]
        without_target = [identity(patch)[1:] for patch in patches if identity(patch) not in targets]
        without_target += [("image", image["name"]) for image in overlay["images"] if image["name"] not in images]
        faults += [f"{path.name}: {kind} {name}: no matches in base" for kind, name in without_target]
        faults += run("kubectl", "kustomize", path) if shutil.which("kubectl") else []
    return faults


def identity(document: dict[str, Any]) -> tuple[str, str, str]:
    """Return the fields by which a patch selects its target."""
    return document["apiVersion"], document["kind"], document["metadata"]["name"]


def all_of(key: str, value: object) -> Iterator[str]:
    """Yield the strings with this key, at any depth."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and isinstance(value.get(key), str):
        yield value[key]
    for each in inner:
        yield from all_of(key, each)


def platforms(root: Path) -> list[str]:
    """Check the files for Fly.io, Railway and Render against platforms.yml, and that their variables are settings."""
    faults = []
    for name, schema in yaml.safe_load(PLATFORMS.read_text()).items():
        text = (root / "deploy/platforms" / name).read_text()
        document = yaml.safe_load(text) if name.endswith(".yaml") else tomllib.loads(text)
        errors = list(jsonschema.Draft202012Validator(schema).iter_errors(document))
        faults += [f"{name}: {error.json_path}: {error.message}" for error in errors]
        variables = {*document.get("env", {}), *all_of("key", document)} - {"PORT"}
        faults += [f"{name}: {key} is no setting" for key in variables if key.lower() not in Settings.model_fields]
    return faults


def units(root: Path) -> list[str]:
    """Verify the systemd units; their exposure must be at most MAX_EXPOSURE."""
    if shutil.which("systemd-analyze") is None:
        return ["systemd-analyze is missing: deploy/local/setup.sh, called with `tests`, installs it"]
    return [fault for unit in sorted((root / "deploy/systemd").glob("*.service")) for fault in unit_faults(unit)]


def unit_faults(unit: Path) -> list[str]:
    """Return the faults of one unit; print its exposure."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / unit.name
        copy.write_text(unit.read_text().replace(PROGRAM, "/bin/true"))  # Outlast is not installed at that path
        # It only warns of unknown settings, and exits with 0.
        warnings = run("systemd-analyze", "verify", "--man=no", copy, always=True)
        security = ("systemd-analyze", "security", "--offline=true", "--no-pager")
        exposure = run(*security, copy, always=True)[-1].encode("ascii", "ignore").decode().strip()
        sys.stderr.write(f"{exposure}\n")
        too_high = run(*security, f"--threshold={round(MAX_EXPOSURE * 10)}", copy)
        return [line for line in warnings if unit.stem.rstrip("@") in line] + ([exposure] if too_high else [])


CHECKS = (dockerfile, yaml_style, compose, workflow, kubernetes, overlays, platforms, units)


def main(root: Path) -> int:
    """Run every check, print the faults; return the exit code."""
    faults = [f"{check.__name__}: {fault}" for check in CHECKS for fault in check(root)]
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
