"""Commands to a running process, from others of the same user on the same machine.

A request and its answer are JSON, over a Unix socket or a Windows pipe.  Where it is, and the key
that opens it, stand in a small file that only the user can read: whoever may read it may command.
Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from tisr_scope.child_process import Message, error_message, error_of
from tisr_scope.errors import MicroscopeError, TisrScopeError

_CARD = "commands.json"


class CommandServer:
    """Answers commands, each client in a thread of its own.

    Parameters
    ----------
    answer : callable
        Takes a request and gives the answer, or raises; called from any thread.
    """

    def __init__(self, answer: Callable[[Message], Message]) -> None:
        self._answer = answer
        self._folder = Path(tempfile.mkdtemp(prefix="tisr_"))  # for the user alone
        self.card = self._folder / _CARD
        key = secrets.token_bytes(32)
        name = str(self._folder / "commands")
        if sys.platform == "win32":
            name = rf"\\.\pipe\tisr_{secrets.token_hex(16)}"
        self._listener = Listener(name, backlog=8, authkey=key)
        descriptor = os.open(self.card, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"address": name, "key": key.hex(), "process": os.getpid()}, file)
        self._closed = False
        threading.Thread(target=self._accept, name="tisr-commands", daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client = self._listener.accept()
            except Exception:  # a stranger without the key, or the end
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: Connection) -> None:
        with client, contextlib.suppress(EOFError, OSError):
            while True:
                request = json.loads(client.recv_bytes())
                try:
                    answer = {"answer": self._answer(request)}
                except Exception as error:
                    answer = {"error": error_message(error)}
                client.send_bytes(json.dumps(answer).encode())


class CommandClient:
    """Asks a process; safe from several threads, one request at a time.

    Parameters
    ----------
    card : Path
        File that the server wrote.

    Raises
    ------
    MicroscopeError
        If nobody answers there (any more).
    """

    def __init__(self, card: Path) -> None:
        self._lock = threading.Lock()
        try:
            found: dict[str, Any] = json.loads(card.read_text(encoding="utf-8"))
            self._client = Client(found["address"], authkey=bytes.fromhex(found["key"]))
        except Exception as error:
            raise _gone(str(card)) from error

    def ask(self, do: str, **arguments: Any) -> Message:
        """Answer to one command.

        Raises
        ------
        TisrScopeError
            What the other process raised, or that it has gone.
        """
        try:
            with self._lock:
                self._client.send_bytes(json.dumps({"do": do, **arguments}).encode())
                reply = json.loads(self._client.recv_bytes())
        except (OSError, EOFError, ValueError) as error:
            raise _gone(do) from error
        if "error" in reply:
            raise error_of(reply["error"])
        answer: Message = reply["answer"]
        return answer

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._client.close()


def _gone(where: str) -> TisrScopeError:
    return MicroscopeError(
        "the process that was to be asked does not answer",
        where=where,
        remedy="it has ended or is being ended; what it recorded is readable",
    )
