"""`python -m deploy.grafana` (`make dashboards`) writes every dashboard to `dashboards/`."""

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import dead_letters, intake, overview, pipeline

FOLDER: Final = Path(__file__).parent / "dashboards"
DASHBOARDS: Final = (overview.DASHBOARD, pipeline.DASHBOARD, dead_letters.DASHBOARD, intake.DASHBOARD)


def rendered() -> dict[str, str]:
    """Return the content of each file by its name."""
    return {
        f"{made.uid}.json": json.dumps(made, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for made in DASHBOARDS
    }


def main() -> None:
    """Write all files, and delete those of dashboards that no longer exist."""
    files = rendered()
    for old in FOLDER.glob("*.json"):
        if old.name not in files:
            old.unlink()
    for name, content in files.items():
        (FOLDER / name).write_text(content, "utf-8")


if __name__ == "__main__":
    main()
