"""The SQL of a released version never changes: `released_sql.sha256` has the hash of every released migration."""

import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
MIGRATIONS = ROOT / "deploy/supabase/migrations"
RELEASED = Path(__file__).parent / "released_sql.sha256"


def parse_sha256sums(text):
    """Return a dict from file name to hash, read from the output of `sha256sum`."""
    return {name: digest for digest, name in (line.split() for line in text.splitlines())}


def changed(folder, hashes):
    """Return the released files that are missing or have another content."""
    paths = {name: folder / name for name in hashes}
    return sorted(
        name
        for name, path in paths.items()
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != hashes[name]
    )


def out_of_order(folder, hashes):
    """Return the files that are not released and would be applied before a released one."""
    return sorted(path.name for path in folder.glob("*.sql") if path.name not in hashes and path.name < max(hashes))


def test_released_migrations_have_not_changed():
    hashes = parse_sha256sums(RELEASED.read_text())
    assert len(hashes) >= 16
    assert changed(MIGRATIONS, hashes) == [], "restore these files, and make a new file with a higher number instead"


def test_new_migrations_have_higher_numbers_than_released_ones():
    assert out_of_order(MIGRATIONS, parse_sha256sums(RELEASED.read_text())) == [], "give these files higher numbers"


def test_a_change_and_a_file_out_of_order_are_found(tmp_path):
    for name in ("1.sql", "2.sql", "3.sql"):
        (tmp_path / name).write_text(name)
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("1.sql", "3.sql", "4.sql")}
    (tmp_path / "3.sql").write_text("edited")
    assert changed(tmp_path, hashes) == ["3.sql", "4.sql"]
    assert out_of_order(tmp_path, hashes) == ["2.sql"]
