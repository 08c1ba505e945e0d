#!/usr/bin/env python3
"""Holds the documents against the repository and the program.

 - every link leads to a file, and every anchor to a heading;
 - every command names a script or a program that there is, and every flag of
   barbican-kms or a script one that it has;
 - every flag of `serve` is in README.md;
 - pictures are well-formed, and look after dark pages too;
 - what scripts/package packs has a static program that runs, a man page for each
   command, all completions and the documents.
"""

import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
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
           "umask", "while", "done", "do", "systemd-sysusers", "systemd-creds", "systemd-analyze"}
# Words that may stand before a command.
BEFORE = {"sudo", "nice", "exec", "if", "then", "!", "$"}
problems = []


def documents():
    tracked = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard",
                              "*.md"], cwd=TOP, check=True, stdout=subprocess.PIPE, text=True)
    return [TOP / name for name in tracked.stdout.split()]


@cache
def binary():
    subprocess.run(["cargo", "build", "--locked", "--quiet", "--bin", "barbican-kms"], cwd=TOP,
                   check=True)
    return TOP / os.environ.get("CARGO_TARGET_DIR", "target") / "debug/barbican-kms"


@cache
def help_of(*command):
    """A command's help; None when there is no such command."""
    done = subprocess.run([binary(), *command, "--help"], capture_output=True, text=True)
    return None if done.returncode else done.stdout


@cache
def flags(command):
    """The flags of a command's help; None when there is no such command."""
    text = help_of(command)
    return None if text is None else set(re.findall(r"--[a-z][a-z-]*", text))


@cache
def subcommands():
    listed = help_of().partition("Commands:\n")[2].partition("\n\n")[0]
    return set(re.findall(r"^  ([a-z]+) ", listed, re.M)) - {"help"}


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


def lines_of(text):
    """Command lines, and whether all programs of a line must be known: those of console
    blocks and of the prose; in sh blocks, shell may stand between them."""
    for kind, block in re.findall(r"```(console|sh)\n(.*?)```", text, re.S):
        block = re.sub(r"<<-?'?(\w+)'?(.*?\n).*?^\1$", r"\2", block, flags=re.S | re.M)
        for line in block.replace("\\\n", " ").splitlines():
            if kind == "sh":
                yield line, False
            elif line.startswith(("$ ", "# ")):
                yield line[2:], True
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    for code in re.findall(r"`((?:sudo )?(?:barbican-kms(?=[ `])|scripts/|tests/)[^`\n]*)`", prose):
        # [--one|--other], as a synopsis has it, are two flags.
        yield re.sub(r"\[(.*?)\]", lambda found: found[1].replace("|", " "), code), True


def commands(line):
    """The simple commands of a line, in words: those of a pipe, after &&, within $(...)."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = []
    try:
        for word in lexer:
            if set(word) <= set("();|&"):
                yield words
                words = []
            else:
                words.append(word)
    except ValueError:
        pass # a quotation that ends on a later line: what stands before it counts
    yield words


def check_command(file, words, known_only):
    while words and (words[0] in BEFORE or re.match(r"\w+=", words[0])):
        words = words[1:]
    # After `crictl exec ID` or the like, with its path.
    inside = [n for n, word in enumerate(words) if word.endswith("/bin/barbican-kms")]
    if inside:
        words = words[inside[0]:]
    first = words[0] if words else ""
    line = " ".join(words)
    for word in words[1:]:
        if word.startswith("static-pod/") and not list(TOP.glob(word)):
            problem(file, f"no {word}: {line}")
    used = {match[0] for word in words[1:] if (match := re.match(r"--[a-z][a-z-]*", word))}
    if first.rpartition("/")[2] == "barbican-kms" and len(words) > 1:
        command = "serve" if words[1].startswith("-") else words[1]
        known = flags(command)
        if known is None:
            problem(file, f"no command: {line}")
        else:
            for flag in sorted(used - known - {"--help", "--version"}):
                problem(file, f"{command} has no {flag}: {line}")
    elif first.startswith(("scripts/", "tests/", "./", "../scripts/")):
        found = [place for place in (TOP / first, file.parent / first) if place.exists()]
        if not found:
            problem(file, f"no {first}: {line}")
        elif used:
            text = found[0].read_text()
            for flag in sorted(flag for flag in used if flag not in text):
                problem(file, f"{first} has no {flag}: {line}")
    elif known_only and first and first not in FOREIGN and first != "barbican-kms":
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


def check_package():
    """Builds it: quickly, unless BARBICAN_KMS_PROFILE says otherwise."""
    script = TOP / "scripts/package"
    with tempfile.TemporaryDirectory() as place:
        environment = {"BARBICAN_KMS_PROFILE": "dev", **os.environ}
        subprocess.run([script, place], check=True, env=environment, stdout=subprocess.DEVNULL)
        archive = next(Path(place).glob("*.tar.gz"))
        with tarfile.open(archive) as packed:
            top = archive.name.removesuffix(".tar.gz")
            names = {member.name.removeprefix(top + "/") for member in packed if member.isfile()}
            packed.extractall(place, filter="data")
        pages = {"barbican-kms", *(f"barbican-kms-{name}" for name in subcommands())}
        wanted = {"bin/barbican-kms", *(f"share/man/man1/{page}.1" for page in pages),
                  *(f"share/completions/{name}" for name in
                    ("barbican-kms.bash", "_barbican-kms", "barbican-kms.fish")),
                  *(f"share/doc/{name}" for name in
                    ("README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"))}
        for name in sorted(wanted - names):
            problem(script, f"does not pack {name}")
        program = Path(place) / top / "bin/barbican-kms"
        done = subprocess.run([program, "version"], capture_output=True, text=True)
        if not done.stdout.startswith("barbican-kms "):
            problem(script, f"the packed program does not run: {done.stderr}")
        for name in sorted(names):
            if name.startswith("share/man/") and ".TH" not in (Path(place) / top / name).read_text():
                problem(script, f"{name} is no man page")
    return len(names)


def problem(file, text):
    problems.append(f"{file.relative_to(TOP)}: {text}")


def main():
    links = lines = 0
    for file in documents():
        text = file.read_text()
        links += check_links(file, text)
        for line, known_only in lines_of(text):
            for words in commands(line):
                lines += bool(words)
                check_command(file, words, known_only)
    readme = (TOP / "README.md").read_text()
    for flag in sorted(flags("serve") - {"--help"}):
        if flag not in readme:
            problem(TOP / "README.md", f"does not tell of {flag}")
    pictures = check_pictures()
    packed = check_package()
    for text in problems:
        print(text)
    print(f"{len(documents())} documents: {links} links, {lines} commands, {pictures} pictures, "
          f"{packed} files packed, {len(problems)} problems")
    sys.exit(bool(problems))


main()
