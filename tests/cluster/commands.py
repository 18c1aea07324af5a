"""What an operator would type: kubectl and dkd."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Object = dict[str, Any]


def program() -> str:
    """The environment's pinned kubectl, else the one on the path."""
    pinned = Path(sys.executable).with_name("kubectl")
    return str(pinned if pinned.exists() else shutil.which("kubectl"))


def kubectl(*arguments: str, stdin: str | None = None, check: bool = True) -> str:
    """Standard output; raises AssertionError with what kubectl said."""
    ended = subprocess.run(
        [program(), *arguments], input=stdin, capture_output=True, text=True, timeout=120
    )
    if check:
        assert ended.returncode == 0, f"kubectl {' '.join(arguments)}: {ended.stderr}"
        return ended.stdout
    return ended.stdout + ended.stderr


def get(kind: str, name: str, namespace: str) -> Object | None:
    """An object; None if it is not there."""
    text = kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
    return json.loads(text) if text.strip() else None


def get_all(kind: str, namespace: str, selector: str = "") -> list[Object]:
    items = kubectl(
        "get", kind, "-n", namespace, "-o", "json", *(("-l", selector) * bool(selector))
    )
    return list(json.loads(items)["items"])


def apply(*objects: Object) -> None:
    kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(each) for each in objects))


def delete(kind: str, name: str, namespace: str, *options: str) -> None:
    kubectl("delete", kind, name, "-n", namespace, "--ignore-not-found", *options)


def run_in(pod: str, container: str, namespace: str, *command: str, check: bool = True) -> str:
    return kubectl("exec", pod, "-c", container, "-n", namespace, "--", *command, check=check)


def wait_until(condition: Callable[[], Any], seconds: float, what: str, pause: float = 2) -> Any:
    """The condition's value once it is true."""
    end = time.monotonic() + seconds
    while True:
        try:
            value = condition()
        except (AssertionError, subprocess.TimeoutExpired):
            if time.monotonic() > end:
                raise
            value = None
        if value:
            return value
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(pause)


def end_process(pod: str, container: str, namespace: str, words: str) -> None:
    """SIGKILLs the processes of a container whose command line or name has these words."""
    script = (
        "import os, pathlib\n"
        "for folder in pathlib.Path('/proc').iterdir():\n"
        "    if folder.name.isdigit() and int(folder.name) not in (1, os.getpid()):\n"
        "        about = (folder / 'cmdline').read_text() + (folder / 'comm').read_text()\n"
        f"        if {words!r} in about:\n"
        "            print('found', flush=True)\n"
        "            os.kill(int(folder.name), 9)\n"
    )
    wait_until(
        lambda: "found" in run_in(pod, container, namespace, "python3", "-c", script, check=False),
        30,
        f"a process with {words!r} in {pod}",
        pause=0.5,
    )


def hook(name: str, *arguments: str) -> None:
    """Runs a command that only whoever has the cluster knows, e.g. how a machine's power goes.

    Args:
        name: of the environment variable that holds it.
        arguments: handed to it.
    """
    subprocess.run(
        ["sh", "-c", os.environ[name], name, *arguments],
        check=True,
        timeout=300,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def has_hooks(names: Iterable[str]) -> bool:
    return all(os.environ.get(name) for name in names)


def dkd(*arguments: str, check: bool = True, **settings: str) -> str:
    """The command line on this machine; where it may fail, with what it told of that."""
    ended = subprocess.run(
        [str(Path(sys.executable).with_name("dkd")), *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=1700,
    )
    assert not check or ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout if check else ended.stdout + ended.stderr
