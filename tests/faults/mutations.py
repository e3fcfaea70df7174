"""Ways to change a database file behind mailer's back, each at a place that chance decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

PAGE_BYTES = 4096

Mutation = Callable[[Path, Random], None]
"""Changes a database, given the path of its main file."""


def zeroed_page(database: Path, chance: Random) -> None:
    page = chance.randrange(database.stat().st_size // PAGE_BYTES)
    overwrite(database, page * PAGE_BYTES, bytes(PAGE_BYTES))


def swapped_pages(database: Path, chance: Random) -> None:
    one, other = chance.sample(range(database.stat().st_size // PAGE_BYTES), 2)
    content = database.read_bytes()
    pages = [content[n * PAGE_BYTES : (n + 1) * PAGE_BYTES] for n in (one, other)]
    overwrite(database, one * PAGE_BYTES, pages[1])
    overwrite(database, other * PAGE_BYTES, pages[0])


def cut_short(database: Path, chance: Random) -> None:
    truncate(database, chance.randrange(1, database.stat().st_size))


def emptied(database: Path, chance: Random) -> None:
    truncate(database, 0)


def random_bytes(database: Path, chance: Random) -> None:
    overwrite_at_random(database, chance, chance.choice((1, 1, 2, 4, 16, 64, 512)))


def flipped_bit(database: Path, chance: Random) -> None:
    content = database.read_bytes()
    place = chance.randrange(len(content))
    overwrite(database, place, bytes([content[place] ^ 1 << chance.randrange(8)]))


def damaged_header(database: Path, chance: Random) -> None:
    overwrite(database, chance.randrange(100), chance.randbytes(chance.choice((1, 2, 4))))


def lost_wal(database: Path, chance: Random) -> None:
    wal_of(database).unlink(missing_ok=True)


def cut_wal(database: Path, chance: Random) -> None:
    if wal_of(database).exists():
        truncate(wal_of(database), chance.randrange(wal_of(database).stat().st_size))


def damaged_wal(database: Path, chance: Random) -> None:
    if wal_of(database).exists():
        overwrite_at_random(wal_of(database), chance, chance.choice((1, 8, 512)))


ANYWHERE: tuple[Mutation, ...] = (
    random_bytes,
    flipped_bit,
    zeroed_page,
    random_bytes,
    flipped_bit,
    swapped_pages,
    random_bytes,
    cut_short,
    damaged_header,
    lost_wal,
    cut_wal,
    damaged_wal,
    emptied,
)


def wal_of(database: Path) -> Path:
    return database.with_name(database.name + "-wal")


def overwrite_at_random(path: Path, chance: Random, count: int) -> None:
    overwrite(path, chance.randrange(path.stat().st_size - count), chance.randbytes(count))


def overwrite(path: Path, place: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


def truncate(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)
