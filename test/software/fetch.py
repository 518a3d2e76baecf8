"""Fetches the SDKs that the tests of `imdsctl software scan` look for, from the registries that publish them.

Python packages are installed by pip, as on a host; archives of npm and Maven are downloaded as they are, by npm and jip; Go programs are
built with the Go SDKs in them. Everything is pinned with its hash: python-old.txt and python-new.txt, pins.txt, and the
go.sum files in testdata/go. Nothing that is fetched is run.
"""

import argparse
import hashlib
import os
import pathlib
import subprocess
import sys

import jip.util
from jip.maven import Artifact
from jip.repository import repos_manager

HERE = pathlib.Path(__file__).resolve().parent


def install_python(into: pathlib.Path) -> None:
    """Installs each set of packages into a folder of its own, without what they depend on."""
    for which in ("old", "new"):
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile",
             "--only-binary", ":all:", "--require-hashes", "--target", into / which, "-r", HERE / f"python-{which}.txt"],
            check=True)


def npm(package: str, into: pathlib.Path) -> pathlib.Path:
    """Downloads a package of npm as it is published; nothing in it is run."""
    program = pathlib.Path(sys.executable).parent / "npm"
    packed = subprocess.run([program, "pack", package, "--silent", "--ignore-scripts", "--pack-destination", into],
                            check=True, capture_output=True, text=True).stdout
    return into / packed.split()[-1]


def maven(coordinates: str, into: pathlib.Path) -> pathlib.Path:
    """Downloads the jar of a Maven artifact from jip's repositories: Maven Central, or those of ~/.jip_config."""
    artifact = Artifact(*coordinates.split(":"))
    path = into / artifact.to_jip_name()
    for repository in repos_manager.repos:
        try:
            with path.open("wb") as file:
                jip.util.download(repository.get_artifact_uri(artifact, "jar"), file)
            return path
        except jip.util.DownloadException as failure:
            failed = failure
    raise failed


def download(into: pathlib.Path) -> None:
    """Downloads what pins.txt names. A file whose hash is another ends the program."""
    into.mkdir(parents=True)
    repos_manager.init_repos()
    for line in (HERE / "pins.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        want, publisher, name = line.split()
        path = {"npm": npm, "maven": maven}[publisher](name, into)
        have = hashlib.sha256(path.read_bytes()).hexdigest()
        if have != want:
            path.unlink()
            sys.exit(f"{name} of {publisher}: its SHA-256 is {have}, and {want} is pinned: do not use it")


def build_go(go: str, into: pathlib.Path) -> None:
    """Builds the programs of testdata/go for the platform that the tests always look at."""
    into.mkdir(parents=True)
    running = []
    for module in sorted((HERE / "testdata" / "go").iterdir()):
        environment = dict(os.environ, CGO_ENABLED="0", GOFLAGS="-mod=readonly", GOOS="linux", GOARCH="amd64", GOWORK="off")
        running.append((module, subprocess.Popen(
            [go, "build", "-trimpath", "-ldflags", "-s -w", "-o", into / module.name, "."], cwd=module, env=environment)))
    failed = [module.name for module, process in running if process.wait() != 0]
    if failed:
        sys.exit("cannot build " + ", ".join(failed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--go", default="go", help="the go command")
    parser.add_argument("into", type=pathlib.Path, help="an empty or missing folder")
    options = parser.parse_args()
    into = options.into.resolve()
    install_python(into / "python")
    download(into / "files")
    build_go(options.go, into / "bin")


if __name__ == "__main__":
    main()
