"""A patch as a commit on a new branch, made without touching the working tree or the index."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from agent.applying.apply import Patch
from agent.applying.userfiles import Change
from agent.errors import ConfigError, PrerequisiteError

OWN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
"""What a hook's environment would make git look at instead of the problem's repository."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch that holds a patch.

    Args:
        name: Of the branch.
        commit: Its tip.
        new: Whether it was made just now.
    """

    name: str
    commit: str
    new: bool


class Repository:
    """The git repository of a folder.

    Raises:
        PrerequisiteError: There is no git.
        ConfigError: The folder is in no repository, or git refuses to look at it.
    """

    def __init__(self, folder: Path) -> None:
        if shutil.which("git") is None:
            raise PrerequisiteError("git is not installed", fix="install git, or apply with --write or --patch FILE")
        self.root = folder
        top = self._git("rev-parse", "--show-toplevel").removesuffix(b"\n")
        if not top:
            raise ConfigError(f"{folder} is in no working tree of git", hint="apply with --write or --patch FILE")
        self.prefix = os.fsdecode(self._git("rev-parse", "--show-prefix").removesuffix(b"\n"))
        self.root = Path(os.fsdecode(top))

    def author(self) -> str:
        """Whose commits they would be.

        Raises:
            ConfigError: Git does not know.
        """
        return self._git("var", "GIT_COMMITTER_IDENT").decode("utf-8", "replace").rpartition(" <")[0]

    def commit(self, change: Patch, name: str) -> Branch:
        """A new branch on top of HEAD with the patch as its one commit.

        Args:
            change: With at least one file.
            name: Of the branch. Where there is one whose files are the same already, nothing is done.

        Raises:
            ConfigError: The name is none, the branch holds something else, a file is not committed as it is in the
                working tree, or git does not know the author.
        """
        if name.startswith("-") or name == "HEAD" or not self._says("check-ref-format", f"refs/heads/{name}"):
            raise ConfigError(f"{name!r} is no name for a branch", hint="such as --branch truegain/faster")
        head = self._says("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        if not head:
            raise ConfigError("the repository has no commit yet", hint="commit the problem's files, then apply again")
        made = [self._blob(head, item) for item in change.files]
        found = self._existing(name, made)
        if found is not None:
            return found
        with tempfile.TemporaryDirectory(prefix="truegain-") as place:
            index = {"GIT_INDEX_FILE": str(Path(place) / "index")}
            self._git("read-tree", head, env=index)
            for mode, blob, path in made:
                self._git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}", env=index)
            tree = self._git("write-tree", env=index).decode().strip()
        message = change.message.encode("utf-8", "replace")
        commit = self._git("commit-tree", tree, "-p", head, "-F", "-", data=message).decode().strip()
        reason = f"truegain apply {change.run}"
        try:
            # The empty old value makes git refuse when somebody else has made the branch meanwhile.
            self._git("update-ref", "-m", reason, f"refs/heads/{name}", commit, "")
        except ConfigError:
            found = self._existing(name, made)
            if found is None:
                raise
            return found
        return Branch(name, commit, new=True)

    def _existing(self, name: str, made: list[tuple[str, str, str]]) -> Branch | None:
        tip = self._says("rev-parse", "--verify", "--quiet", f"refs/heads/{name}^{{commit}}")
        if not tip:
            return None
        if all(self._entry(tip, path) == (mode, blob) for mode, blob, path in made):
            return Branch(name, tip, new=False)
        raise ConfigError(
            f"there is a branch {name} already, and it holds something else",
            hint=f"choose another name, or remove it: git branch -D {name}",
        )

    def _entry(self, commit: str, path: str) -> tuple[str, str] | None:
        """Mode and hash of a file in a commit."""
        listed = self._git("ls-tree", "-z", "--full-tree", commit, "--", path).split(b"\0")
        for line in listed:
            about, _, name = line.partition(b"\t")
            if os.fsdecode(name) == path:
                mode, kind, blob = about.decode().split()
                return (mode, blob) if kind == "blob" else None
        return None

    def _blob(self, head: str, item: Change) -> tuple[str, str, str]:
        """Mode, hash and path of a file's new content, which is stored as `git add` would."""
        path = self.prefix + item.path
        entry = self._entry(head, path)
        if item.before is None and entry is None:
            blob = self._git("hash-object", "-w", "--stdin", "--path", path, data=item.after).decode().strip()
            return "100644", blob, path
        if entry is None:
            raise ConfigError(
                f"{path} is not in the last commit", hint="git add and commit it first, or apply with --write"
            )
        # Filters such as line ending conversion apply; but a file may also be committed as it is, in spite of them.
        for how in (("--path", path), ("--no-filters",)) if item.before is not None else ():
            if self._git("hash-object", "--stdin", *how, data=item.before).decode().strip() == entry[1]:
                blob = self._git("hash-object", "-w", "--stdin", *how, data=item.after).decode().strip()
                return entry[0], blob, path
        raise ConfigError(
            f"{path} is not committed as it is", hint="commit it (or git stash and run again), then apply again"
        )

    def _says(self, *words: str) -> str:
        """What git answers; "" when it says no."""
        try:
            return self._git(*words).decode().strip() or "yes"
        except ConfigError:
            return ""

    def _git(self, *words: str, data: bytes | None = None, env: dict[str, str] | None = None) -> bytes:
        own = {key: value for key, value in os.environ.items() if key not in OWN}
        done = subprocess.run(
            ["git", *words],
            cwd=self.root,
            input=data or b"",
            capture_output=True,
            env={**own, "LC_ALL": "C", **(env or {})},
        )
        if done.returncode == 0:
            return done.stdout
        said = done.stderr.decode("utf-8", "replace").strip()
        if "tell me who you are" in said or "empty ident" in said or "auto-detect email" in said:
            raise ConfigError(
                "git does not know whose commit this is",
                hint="git config user.name NAME and user.email ADDRESS, or set GIT_AUTHOR_… and GIT_COMMITTER_…",
            )
        if "not a git repository" in said:
            raise ConfigError(f"{self.root} is in no git repository", hint="apply with --write or --patch FILE")
        raise ConfigError(
            f"git {words[0]} failed: {said[-500:]}", hint="apply with --write or --patch FILE works without git"
        )
