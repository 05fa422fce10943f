"""Devices: which one, in which number format, how many windows at once."""

import os
import sys
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from xr_terramind.errors import EngineError, explain, warn
from xr_terramind.model.modalities import Modality
from xr_terramind.model.specs import PATCH_PX, ModelSpec

if TYPE_CHECKING:
    import torch

MAX_BATCH_CPU = 12
"""More windows per forward pass gain nothing on a CPU, and cost memory."""

MAX_BATCH_GPU = 256

_MEMORY_SHARE = 0.25  # of what is free; the rest is for blocks that wait and for other workers
_LIVE_TENSORS = 16  # float32 copies of the token tensor that live at once within a layer


class Runtime(NamedTuple):
    """What ``"auto"`` became on this machine."""

    engine: str
    device: str
    precision: str


def resolve_runtime(engine: str, device: str, precision: str) -> Runtime:
    """Choose what ``"auto"`` stands for, and refuse what this machine does not have.

    Raises
    ------
    EngineError
        For a device that is not there, or a precision that it does not have.
    """
    if engine == "openvino" or (engine == "auto" and device == "cpu") or not _may_have_gpu():
        runtime = _resolve_openvino(engine, device, precision)
        if runtime is not None:
            return runtime
    import torch

    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    kind, _, index = device.partition(":")
    n_devices = {"cuda": torch.cuda.device_count(), "mps": int(has_mps), "cpu": 1}[kind]
    if int(index or 0) >= n_devices:
        raise EngineError(
            explain(
                f"device={device!r} on a machine with {n_devices} {kind} devices",
                "a device that torch can see",
                "Use device='auto', or install a build of torch for your GPU.",
            )
        )
    if engine == "auto" and kind == "cpu":
        runtime = _resolve_openvino(engine, device, precision)
        if runtime is not None:
            return runtime
    if precision == "auto":
        precision = fastest_precision(device)
    return Runtime("torch" if engine == "auto" else engine, device, precision)


def fastest_precision(device: str) -> str:
    """Choose the number format that a device multiplies matrices fastest in.

    ``"bfloat16"`` on NVIDIA GPUs from Ampere on, and AMD's; ``"float16"`` on those with matrix
    units for nothing else (Volta, Turing); ``"float32"`` elsewhere.
    """
    if not device.startswith("cuda"):
        return "float32"
    import torch

    # Of this card: torch's own question is about the current one, and counts emulation in.
    generation = torch.cuda.get_device_capability(torch.device(device))
    if torch.version.hip is not None or generation >= (8, 0):
        return "bfloat16"
    return "float16" if generation >= (7, 0) else "float32"


def _may_have_gpu() -> bool:
    # Importing torch to ask takes seconds; drivers of GPUs show in the file system.
    drivers = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
    return sys.platform != "linux" or any(map(os.path.exists, drivers))


def _resolve_openvino(engine: str, device: str, precision: str) -> Runtime | None:
    """Take OpenVINO where it was asked for, or where ``"auto"`` may take it; else None."""
    if engine not in ("auto", "openvino") or (engine == "auto" and device not in ("auto", "cpu")):
        return None
    if device not in ("auto", "cpu"):
        raise EngineError(
            explain(
                f"engine='openvino' with device={device!r}",
                "device='cpu' or 'auto'",
                "Use engine='torch' on a GPU.",
            )
        )
    if find_spec("openvino") is None or not _openvino_precisions():
        if engine == "auto":
            return None
        raise EngineError(
            explain(
                "engine='openvino', which is not installed, or cannot be imported",
                "the package openvino",
                "Install it with pip install 'xr_terramind[openvino]', or use engine='torch'.",
            )
        )
    precision = "float32" if precision == "auto" else precision
    if precision in _openvino_precisions():
        return Runtime("openvino", "cpu", precision)
    if engine == "auto":
        return None
    raise EngineError(
        explain(
            f"precision={precision!r} with engine='openvino' on this processor",
            f"one of {', '.join(_openvino_precisions())}",
            "Use precision='auto', which is float32.",
        )
    )


def import_openvino() -> Any:
    """Import OpenVINO without the package that tells its makers about each import."""
    if "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # cannot be imported
        try:
            import openvino
        finally:
            del sys.modules["openvino_telemetry"]
    import openvino

    return openvino


@lru_cache(maxsize=1)
def _openvino_precisions() -> tuple[str, ...]:
    try:
        core = import_openvino().Core()
    except (ImportError, OSError):
        return ()  # a library that is broken here is as good as none
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    names = {"FP32": "float32", "BF16": "bfloat16"}
    return tuple(name for capability, name in names.items() if capability in capabilities)


def warn_of_lowered_float32(dtype: "torch.dtype") -> None:
    """Warn where torch computes the products of an encoder in float32 with fewer digits."""
    import torch

    # The switch is the user's, and comparisons within a process should agree: it is left alone.
    lowered = torch.get_float32_matmul_precision()
    if dtype == torch.float32 and lowered != "highest":
        warn(
            explain(
                f"torch's float32 matrix precision set to {lowered!r} in this process "
                "(importing TerraTorch does that)",
                "'highest': on CPUs and GPUs with bfloat16 or TF32 units, features otherwise "
                "differ by some 0.02",
                "Call torch.set_float32_matmul_precision('highest') before embedding.",
            )
        )


def window_bytes(spec: ModelSpec, modality: Modality, window_px: int) -> int:
    """Estimate the memory that one window takes within a batch."""
    n_tokens = (window_px // PATCH_PX) ** 2
    image_bytes = 3 * 4 * len(modality.bands) * window_px**2  # raw, normalised, cut
    return image_bytes + 4 * _LIVE_TENSORS * n_tokens * spec.dim


def affordable_batch(spec: ModelSpec, modality: Modality, window_px: int, device: str) -> int:
    """Choose how many windows fit into a share of the memory that is free now; at least one."""
    one = window_bytes(spec, modality, window_px)
    if device.startswith("cuda"):
        import torch

        free_bytes, limit = torch.cuda.mem_get_info(torch.device(device))[0], MAX_BATCH_GPU
    else:
        import psutil

        free_bytes, limit = psutil.virtual_memory().available, MAX_BATCH_CPU
    return max(1, min(limit, int(_MEMORY_SHARE * free_bytes / one)))
