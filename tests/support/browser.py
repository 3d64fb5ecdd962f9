"""A headless Chromium, driven by its DevTools protocol over a pipe: no port, no driver, no package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 60.0
"""seconds to wait for an answer"""
KEYS = {"ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35, "Tab": 9, "Enter": 13}

AS_3_AND_4 = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""becomes the program that follows, with two pipes where Chromium wants them"""

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-pipe",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
)


class Browser:
    """One tab of a running Chromium.

    Attributes:
        errors: what the console, the page's scripts and its security policy complained of.
        requests: addresses that the page asked for.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing, self._rest, self._last = reading, writing, b"", 0
        self._session: str | None = None
        self._loaded = False
        self.errors: list[str] = []
        self.requests: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; events on the way are kept."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def open(self, page: Path, *, width: int = 1280, height: int = 900, media: Mapping[str, str] | None = None) -> None:
        """Load a file in a window of a size, with media features such as `prefers-color-scheme`."""
        self.errors.clear()
        self.requests.clear()
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": name, "value": value} for name, value in (media or {}).items()]
        self.ask("Emulation.setEmulatedMedia", features=features)
        self._loaded = False
        self.ask("Page.navigate", url=page.resolve().as_uri())
        while not self._loaded:
            self._receive()

    def run(self, script: str) -> Any:
        """The value of an expression on the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, times: int = 1) -> None:
        """Press a key."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        for _ in range(times):
            typed = {"type": "keyDown", "text": "\r"} if key == "Enter" else {"type": "rawKeyDown"}
            self.ask("Input.dispatchKeyEvent", **typed, **named)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **named)

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """A picture of the window, or of the whole page."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(shot["data"]))

    def print(self, file: Path) -> None:
        """The page as a PDF."""
        file.write_bytes(base64.b64decode(self.ask("Page.printToPDF", printBackground=True)["data"]))

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reading], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            received = os.read(self._reading, 1 << 20)
            assert received, "Chromium is gone"
            self._rest += received
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        self._note(found.get("method", ""), found.get("params", {}))
        return found

    def _note(self, method: str, event: Mapping[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded = True
            case "Runtime.exceptionThrown":
                self.errors.append(str(event["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if event["type"] in {"error", "warning", "assert"}:
                self.errors.append(str(event["args"]))
            case "Log.entryAdded" if event["entry"]["level"] in {"error", "warning"}:
                self.errors.append(event["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(event["request"]["url"])


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A fresh Chromium with its profile in an empty folder."""
    assert CHROMIUM is not None
    to_browser, to_us = os.pipe(), os.pipe()
    ends = (str(to_browser[0]), str(to_us[1]))
    process = subprocess.Popen(
        [sys.executable, "-c", AS_3_AND_4, *ends, CHROMIUM, *OPTIONS, f"--user-data-dir={profile}"],
        pass_fds=(to_browser[0], to_us[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser[0])
    os.close(to_us[1])
    try:
        yield Browser(to_us[0], to_browser[1])
    finally:
        os.close(to_browser[1])
        process.kill()
        process.wait()
        os.close(to_us[0])
