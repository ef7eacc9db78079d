"""What has to be in the wheel, and what must not be.

    wheel_content.py WHEEL

Looks at names, tags and licences, and at the symbols that each ELF file wants of the system.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

WANTED = (
    r"objsync/__init__\.py",
    r"objsync/py\.typed",
    r"objsync/_objsync\.abi3\.so",
    r"objsync/_objsync/__init__\.pyi",
    r"objsync/_objsync/leases\.pyi",
    r"objsync-[^/]+\.data/scripts/objsync",
    r"objsync-[^/]+\.dist-info/licenses/LICENSE-MIT",
    r"objsync-[^/]+\.dist-info/licenses/LICENSE-APACHE",
    r"objsync-[^/]+\.dist-info/licenses/THIRD-PARTY",
)
CRATES = ("aws-lc-sys", "quinn", "rustls", "sled", "tokio", "zstd-sys")
"""Some that are linked in: their licences are there."""
LIBRARIES = re.compile(r"lib(c|m|dl|rt|pthread|gcc_s)\.so\.\d+|ld-linux-\S+")
"""What every Linux with the GNU C library has."""
BYTES_MAX = 40 << 20


def needs(data: bytes) -> tuple[set[str], tuple[int, ...]]:
    """The libraries that an ELF file wants, and the newest glibc whose symbols it uses."""
    elf = ELFFile(io.BytesIO(data))
    libraries = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
    versions = [(0,)]
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for _, symbols in section.iter_versions():
                found = (re.fullmatch(r"GLIBC_([\d.]+)", symbol.name) for symbol in symbols)
                versions += [tuple(map(int, match[1].split("."))) for match in found if match]
    debug = [section.name for section in elf.iter_sections() if section.name.startswith((".debug", ".zdebug"))]
    assert not debug, f"debug symbols are left: {debug}"
    return libraries, max(versions)


def main(wheel: Path) -> None:
    tags = wheel.stem.split("-")[2:]
    assert tags[:2] == ["cp311", "abi3"], tags
    floors = [tuple(map(int, floor)) for floor in re.findall(r"manylinux_(\d+)_(\d+)", tags[2])]
    assert floors, f"{wheel.name} is for this machine's own Linux alone"
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    for wanted in WANTED:
        assert any(re.fullmatch(wanted, name) for name in files), f"no {wanted} in {sorted(files)}"
    strays = [name for name in files if re.search(r"\.rs$|__pycache__|\.pyc$|/tests?/", name)]
    assert not strays, f"these are for nobody who installs it: {strays}"
    program = next(name for name in files if name.endswith("scripts/objsync"))
    assert modes[program] & 0o111, "the program cannot be run"

    licences = next(data.decode() for name, data in files.items() if name.endswith("/THIRD-PARTY"))
    missing = [crate for crate in CRATES if not re.search(rf"^{crate} \d", licences, re.M)]
    assert not missing, f"no licences of {missing}"

    for name, data in files.items():
        if data.startswith(b"\x7fELF"):
            libraries, glibc = needs(data)
            outside = [library for library in libraries if not LIBRARIES.fullmatch(library)]
            assert not outside, f"{name} wants {outside}"
            assert glibc <= min(floors), f"{name} wants glibc {glibc}; the tag says {min(floors)}"
            print(f"{name}: glibc {'.'.join(map(str, glibc))} or later, {len(data) / 1e6:.1f} MB")
    size = wheel.stat().st_size
    assert size <= BYTES_MAX, f"{size} bytes; the bound is {BYTES_MAX}"
    subprocess.run([sys.executable, "-m", "auditwheel", "show", str(wheel)], check=True)
    print(f"{wheel.name}: {size / 1e6:.1f} MB, {len(files)} files")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
