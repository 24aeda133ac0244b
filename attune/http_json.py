"""One JSON question to a web server and its answer, within a time and a size, never followed elsewhere."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["Reply", "Unusable", "post"]

LONGEST_BYTES = 16 << 20


class Unusable(Exception):
    """No answer, or none that can be read: asking again may help."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    value: Any
    """The JSON value; None where an error's body is none."""
    shown: str
    """The beginning of the body, for messages."""
    retry_after_s: float | None


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: following it would send the key to wherever it points."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_Stay)


def post(url: str, body: Any, *, headers: dict[str, str], timeout_s: float) -> Reply:
    """Send `body` as JSON. Proxies of the environment are honoured.

    Raises: Unusable for a timeout, a lost connection, an answer that is too long or (with status 200) not JSON.
    """
    request = urllib.request.Request(
        url,
        data=json.dumps(body, ensure_ascii=True, allow_nan=False).encode(),
        headers={"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "attune", **headers},
        method="POST",
    )
    until = time.monotonic() + timeout_s
    try:
        try:
            response = _opener.open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            raw = _read(response, until)
            status, wait = response.status, _retry_after(response.headers)
    except TimeoutError as error:
        raise Unusable(f"no answer within {timeout_s:g} s") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise Unusable(f"no connection within {timeout_s:g} s") from error
        raise Unusable(f"no connection: {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unusable(f"the connection broke: {type(error).__name__} {error}") from error
    shown = raw[:2000].decode("utf-8", "replace")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        if status == 200:
            raise Unusable(f"the answer is not JSON: {shown[:200]!r}") from error
        value = None
    return Reply(status, value, shown, wait)


def _read(response: Any, until: float) -> bytes:
    """The whole body. A server that sends a byte now and then does not outlast the time."""
    parts, size = [], 0
    while chunk := response.read1(1 << 16):
        parts.append(chunk)
        size += len(chunk)
        if size > LONGEST_BYTES:
            raise Unusable(f"the answer is longer than {LONGEST_BYTES >> 20} MiB")
        if time.monotonic() > until:
            raise TimeoutError
    if response.length:  # read1 does not tell a cut-off body from its end
        raise Unusable("the answer is cut off")
    return b"".join(parts)


def _retry_after(headers: Any) -> float | None:
    """Seconds to wait, from `Retry-After-Ms` or `Retry-After` (seconds or a date); None where not said."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, TypeError):
        return None
