"""Signals that ask for the end: heard at once, obeyed at a moment that loses nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gainakt.experiment.console import RunConsole


@contextmanager
def stop_on_interrupt(console: RunConsole, when: str) -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C, a polite kill or a closed terminal end the work at a good moment.

    Args:
        console: where to say that it was heard.
        when: the moment, in words, such as "after this batch".

    Yields:
        whether stopping was asked for.

    Raises:
        KeyboardInterrupt: on a second signal, at once.
    """
    asked = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        console.say(f"stopping {when}; once more to stop at once")

    in_main_thread = threading.current_thread() is threading.main_thread()
    # a terminal that closes is a polite kill too
    stops = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
    before = {s: signal.getsignal(s) for s in stops if in_main_thread}
    if before.get(stops[2]) == signal.SIG_IGN:  # as nohup has it
        del before[stops[2]]
    # a program that embeds Python may handle a signal itself: then the handler is None, and stays
    ours = {number: handler for number, handler in before.items() if handler is not None}
    try:
        for number in ours:
            signal.signal(number, on_signal)
        yield asked.is_set
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
