"""Open pages in a headless Chromium: do they fit a screen, a phone and paper, and does the browser complain?"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

WIDTHS = {"desktop": 1280, "phone": 390, "paper": 688}  # A4 between margins of 14 mm, in CSS pixels

# a window cannot be as narrow as a phone, a frame can; its document may be read, as both are of one origin
_MEASURE = """
window.onload = () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const root = frame.contentDocument.documentElement, wide = [], height = root.scrollHeight;
    for (const part of root.querySelectorAll("details")) part.open = true;
    for (const part of root.querySelectorAll("body *")) {
      const scrolled = part.parentElement.closest(".scroll");
      const clipped = scrolled && frame.contentWindow.getComputedStyle(scrolled).overflowX === "auto";
      if (!clipped && !part.closest(".skip") && part.getBoundingClientRect().right > root.clientWidth + 1)
        wide.push(part.tagName + ": " + part.textContent.slice(0, 60));
    }
    found[frame.id] = {shown: root.clientWidth, needed: root.scrollWidth, height: height, wide: wide.slice(0, 5)};
  }
  document.body.textContent = JSON.stringify(found);
};
"""


def browser() -> str:
    """The browser; without one the test is skipped, saying so."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium is installed: pages are only parsed, not shown")
    return found


def page_sizes(page: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Measure the shown and the needed width of a page at every width of :data:`WIDTHS`.

    Returns:
        for each, in pixels, ``height`` as the page opens, and with all details open the ``shown`` and the ``needed``
        width; and up to five elements that are too ``wide``.
    """
    printed = page.replace("@media print", "@media all")
    frames = "".join(
        f'<iframe id="{name}" style="width:{width}px;height:900px;border:0" '
        f'srcdoc="{escape(printed if name == "paper" else page)}"></iframe>'
        for name, width in WIDTHS.items()
    )
    harness = folder / "harness.html"
    harness.write_text(f'<!DOCTYPE html><meta charset="utf-8"><script>{_MEASURE}</script><body>{frames}</body>')
    shown = _run(folder, "--dump-dom", harness.as_uri())
    body = re.search(r"<body>(\{.*\})</body>", shown.stdout, re.DOTALL)
    assert body is not None, shown.stdout[-500:] + shown.stderr[-500:]
    return dict(json.loads(unescape(body.group(1))))


def assert_fits(page: str, folder: Path, *, height: int = 3000) -> None:
    """Check that a page fits a desktop, a phone and paper: no part is cut, it opens short, and paper has it all."""
    sizes = page_sizes(page, folder)
    for name, size in sizes.items():
        assert size["needed"] <= size["shown"], f"{name}: {size}"
        assert size["wide"] == [], f"{name}: {size}"
    assert sizes["desktop"]["height"] <= height
    assert "<details>" not in page or sizes["paper"]["height"] > 1.2 * sizes["desktop"]["height"]


def complaints(path: Path, folder: Path) -> list[str]:
    """Return the browser's console messages about a page, such as a load that the page's policy refuses."""
    shown = _run(folder, "--enable-logging=stderr", "--v=0", "--dump-dom", path.as_uri())
    assert "<h1" in shown.stdout
    return [line for line in shown.stderr.splitlines() if ":CONSOLE" in line]


def screenshot(path: Path, target: Path, folder: Path, *, width: int = 1280, height: int = 900) -> None:
    """Write the visible part of a page in a window of that size as a PNG."""
    _run(folder, "--hide-scrollbars", f"--window-size={width},{height}", f"--screenshot={target}", path.as_uri())


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [browser(), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    # no name can be looked up: a page that loads something from outside would say so
    command += ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"]
    return subprocess.run([*command, *words], capture_output=True, text=True, check=True, timeout=120)
