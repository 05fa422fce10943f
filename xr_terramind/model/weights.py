"""Model name -> file -> verified state dict.

Nothing here trusts a file: it is read without running code from it, every encoder key must be
there with the right shape and finite numbers, and its SHA-256 goes into the result.
"""

import hashlib
import math
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xr_terramind.errors import WeightsError, explain
from xr_terramind.model.hub import cached_file, download
from xr_terramind.model.random_weights import RANDOM_SEED, random_weights
from xr_terramind.model.specs import ModelSpec

if TYPE_CHECKING:
    import torch

Shapes = Mapping[str, tuple[int, ...]]

_MAX_KEYS_SHOWN = 6

# What `_load` raises on files that are cut short, foreign or hostile.
_UNREADABLE = (
    *(OSError, RuntimeError, ValueError, EOFError, KeyError, IndexError, TypeError),
    *(AttributeError, ImportError, pickle.UnpicklingError, zipfile.BadZipFile),
)


@dataclass(frozen=True)
class WeightsRef:
    """Which weights a result is made with; small enough to travel in every task."""

    kind: Literal["hub", "file", "random"]
    path: str = ""  # of a file
    sha256: str = ""  # of the file, or of the recipe; empty for a hub file not downloaded yet


def locate(weights: str, spec: ModelSpec) -> WeightsRef:
    """Say which weights ``"pretrained"``, ``"random"`` or a path stand for.

    Without downloading and without torch.

    Raises
    ------
    WeightsError
        Where a path leads to no file, or to one that is neither ``.pt`` nor ``.safetensors``.
    """
    if weights == "random":
        recipe = f"xr_terramind random weights, seed {RANDOM_SEED}, {spec}"
        return WeightsRef("random", sha256=hashlib.sha256(recipe.encode()).hexdigest())
    if weights == "pretrained":
        cached = cached_file(spec)
        return WeightsRef("hub", sha256=sha256_of(cached) if cached else "")
    try:
        path = Path(weights).expanduser()
        sha256 = sha256_of(path)
    except (OSError, ValueError, RuntimeError) as error:  # the last for an unknown ~user
        raise WeightsError(
            explain(
                f"weights={weights!r}, where there is no file to read "
                f"({type(error).__name__}: {error})",
                "'pretrained', 'random', or the path of a .pt or .safetensors state dict",
                "Check the path; relative ones start at the working directory.",
            )
        ) from error
    if path.suffix not in (".pt", ".pth", ".safetensors"):
        raise WeightsError(
            explain(
                f"the weights file {path.name}",
                "a name that ends in .pt, .pth or .safetensors",
                "Save the state dict with torch.save or safetensors.torch.save_file.",
            )
        )
    return WeightsRef("file", str(path.resolve()), sha256)


def resolve_weights(ref: WeightsRef, spec: ModelSpec) -> WeightsRef:
    """Download a hub file that was not on this machine yet, so that its hash is known."""
    if ref.kind != "hub" or ref.sha256:
        return ref
    return WeightsRef("hub", sha256=sha256_of(download(spec)))


def read_weights(ref: WeightsRef, spec: ModelSpec, shapes: Shapes) -> dict[str, "torch.Tensor"]:
    """Read a complete, verified encoder state dict in float32: exactly the keys of `shapes`.

    Raises
    ------
    WeightsError
        For a file that is missing, changed, unreadable, incomplete or not finite.
    """
    if ref.kind == "random":
        return random_weights(shapes)
    path = Path(ref.path) if ref.kind == "file" else download(spec)
    if ref.sha256 and path.exists() and sha256_of(path) != ref.sha256:
        raise WeightsError(
            explain(
                f"{path.name} with SHA-256 {sha256_of(path)[:12]}...",
                f"{ref.sha256[:12]}..., as when the embedding was planned",
                "Call embed again, so that the result records the file that made it.",
            )
        )
    return verify(read_file(path), shapes, path.name)


def read_file(path: Path) -> Mapping[str, Any]:
    """Read a ``.pt`` or ``.safetensors`` file without running any code that it may hold.

    Tensors are memory-mapped where the format allows it.

    Raises
    ------
    WeightsError
        Where it cannot be read as a plain mapping of tensors.
    """
    try:
        state = _load(path)
    except _UNREADABLE as error:
        reason = str(error).strip().splitlines()
        raise WeightsError(
            explain(
                f"{path.name} ({path.stat().st_size if path.exists() else 0:,} bytes), "
                f"which cannot be read: {type(error).__name__}"
                + (f": {reason[0][:200]}" if reason else ""),
                "a whole file with a plain state dict; nothing else is ever unpickled",
                "Download or save it again.",
            )
        ) from error
    if not isinstance(state, Mapping):
        raise WeightsError(
            explain(
                f"{path.name} with a {type(state).__name__}",
                "a state dict: names -> tensors",
                "Save model.state_dict(), not the model.",
            )
        )
    return state


def _load(path: Path) -> Any:
    if path.suffix != ".safetensors":
        import torch

        return torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    # Imported where it is needed: those who bring no file of this kind need not have the package.
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def verify(state: Mapping[str, Any], shapes: Shapes, name: str) -> dict[str, "torch.Tensor"]:
    """Take exactly the encoder's keys out of a state dict, or refuse it.

    Keys of the decoder and of other modalities, which the hub's files hold too, are dropped. What
    is returned is float32, in memory of its own; `name` is what errors call the file.

    Raises
    ------
    WeightsError
        Naming the keys that are missing, have another shape, or hold NaN or infinity.
    """
    import torch

    missing = [key for key in shapes if not isinstance(state.get(key), torch.Tensor)]
    if missing:
        others = [str(key) for key in state if key not in shapes]
        raise WeightsError(
            explain(
                f"{name} without {_list_some(missing)}"
                + (f"; it holds {_list_some(others)}" if others else ""),
                f"all {len(shapes)} keys of the encoder",
                "Check that model and modality are those that the file was saved for.",
            )
        )
    odd = [
        f"{key} {tuple(state[key].shape)} instead of {shape}"
        for key, shape in shapes.items()
        if tuple(state[key].shape) != tuple(shape)
    ]
    if odd:
        raise WeightsError(
            explain(
                f"{name} with {_list_some(odd)}",
                "the shapes of this model",
                "Check that model= names the size that the file was saved for.",
            )
        )
    unfinite = [key for key in shapes if not _is_finite(state[key])]
    if unfinite:
        raise WeightsError(
            explain(
                f"{name} with numbers that are not finite floats in {_list_some(unfinite)}",
                "finite weights",
                "Download or save the file again.",
            )
        )
    # A copy, so that a file which changes or goes away later cannot change the model.
    return {key: state[key].detach().to(torch.float32, copy=True) for key in shapes}


def _is_finite(weight: "torch.Tensor") -> bool:
    # NaN and infinity show in the extremes, which one pass finds.
    return weight.is_floating_point() and all(
        math.isfinite(extreme) for extreme in weight.aminmax()
    )


def _list_some(items: list[str]) -> str:
    more = len(items) - _MAX_KEYS_SHOWN
    return ", ".join(items[:_MAX_KEYS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; the same file is read once per process."""
    state = os.stat(path)
    # An archive or `cp -p` can put another file of the same size and date in place.
    identity = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    return _sha256(os.path.realpath(path), identity)


@lru_cache(maxsize=64)
def _sha256(path: str, identity: tuple[int, ...]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
