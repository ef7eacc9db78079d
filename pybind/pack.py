"""Puts into a wheel what maturin does not: the program objsync, and every licence.

    pack.py WHEEL PROGRAM

The program goes to where pip puts scripts. The licences are this project's own and, in one file, those of each
crate that is linked in, as its authors wrote them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OURS = ("LICENSE-MIT", "LICENSE-APACHE")
LINKED = ("objsync-cli", "objsync-python")
"""The packages whose crates are in the wheel."""


def metadata() -> dict[str, Any]:
    """What cargo knows of the crates that are built for this machine."""
    rustc = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    host = next(line.split()[1] for line in rustc.splitlines() if line.startswith("host: "))
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    return json.loads(subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout)


def linked(graph: dict[str, Any]) -> list[dict[str, Any]]:
    """The crates of others that ours link, directly or not: neither tests' nor build scripts' own."""
    packages = {package["id"]: package for package in graph["packages"]}
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    ready = [key for key, package in packages.items() if package["name"] in LINKED]
    met: set[str] = set()
    while ready:
        key = ready.pop()
        if key in met:
            continue
        met.add(key)
        for dependency in nodes[key]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                ready.append(dependency["pkg"])
    others = [packages[key] for key in met if packages[key]["source"]]
    return sorted(others, key=lambda package: (package["name"], package["version"]))


def texts(package: dict[str, Any]) -> list[str]:
    """The licences and notices that lie in a crate, each once, those of C code that it brings too."""
    folder = Path(package["manifest_path"]).parent
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    starts = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")
    named = [path for path in files if path.name.upper().startswith(starts)]
    return list(dict.fromkeys(path.read_text(errors="replace").strip() for path in named))


def third_party() -> str:
    """Each crate with its licence, then the texts, each once."""
    crates, known = [], {}
    for package in linked(metadata()):
        numbers = [known.setdefault(text, len(known) + 1) for text in texts(package)]
        where = ", ".join(f"[{number}]" for number in numbers) or "no text of its own"
        crates.append(f"{package['name']} {package['version']}: {package['license']}; {where}")
    parts = [f"[{number}]\n\n{text}" for text, number in known.items()]
    rule = "\n\n" + "-" * 80 + "\n\n"
    return rule.join(["What is linked into objsync, with its licences.\n\n" + "\n".join(crates), *parts]) + "\n"


def record_line(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def pack(wheel: Path, program: Path) -> None:
    """Writes the wheel anew, with the program and the licences in it."""
    with zipfile.ZipFile(wheel) as old:
        entries = [(info, old.read(info)) for info in old.infolist()]
    info_folder = next(info.filename.split("/")[0] for info, _ in entries if ".dist-info/" in info.filename)
    licences = {name: (ROOT / name).read_bytes() for name in OURS}
    licences["THIRD-PARTY"] = third_party().encode()
    record = f"{info_folder}/RECORD"
    made = wheel.with_suffix(".new")
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        lines = []

        def add(name: str, data: bytes, mode: int) -> None:
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o100000 | mode) << 16
            new.writestr(info, data, zipfile.ZIP_DEFLATED)
            lines.append(record_line(name, data))

        for info, data in entries:
            if info.filename == f"{info_folder}/METADATA":
                data = with_licences(data, list(licences))
            if info.filename != record and not info.is_dir():
                add(info.filename, data, (info.external_attr >> 16) & 0o777 or 0o644)
        for name, data in licences.items():
            add(f"{info_folder}/licenses/{name}", data, 0o644)
        add(f"{info_folder.removesuffix('.dist-info')}.data/scripts/objsync", program.read_bytes(), 0o755)
        new.writestr(record, "".join([*lines, f"{record},,\n"]))
    made.replace(wheel)


def with_licences(data: bytes, names: list[str]) -> bytes:
    """The wheel's METADATA, which has to name the files."""
    head, blank, body = data.decode().partition("\n\n")
    missing = [name for name in names if f"License-File: {name}" not in head.splitlines()]
    return "\n".join([head, *(f"License-File: {name}" for name in missing)]).encode() + blank.encode() + body.encode()


if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
