"""A headless Chromium driven over its debugging pipe: no driver, no package beside the browser."""

import base64
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
PATIENCE = 60.0
"""Seconds until something that should happen counts as not happening."""


class Chromium:
    """One browser with a profile of its own."""

    def __init__(self, profile: Path) -> None:
        assert BROWSER is not None
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        options = (
            "--headless=new --no-sandbox --disable-gpu --hide-scrollbars --no-first-run "
            "--disable-extensions --disable-background-networking --disable-component-update "
            "--remote-debugging-pipe"
        )
        command = f'exec "$0" {options} --user-data-dir="$1" about:blank 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", command, BROWSER, str(profile)],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._replies: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._listeners: dict[str, list[Callable[[dict[str, Any]], None]]] = {}
        self._count = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._write)

    def call(self, method: str, tab: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        with self._changed:
            self._count += 1
            number = self._count
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if tab is not None:
            message["sess" + "ionId"] = tab
        os.write(self._write, json.dumps(message).encode() + b"\0")
        with self._changed:
            arrived = self._changed.wait_for(lambda: number in self._replies, PATIENCE)
            assert arrived, f"{method}: no answer"
            reply = self._replies.pop(number)
        assert "error" not in reply, f"{method}: {reply.get('error')}"
        result: dict[str, Any] = reply["result"]
        return result

    def on(self, tab: str, listener: Callable[[dict[str, Any]], None]) -> None:
        """Hear every event of a tab."""
        self._listeners.setdefault(tab, []).append(listener)

    def _listen(self) -> None:
        left = b""
        while chunk := os.read(self._read, 1 << 16):
            *messages, left = (left + chunk).split(b"\0")
            for text in messages:
                self._hear(json.loads(text))

    def _hear(self, message: dict[str, Any]) -> None:
        if "id" in message:
            with self._changed:
                self._replies[message["id"]] = message
                self._changed.notify_all()
            return
        for listener in self._listeners.get(message.get("sess" + "ionId", ""), []):
            listener(message)


class Tab:
    """One page with a size and a colour scheme; keeps what it asked the network for."""

    def __init__(self, browser: Chromium, size: tuple[int, int], scheme: str) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._id: str = attached["sess" + "ionId"]
        self._target = target
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.dialogs: list[str] = []
        self._events: Queue[str] = Queue()
        browser.on(self._id, self._hear)
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(*size)
        self.call(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ],
        )

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to this page."""
        return self._browser.call(method, self._id, **parameters)

    def resize(self, width: int, height: int) -> None:
        """Set the size of the window; up to 500 pixels wide it is a phone."""
        phone = width <= 500
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=phone,
        )  # fmt: skip

    def open(self, url: str) -> None:
        """Go to an address and wait until it is loaded."""
        while not self._events.empty():
            self._events.get_nowait()
        self.call("Page.navigate", url=url)
        try:
            while self._events.get(timeout=PATIENCE) != "Page.loadEventFired":
                pass
        except Empty:
            raise AssertionError(f"{url} did not load") from None

    def evaluate(self, script: str) -> Any:
        """Return what a JavaScript expression is, promises awaited."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = PATIENCE) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = self.evaluate(f"!!({condition})")
            if found:
                return
            time.sleep(0.05)
        raise AssertionError(f"never true: {condition}")

    def click(self, selector: str) -> None:
        """Press the middle of an element with the mouse, once it stays where it is."""
        self.wait(f"document.querySelector({json.dumps(selector)})")
        before, place = None, self._middle(selector)
        while place != before:
            time.sleep(0.1)
            before, place = place, self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind, x=place[0], y=place[1], button="left", clickCount=1,
            )  # fmt: skip

    def _middle(self, selector: str) -> Any:
        return self.evaluate(
            f"""(() => {{ const node = document.querySelector({json.dumps(selector)});
            node.scrollIntoView({{block: "center"}}); const box = node.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2]; }})()"""
        )

    def type(self, selector: str, text: str) -> None:
        """Put the cursor into a box, empty it and type."""
        quoted = json.dumps(selector)
        self.wait(f"document.querySelector({quoted})")
        self.evaluate(f"document.querySelector({quoted}).focus()")
        self.evaluate(f"document.querySelector({quoted}).select()")
        self.press("Delete")
        self.call("Input.insertText", text=text)

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key by its name; modifiers: 2 is Control, 8 is Shift."""
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, "Delete": 46, " ": 32, "ArrowRight": 39}
        text = {"text": {"Enter": "\r", " ": " "}.get(key, "")} if not modifiers else {}
        shared = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", modifiers=modifiers, **shared, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", modifiers=modifiers, **shared)

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Write a picture of the page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        path.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        """Close the page."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def _hear(self, message: dict[str, Any]) -> None:
        method, given = message["method"], message["params"]
        if method == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.requests.append(given["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(given["exceptionDetails"]))
        elif method == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.problems.append(json.dumps(given["entry"]))
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(given["message"])
            threading.Thread(
                target=self.call, args=("Page.handleJavaScriptDialog",), kwargs={"accept": True}
            ).start()
        self._events.put(method)


@contextmanager
def tab(
    browser: Chromium, size: tuple[int, int] = (1280, 900), scheme: str = "light"
) -> Iterator[Tab]:
    """Open a page and close it again."""
    opened = Tab(browser, size, scheme)
    try:
        yield opened
    finally:
        opened.close()
