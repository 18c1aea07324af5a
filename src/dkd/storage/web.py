"""Files of the web: fetched whole, with a clear word about what went wrong. Read only.

Proxies come from the usual variables (``HTTPS_PROXY``, ``NO_PROXY``).
"""

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dkd.errors import UserError
from dkd.storage.store import Damaged, NotFound, disk_error

TIMEOUT = 30.0  # seconds without a byte
LARGEST = 8 << 30  # bytes
_PIECE = 1 << 20


def is_web(uri: str) -> bool:
    """Whether this is the address of a file of the web."""
    return uri.startswith(("http://", "https://"))


def name_of(address: str) -> str:
    """The name that a file has at its address."""
    return unquote(urlsplit(address).path).rsplit("/", 1)[-1]


def shown(address: str) -> str:
    """An address, or any other URI, without the secrets that one of the web may hold."""
    if not is_web(address):
        return address
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def download(address: str, path: Path, timeout: float = TIMEOUT) -> None:
    """Fetches a file; redirects are followed. What cannot be fetched whole leaves nothing behind.

    Args:
        address: ``http://`` or ``https://``.
        path: where to.
        timeout: seconds to wait for an answer, and for each piece of the file.

    Raises:
        NotFound: the server has no such file.
        Damaged: the file ended early.
        UserError: no answer, another error of the server, or the disk refuses.
    """
    try:
        _download(address, path, timeout)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _download(address: str, path: Path, timeout: float) -> None:
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "dkd"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - web only
            length = answer.headers.get("Content-Length")
            done = 0
            try:
                file = path.open("wb")
            except OSError as error:
                raise disk_error(error, path) from None
            with file:
                while piece := answer.read(_PIECE):
                    done += len(piece)
                    if done > LARGEST:
                        raise UserError(
                            f"{shown(address)}: over {LARGEST >> 30} GiB; not a file of weights"
                        )
                    try:
                        file.write(piece)
                    except OSError as error:
                        raise disk_error(error, path) from None
        if length is not None and done < int(length):
            raise Damaged(f"{shown(address)}: ended after {done} of {length} bytes; try again")
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise NotFound(
                f"{shown(address)}: the server has no such file ({error.code})"
            ) from None
        raise UserError(f"{shown(address)}: the server answered {error.code}") from None
    except http.client.IncompleteRead:
        raise Damaged(f"{shown(address)}: ended early; try again") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(f"{shown(address)}: {_reason(error, timeout)}") from None


def _reason(error: Exception, timeout: float) -> str:
    """Why there was no answer, in words."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer for {timeout:g} s"
    if isinstance(cause, socket.gaierror):
        return "its server's name is not known here (is there a way out?)"
    if isinstance(cause, ssl.SSLError):
        return "its certificate is not trusted"
    if isinstance(cause, OSError) and cause.strerror:
        return f"no connection ({cause.strerror})"
    return f"no usable answer ({' '.join(str(cause).split()) or type(cause).__name__})"
