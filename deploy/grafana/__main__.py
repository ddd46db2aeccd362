"""`python -m deploy.grafana` writes every dashboard to `dashboards/`; `make dashboards` calls it."""

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import dead_letters, intake, overview, pipeline

FOLDER: Final = Path(__file__).parent / "dashboards"
DASHBOARDS: Final = (overview.DASHBOARD, pipeline.DASHBOARD, dead_letters.DASHBOARD, intake.DASHBOARD)


def written() -> dict[str, str]:
    """Return each file's name and content."""
    return {
        f"{made.uid}.json": json.dumps(made, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for made in DASHBOARDS
    }


def main() -> None:
    """Write them; a dashboard that is no more goes."""
    files = written()
    for old in FOLDER.glob("*.json"):
        if old.name not in files:
            old.unlink()
    for name, content in files.items():
        (FOLDER / name).write_text(content, "utf-8")


if __name__ == "__main__":
    main()
