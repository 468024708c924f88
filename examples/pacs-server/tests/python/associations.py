"""Lets associations of pynetdicom be used by more than one thread.

An association has a thread of its own, which takes messages off a queue. Who sends a request stops that thread first, by an
event, and looks at a flag for whether it stands still. The flag may still be set from the time before, while the thread goes on:
then the thread takes the answer away, which is waited for until a time-out; or who sends waits for ever (pynetdicom 3.0.4,
`Association._run_reactor` and `release`). With this module imported, it stands still when it does wait for the event.
"""

import threading

from pynetdicom.association import Association


class Checkpoint:
    """An event that knows whether somebody waits for it."""

    def __init__(self):
        self.changed = threading.Condition()
        self.is_open = True
        self.is_waited_for = False

    def set(self):
        with self.changed:
            self.is_open = True
            self.changed.notify_all()

    def clear(self):
        with self.changed:
            self.is_open = False

    def wait(self):
        with self.changed:
            self.is_waited_for = not self.is_open
            while not self.is_open:
                self.changed.wait()
            self.is_waited_for = False


class Paused:
    """Whether the thread of an association stands still, or is itself who asks and has said so."""

    def __get__(self, association, _):
        said_so = association.__dict__.get("_says_paused", False) and threading.current_thread() is association
        return association._kill or said_so or association._reactor_checkpoint.is_waited_for

    def __set__(self, association, says):
        association.__dict__["_says_paused"] = says


made = Association.__init__


def make(association, *arguments, **named):
    made(association, *arguments, **named)
    association._reactor_checkpoint = Checkpoint()


Association.__init__ = make
Association._is_paused = Paused()
