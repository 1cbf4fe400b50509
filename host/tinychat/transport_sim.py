"""The simulator: the complete firmware app as a program on this machine, spoken to over its standard streams."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from .errors import BlobFileError, LinkLostError, SimError
from .transport import SimOptions, Transport

SIM_NAME = "tlm-sim.exe" if sys.platform == "win32" else "tlm-sim"
MAGIC = b"TLM\x1a"


def find_sim() -> Path:
    """The `tlm-sim` executable: $TINYCHAT_SIM, else the one installed with this package, else one on PATH."""
    named = os.environ.get("TINYCHAT_SIM")
    if named:
        if not os.access(named, os.X_OK) or Path(named).is_dir():
            raise SimError(f"TINYCHAT_SIM names {named}, which is not an executable.", "unset it, or build tlm-sim")
        return Path(named)
    bundled = Path(__file__).parent / "_native" / SIM_NAME
    if os.access(bundled, os.X_OK):
        return bundled
    found = shutil.which(SIM_NAME)
    if found:
        return Path(found)
    raise SimError(
        "The simulator tlm-sim is not installed.",
        "reinstall with a C compiler present (pip install .), or build runtime_c with CMake and set TINYCHAT_SIM",
    )


def check_blob_file(path: Path) -> None:
    """Refuses what can not be a blob before anything is started or sent; the device checks the rest."""
    if not path.exists():
        raise BlobFileError(f"There is no file {path}.", "make one: tinyexport quantize CHECKPOINT --q4_0")
    if path.is_dir():
        raise BlobFileError(f"{path} is a folder, not a .tlm file.", "make one: tinyexport quantize CHECKPOINT --q4_0")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as err:
        raise BlobFileError(f"{path} can not be read ({err.strerror}).") from err
    if head[:4] != MAGIC:
        raise BlobFileError(f"{path} is not a .tlm blob.", "make one: tinyexport quantize CHECKPOINT --q4_0")
    if len(head) < 16 or int.from_bytes(head[12:16], "little") != path.stat().st_size:
        raise BlobFileError(f"{path} is cut short or has bytes too many.", "export or copy it again")


class SimTransport(Transport):
    """A `tlm-sim` process. Its error output is kept: the last line explains why it ended."""

    lossy = False

    def __init__(self, blob: str, options: SimOptions) -> None:
        self.name = f"sim:{blob}"
        self._command = [str(find_sim())]
        if blob:
            check_blob_file(Path(blob))
            self._command.append(blob)
        for flag, value in (
            ("--like", options.like),
            ("--context", options.context),
            ("--kv", options.kv),
            ("--flash", options.flash),
        ):
            if value is not None:
                self._command += [flag, str(value)]
        self._process: subprocess.Popen[bytes] | None = None
        self.reopen()

    def read(self, timeout: float) -> bytes:
        """See `Transport.read`."""
        chunks = []
        try:
            chunks.append(self._chunks.get(timeout=timeout) if timeout > 0 else self._chunks.get_nowait())
            while True:
                chunks.append(self._chunks.get_nowait())
        except queue.Empty:
            pass
        data = b"".join(chunks)
        if not data and chunks:
            self._chunks.put(b"")  # the end stays the end for the next reader
            raise self._ended()
        return data

    def write(self, data: bytes) -> None:
        """See `Transport.write`."""
        if self._process is None or self._process.stdin is None:
            raise LinkLostError("The simulator is not running.")
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (OSError, ValueError) as err:
            raise self._ended() from err

    def close(self) -> None:
        """See `Transport.close`. The simulator ends when its input ends."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin,):
            try:
                if stream:
                    stream.close()
            except OSError:
                pass
        try:
            process.wait(2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join(2)
        self._stderr_reader.join(2)

    def reopen(self) -> None:
        """See `Transport.reopen`: starts a new simulator (its settings and chat start over)."""
        self.close()
        self._chunks: queue.Queue[bytes] = queue.Queue()
        self._stderr: list[str] = []
        try:
            # A group of its own: Ctrl-C in the terminal stops the reply, not the simulator.
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as err:
            raise SimError(f"{self._command[0]} does not start ({err.strerror}).", "build tlm-sim again") from err
        self._process = process
        self._reader = threading.Thread(target=self._pump, args=(process, self._chunks), daemon=True)
        self._stderr_reader = threading.Thread(target=self._pump_stderr, args=(process, self._stderr), daemon=True)
        self._reader.start()
        self._stderr_reader.start()

    @staticmethod
    def _pump(process: subprocess.Popen[bytes], chunks: queue.Queue[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as out:
            while data := os.read(out.fileno(), 65536):
                chunks.put(data)
        chunks.put(b"")

    @staticmethod
    def _pump_stderr(process: subprocess.Popen[bytes], lines: list[str]) -> None:
        assert process.stderr is not None
        with process.stderr as err:
            for line in err:
                lines.append(line.decode("utf-8", "replace").rstrip())
                del lines[:-20]

    def _ended(self) -> LinkLostError | SimError:
        """Why the simulator ended: its own last words, else its exit status."""
        process = self._process
        if process is None:
            return LinkLostError("The simulator is not running.")
        try:
            status: int | None = process.wait(2)
        except subprocess.TimeoutExpired:
            status = None
        self._stderr_reader.join(1)
        words = next((line for line in reversed(self._stderr) if line), "")
        if words.lower().startswith("tlm-sim: "):
            words = words[9:]
        if status is not None and status > 0 and words:
            about_a_file = any(words.startswith(f"{part}: ") for part in self._command)
            sentence = words if about_a_file else words[0].upper() + words[1:]
            return SimError(sentence if sentence.endswith(".") else sentence + ".")
        return LinkLostError(f"The simulator ended (status {status}).", words)
