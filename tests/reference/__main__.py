from pathlib import Path

from tests.reference import rendered

FOLDER = Path(__file__).parents[2] / "deploy/docs"

for name, text in rendered().items():
    (FOLDER / name).write_text(text, "utf-8")
