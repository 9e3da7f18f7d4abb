"""A real browser in a container, and the page of the board in it."""

import base64
import fcntl
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from selenium.common.exceptions import WebDriverException
from selenium.webdriver import ChromeOptions, Remote
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from testcontainers.core.container import DockerContainer

from tests.ports import free_port
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

#: Selenium's image; where no registry answers, one of this name is built from Debian packages.
IMAGE = "selenium/standalone-chromium:latest"

#: Where pictures go.
PICTURES = ROOT / "build" / "board"

#: What the browser's container calls this machine.
HOST = "host.docker.internal"

_BOOT_SECONDS = 60.0
_SECONDS = 30.0


class Browser:
    """Chromium in a container; gone when the context is left."""

    def __init__(self) -> None:
        """Prepare the container; it is started by `with`."""
        self._port = free_port()
        self._container = DockerContainer(IMAGE).with_kwargs(
            extra_hosts={HOST: "host-gateway"}, shm_size="1g"
        )
        self._container.ports["4444"] = ("127.0.0.1", self._port)  # type: ignore[assignment]

    def __enter__(self) -> Self:
        """Start it; wait until it can be driven."""
        provide(IMAGE)
        self._container.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        self._container.stop()

    def window(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> "Window":
        """Open a window, with cookies of its own."""
        options = ChromeOptions()
        for each in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
            options.add_argument(f"--{each}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        opened: list[Remote] = []

        def is_open() -> bool:
            try:
                opened.append(Remote(f"http://127.0.0.1:{self._port}", options=options))
            except (WebDriverException, OSError):
                return False
            return True

        wait_until(is_open, _BOOT_SECONDS, "the browser can be driven")
        return Window(opened[0], width, height, dark=dark)


class Window:
    """One window, and what a person sees and does in it.

    Attributes:
        driver: Selenium's.
    """

    def __init__(self, driver: Remote, width: int, height: int, *, dark: bool) -> None:
        """Give it a size and a scheme of colours."""
        self.driver = driver
        is_phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}
        self._cdp("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._cdp("Emulation.setEmulatedMedia", {"features": scheme})

    def _cdp(self, command: str, given: dict[str, Any]) -> Any:
        told = self.driver.execute("executeCdpCommand", {"cmd": command, "params": given})
        return told["value"]

    def close(self) -> None:
        """Close it."""
        self.driver.quit()

    def open(self, url: str) -> None:
        """Go to a page."""
        self.driver.get(url)

    def log_in(self, url: str, user: str, password: str) -> None:
        """Open the board and log in; the board is there then."""
        self.open(url)
        self.see("Log in")
        self.fill("#login-user", user)
        self.fill("#login-password", password)
        self.press("Log in")

    def find(self, selector: str) -> WebElement:
        """Return the first such element that is shown, once there is one."""

        def found() -> list[WebElement]:
            all_ = self.driver.find_elements(By.CSS_SELECTOR, selector)
            return [each for each in all_ if each.is_displayed()]

        return wait_until(
            found, _SECONDS, lambda: f"{selector} is shown; the page says: {self.text}"
        )[0]

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def fill(self, selector: str, text: str) -> None:
        """Type into a field."""
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def press(self, label: str) -> None:
        """Press the button that is shown with this label, or this name for those who cannot see."""

        def pressed() -> bool:
            for button in self.driver.find_elements(By.TAG_NAME, "button"):
                try:
                    told = button.get_attribute("aria-label") or button.text
                    if label == told and button.is_displayed() and button.is_enabled():
                        button.click()
                        return True
                except WebDriverException:
                    continue  # drawn anew meanwhile
            return False

        wait_until(pressed, _SECONDS, lambda: f"a button {label!r}; the page: {self.text}")

    @property
    def text(self) -> str:
        """What the page says, as far as it is shown."""
        return str(self.run("return document.body.innerText"))

    def see(self, text: str, seconds: float = _SECONDS) -> None:
        """Wait until the page says something."""
        wait_until(
            lambda: text in self.text, seconds, lambda: f"{text!r}; the page says: {self.text}"
        )

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = _SECONDS) -> Any:
        """Wait until something is so."""
        return wait_until(condition, seconds, lambda: f"{what}; the page says: {self.text}")

    def run(self, script: str, *given: Any) -> Any:
        """Run JavaScript in the page, as its tools do."""
        return self.driver.execute_script(script, *given)

    @property
    def complaints(self) -> list[str]:
        """What the browser has complained of: errors, and what the policy has refused."""
        return [
            str(each["message"])
            for each in self.driver.execute("getLog", {"type": "browser"})["value"]
        ]

    def picture(self, name: str, *, whole: bool = True) -> None:
        """Take a picture of the page, or of what is shown of it, for people to look at."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        if whole:
            self.run("window.scrollTo(0, 0)")
        data = self._cdp("Page.captureScreenshot", {"captureBeyondViewport": whole})["data"]
        (PICTURES / f"{name}.png").write_bytes(base64.b64decode(data))


def provide(image: str) -> None:
    """Pull an image, or build it where no registry answers; side by side, one after the other."""
    with (Path(tempfile.gettempdir()) / "pipeline-images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        inspect = ["docker", "image", "inspect", image]
        if not subprocess.run(inspect, capture_output=True, check=False).returncode:
            return
        answers = f"source deploy/bin/answers.sh; answers 20 docker pull {image}"
        if subprocess.run(["bash", "-c", answers], cwd=ROOT, check=False).returncode:
            subprocess.run(["deploy/offline/build", image], cwd=ROOT, check=True)
