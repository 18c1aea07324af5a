"""Makes this Python poorer, as on macOS and Windows, and runs ``dkd``: WORD... .

What libraries do for themselves on Linux is their matter: all is refused to dkd's modules alone.
To be imported, or run, before anything of dkd.
"""

import builtins
import os
import signal
import sys
import warnings
from types import ModuleType
from typing import Any

UNIX_MODULES = frozenset(
    {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
)
UNIX_NAMES = {
    os: (
        "chown fchmod fork forkpty geteuid getgid getgroups getloadavg getpgid getpgrp getuid "
        "killpg mkfifo nice openpty pread preadv pwrite pwritev sched_getaffinity "
        "sched_setaffinity setpgid setsid statvfs sync sysconf uname wait WNOHANG"
    ),
    signal: "SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1 SIGUSR2 alarm pthread_sigmask",
}

_import = builtins.__import__


def _refusing(name: str, importing: Any = None, *rest: Any, **named: Any) -> ModuleType:
    by = (importing or {}).get("__name__", "")
    if name in UNIX_MODULES and by.partition(".")[0] == "dkd":
        raise ModuleNotFoundError(f"{by} imports {name}, which Windows has not")
    return _import(name, importing, *rest, **named)


class _Without(ModuleType):
    """A module in which dkd does not find what Windows has not; libraries do."""

    def __getattribute__(self, name: str) -> Any:
        if name in _HIDDEN.get(ModuleType.__getattribute__(self, "__name__"), ()):
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if caller.partition(".")[0] == "dkd":
                raise AttributeError(f"{caller} uses {name}, which Windows has not")
        return ModuleType.__getattribute__(self, name)


_HIDDEN = {module.__name__: frozenset(names.split()) for module, names in UNIX_NAMES.items()}
builtins.__import__ = _refusing
for each in UNIX_NAMES:
    each.__class__ = _Without
# Text whose encoding would be the machine's, not UTF-8; needs -X warn_default_encoding.
warnings.filterwarnings("error", category=EncodingWarning, module=r"dkd\.")

if __name__ == "__main__":
    from dkd.cli import main

    main(prog_name="dkd")
