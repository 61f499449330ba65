# SPDX-License-Identifier: GPL-2.0
"""Progress bars on a terminal, one line for each running step; elsewhere a line when a step begins and ends."""

import shutil
import sys
import threading
import time

WIDTH = 24
REDRAWS_PER_SECOND = 5

_lock = threading.RLock()
_bars = []
_drawn = 0


class Bar:
    """One step's bar. `done` of `expected` units are done; the time left is estimated from that."""

    def __init__(self, title, expected):
        self.title, self.expected, self.done = title, max(expected, 1), 0
        self.start = time.monotonic()
        with _lock:
            if not sys.stderr.isatty():
                _print(f"lab: {title} ...")
            else:
                _bars.append(self)
                if len(_bars) == 1:
                    threading.Thread(target=_redraw_until_empty, daemon=True).start()

    def end(self, good):
        """Take the bar away; a line says how the step ended."""
        elapsed = time.monotonic() - self.start
        with _lock:
            if self in _bars:
                _erase()
                _bars.remove(self)
            _print(f"lab: {self.title}: {'done' if good else 'failed'} after {elapsed:.0f} s")
            _draw()

    def line(self):
        """What the bar looks like now."""
        elapsed = time.monotonic() - self.start
        share = min(self.done / self.expected, 0.99)
        left = _clock(elapsed / share - elapsed) if share > 0.02 else "?"
        filled = "#" * int(share * WIDTH)
        return f"{self.title} [{filled:.<{WIDTH}}] {_clock(elapsed)}, left {left}"


def _clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _print(text):
    print(text, file=sys.stderr, flush=True)


def _redraw_until_empty():
    while True:
        with _lock:
            if not _bars:
                return
            _erase()
            _draw()
        time.sleep(1 / REDRAWS_PER_SECOND)


def _erase():
    global _drawn
    # Up one line, clear it.
    sys.stderr.write("\x1b[A\x1b[2K" * _drawn)
    _drawn = 0


def _draw():
    global _drawn
    columns = shutil.get_terminal_size().columns
    for bar in _bars:
        sys.stderr.write(bar.line()[:columns - 1] + "\n")
    _drawn = len(_bars)
    sys.stderr.flush()
