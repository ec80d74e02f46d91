# SPDX-License-Identifier: BSD-3-Clause
"""Members on disk: each is kept as it ends, and a fit that was interrupted goes on from there.

A folder holds ``manifest.json``, which says what its members are members of, and one file for each
of them. Both are written beside their place and moved there, which is atomic: a process that is
killed leaves whole files and at most a temporary one. The checksum of a member's file is one of its
contents, its number and all that the manifest says: a file that is damaged (by a power failure,
say), that was moved, or that comes from another fit is told from the right one, and the member is
trained again.

Members are pickles. Load them only from folders that nobody else can write to.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import platform
import re
import struct
import tempfile
import warnings
from hashlib import sha256
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import scipy
import sklearn

from .._version import __version__
from ..exceptions import CheckpointError, CheckpointWarning
from ._nets import is_net, is_plain_tensor, reduced_net, reduced_tensor

_Pickler: Any = pickle._Pickler  # type: ignore[attr-defined]

_FORMAT = "sksmooth checkpoint 1"
_MEMBER = b"sksmooth member 1\n"

# Files of ours: what another name has is somebody else's.
_TEMPORARY = re.compile(r"(manifest|member-\d{6,})-\w+\.tmp")
_OURS = re.compile(rf"manifest\.json|member-\d{{6,}}\.bin|{_TEMPORARY.pattern}")

# Members of one folder come from one set of these.
_VERSIONS = {
    "python": platform.python_version(),
    "sksmooth": __version__,
    "scikit-learn": sklearn.__version__,
    "numpy": np.__version__,
    "scipy": scipy.__version__,
}


class _Packer(_Pickler):
    """Pickles to the same bytes wherever a member was trained.

    Whether two equal strings, or types of arrays, are one object differs between a process that has
    made them and one that was sent them, and pickle writes it down. Here each is written out. (So
    this is Python's own implementation, which can be told so, and not the compiled one.)
    """

    dispatch = _Pickler.dispatch.copy()

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, np.dtype):
            self.save_reduce(*obj.__reduce__())  # not remembered, as obj is not named
        elif self.memo.get(id(obj)) is None and is_net(obj):
            self.save_reduce(*reduced_net(obj), obj=obj)
        elif self.memo.get(id(obj)) is None and is_plain_tensor(obj):
            self.save_reduce(*reduced_tensor(obj), obj=obj)
        else:
            super().save(obj, save_persistent_id)

    def save_str(self, obj: str) -> None:
        raw = obj.encode("utf-8", "surrogatepass")
        self.write(pickle.BINUNICODE8 + struct.pack("<Q", len(raw)) + raw)

    dispatch[str] = save_str

    def save_picklebuffer(self, obj: pickle.PickleBuffer) -> None:
        # Python's own remembers the bytes, and fails on the second empty array.
        with obj.raw() as memory:
            code = pickle.BINBYTES8 if memory.readonly else pickle.BYTEARRAY8
            self._write_large_bytes(code + struct.pack("<Q", memory.nbytes), memory)

    dispatch[pickle.PickleBuffer] = save_picklebuffer

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if getattr(obj, "__module__", None) == "__main__" and "<" not in obj.__qualname__:
            # Of a script or notebook: workers have a copy that they cannot find. Whoever reads the
            # file can.
            self.save("__main__")
            self.save(obj.__qualname__)
            self.write(pickle.STACK_GLOBAL)
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch[FunctionType] = save_global


def pack(member: Any) -> bytes:
    """Return a member as the bytes of its file's contents.

    In the process that trained it: what was sent from one process to another shares other objects
    among its parts.
    """
    buffer = io.BytesIO()
    try:
        _Packer(buffer, protocol=5).dump(member)
    except Exception as failure:
        raise CheckpointError(
            f"A member cannot be stored in checkpoint_dir: {failure}. Leave checkpoint_dir out, or "
            "give an estimator that can be pickled."
        ) from failure
    return buffer.getvalue()


unpack = pickle.loads


class Checkpoint:
    """The folder of one ensemble.

    Attributes
    ----------
    entropy : list of int
        What the seeds of its members come from.
    block_size : int or None
        Number of members that are trained together: that of the fit which began the folder, whose
        machine may have had more memory.
    finished : list of int
        Numbers of members of all fits that were completed. Of several, one may have been chosen
        after a look at the others.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        described: dict[str, Any],
        entropy: Any,
        *,
        block_size: int | None = None,
    ):
        """Open the folder, or make it.

        Parameters
        ----------
        folder : path
            Empty, absent, or the folder of an earlier fit.
        described : dict
            All that members depend on but their seeds, as JSON takes it.
        entropy : list of int or None
            What seeds come from; None takes that of the folder, if it has one.
        block_size : int or None
            Number of members that are trained together, where they are.

        Raises
        ------
        CheckpointError
            If the folder holds something else, or cannot be written.
        """
        self.folder = Path(folder)
        self.entropy: Any = entropy
        self.block_size = block_size
        self.finished: list[int] = []
        self._described = {"format": _FORMAT, **described, "versions": _VERSIONS}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            names = sorted(path.name for path in self.folder.iterdir())
        except OSError as failure:
            raise self._error("cannot be used as a folder", failure) from failure
        foreign = [name for name in names if not _OURS.fullmatch(name)]
        if "manifest.json" in names:
            self._compare(self._read())
            for name in names:
                if _TEMPORARY.fullmatch(name):
                    (self.folder / name).unlink(missing_ok=True)
        elif foreign or any(name.startswith("member-") for name in names):
            shown = foreign or names
            raise CheckpointError(
                f"checkpoint_dir must be an empty folder, a new one, or that of an earlier fit. "
                f"{str(self.folder)!r} holds {shown[:3]} and no manifest.json."
            )

    def begin(self, entropy: list[int]) -> None:
        """Write the manifest of a new folder."""
        if self.entropy is None:
            self.entropy = entropy
        if not self._manifest.exists():
            try:
                self._write(self._manifest, self._content(), new=True)
            except FileExistsError:  # another fit began at the same time
                self._compare(self._read())
        identity = json.dumps({**self._described, "random_state": self.entropy}, sort_keys=True)
        self._key = sha256(identity.encode()).digest()

    @property
    def _manifest(self) -> Path:
        return self.folder / "manifest.json"

    def _read(self) -> dict[str, Any]:
        try:
            manifest = json.loads(self._manifest.read_text(encoding="utf-8"))
        except OSError as failure:
            raise self._error("cannot be read", failure) from failure
        except ValueError:
            manifest = None
        if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
            raise CheckpointError(
                f"{str(self._manifest)!r} is not the manifest of a fit, or is damaged: its format "
                f"is not {_FORMAT!r}. Give another checkpoint_dir."
            )
        return manifest

    def _compare(self, found: dict[str, Any]) -> None:
        entropy, self.finished = found.get("random_state"), list(found.get("finished", []))
        wanted = json.loads(json.dumps(self._described))
        if self.entropy is not None:
            wanted["random_state"] = self.entropy
        differ = [
            f"{name} ({_short(found.get(name))} there, {_short(value)} now)"
            for name, value in wanted.items()
            if found.get(name) != value
        ]
        if differ:
            raise CheckpointError(
                f"checkpoint_dir={str(self.folder)!r} holds members of another fit, which differs "
                f"in {', '.join(differ)}. Nothing was changed there. Give another folder (in a "
                "search or cross-validation one to each fit), or the same data and parameters."
            )
        self.entropy = entropy
        self.block_size = found.get("block size")

    def _content(self) -> bytes:
        manifest = {
            **self._described,
            "block size": self.block_size,
            "random_state": self.entropy,
            "finished": self.finished,
        }
        return json.dumps(manifest, indent=1).encode()

    def finish(self, n_members: int) -> None:
        """Note that a fit was completed."""
        self._compare(self._read())
        if n_members not in self.finished:
            self.finished = sorted([*self.finished, n_members])
            self._write(self._manifest, self._content())

    # --- members ----------------------------------------------------------------------------------

    def _path(self, number: int) -> Path:
        return self.folder / f"member-{number:06d}.bin"

    def load(self, number: int) -> Any:
        """Return a member, or None where there is none or its file is damaged."""
        try:
            content = self._path(number).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as failure:
            raise self._error(f"cannot be read (member {number})", failure) from failure
        payload = content[len(_MEMBER) + 32 :]
        if content != self._content_of(number, payload):
            warnings.warn(
                f"{str(self._path(number))!r} is damaged, or is not of this fit and number; member "
                f"{number} is trained again.",
                CheckpointWarning,
                stacklevel=2,
            )
            return None
        return unpack(payload)

    def save(self, number: int, payload: bytes) -> None:
        """Keep a member."""
        self._write(self._path(number), self._content_of(number, payload))

    def _content_of(self, number: int, payload: bytes) -> bytes:
        checksum = sha256(self._key + struct.pack("<Q", number) + payload).digest()
        return _MEMBER + checksum + payload

    def _write(self, path: Path, content: bytes, *, new: bool = False) -> None:
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(
                dir=self.folder, prefix=path.stem + "-", suffix=".tmp", delete=False
            ) as file:
                temporary = Path(file.name)
                file.write(content)
                if path == self._manifest:  # without it all members would be lost
                    file.flush()
                    os.fsync(file.fileno())
            if new:
                os.link(temporary, path)  # fails if it is there, unlike replace
                temporary.unlink()
            else:
                os.replace(temporary, path)
        except BaseException as failure:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            if isinstance(failure, OSError) and not isinstance(failure, FileExistsError):
                raise self._error("cannot be written", failure) from failure
            raise

    def _error(self, what: str, failure: OSError) -> CheckpointError:
        kept = len(list(self.folder.glob("member-*.bin"))) if self.folder.is_dir() else 0
        saved = f" {kept} members are stored there and stay usable." if kept else ""
        return CheckpointError(
            f"checkpoint_dir={str(self.folder)!r} {what}: {failure.strerror or failure}.{saved}"
        )


def _short(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 100 else text[:97] + "..."
