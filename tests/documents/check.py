#!/usr/bin/env python3
"""Holds the documents against the repository and the program.

 - every link leads to a file, and every anchor to a heading;
 - every command names a script or a program that there is, and every flag of
   barbican-kms one that its help has;
 - every flag of `serve` is in README.md;
 - pictures are well-formed, and look after dark pages too.
"""

import re
import subprocess
import sys
import xml.etree.ElementTree
from functools import cache
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
# Programs of others that the documents may speak of.
FOREIGN = {"barbican-kms-plugin", "apt-get", "awk", "cargo", "cat", "clusterctl", "cp", "crictl",
           "ctr", "curl", "echo", "cd", "docker", "podman", "export", "for", "git", "grep",
           "install", "jq", "kubeadm", "kubectl", "kustomize", "ls", "mkdir", "mv", "openstack",
           "printf", "rm", "sed", "ssh", "sudo", "systemctl", "tar", "man", "watch", "etcdctl",
           "chmod", "buildah", "nerdctl", "python3", "journalctl", "scp", "rsync", "sha256sum",
           "umask", "while", "done", "do"}
problems = []


def documents():
    tracked = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard",
                              "*.md"], cwd=TOP, check=True, stdout=subprocess.PIPE, text=True)
    return [TOP / name for name in tracked.stdout.split()]


def binary():
    subprocess.run(["cargo", "build", "--locked", "--quiet"], cwd=TOP, check=True)
    return TOP / "target/debug/barbican-kms"


@cache
def flags(command):
    """The flags of a command's help; None when there is no such command."""
    done = subprocess.run([binary(), command, "--help"], capture_output=True, text=True)
    if done.returncode:
        return None
    return set(re.findall(r"--[a-z][a-z-]*", done.stdout))


@cache
def anchors(file):
    """GitHub's anchors of a document's headings."""
    found, fenced = set(), False
    for line in file.read_text().splitlines():
        fenced ^= line.startswith("```")
        if not fenced and (heading := re.match(r"#+ +(.*)", line)):
            text = re.sub(r"[^\w\- ]", "", heading[1].lower())
            found.add(text.replace(" ", "-"))
    return found


def check_links(file, text):
    count = 0
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        count += 1
        if re.match(r"https://\S+\.\S+", target):
            continue
        path, _, anchor = target.partition("#")
        leads_to = (file.parent / path).resolve() if path else file
        if re.match(r"\w+:", target) or not leads_to.is_relative_to(TOP):
            problem(file, f"a link to {target}")
        elif not leads_to.exists():
            problem(file, f"no file {target}")
        elif anchor and anchor not in anchors(leads_to / "README.md" if leads_to.is_dir()
                                              else leads_to):
            problem(file, f"no heading {target}")
    return count


def commands(text):
    """Lines of console blocks and commands within the prose."""
    for block in re.findall(r"```console\n(.*?)```", text, re.S):
        joined = block.replace("\\\n", " ")
        for line in joined.splitlines():
            if line.startswith("$ ") or line.startswith("# "):
                yield line[2:].split("#")[0].strip()
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    for code in re.findall(r"`((?:barbican-kms|scripts/|tests/)[^`\n]*)`", prose):
        yield code


def check_command(file, line):
    ours = re.search(r"(?:^|/)barbican-kms +([a-z][a-z-]*|--\S+)(.*)", line)
    first = line.split()[0] if line.split() else ""
    if ours and not first.startswith(("scripts/", "tests/")):
        command, rest = ours[1], ours[2]
        if command.startswith("--"):
            command, rest = "serve", line
        known = flags(command)
        if known is None:
            problem(file, f"no command: {line}")
            return
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest):
            if flag not in known and flag not in ("--help", "--version"):
                problem(file, f"{command} has no {flag}: {line}")
    elif first.startswith(("scripts/", "tests/", "./")):
        name = first.rstrip("/")
        if not (TOP / name).exists() and not (file.parent / name).exists():
            problem(file, f"no {first}: {line}")
    elif first and first not in FOREIGN and not re.match(r"\w+=", first) and first != "barbican-kms":
        problem(file, f"an unknown program: {line}")


def check_pictures():
    tracked = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard",
                              "*.svg"], cwd=TOP, check=True, stdout=subprocess.PIPE, text=True)
    names = tracked.stdout.split()
    for name in names:
        text = (TOP / name).read_text()
        try:
            xml.etree.ElementTree.fromstring(text)
        except xml.etree.ElementTree.ParseError as error:
            problem(TOP / name, str(error))
        if "prefers-color-scheme: dark" not in text:
            problem(TOP / name, "is not made for dark pages")
    return len(names)


def problem(file, text):
    problems.append(f"{file.relative_to(TOP)}: {text}")


def main():
    links = lines = 0
    for file in documents():
        text = file.read_text()
        links += check_links(file, text)
        for line in commands(text):
            lines += 1
            check_command(file, line)
    readme = (TOP / "README.md").read_text()
    for flag in sorted(flags("serve") - {"--help"}):
        if flag not in readme:
            problem(TOP / "README.md", f"does not tell of {flag}")
    pictures = check_pictures()
    for text in problems:
        print(text)
    print(f"{len(documents())} documents: {links} links, {lines} commands, {pictures} pictures, "
          f"{len(problems)} problems")
    sys.exit(bool(problems))


main()
