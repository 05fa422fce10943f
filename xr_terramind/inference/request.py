"""What a worker needs to know to encode a block, without the model itself.

Requests carry objects, never names to be looked up again, so that a worker needs no table: a subset
of bands is in none.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from xr_terramind.blocks.plan import Plan, plan_resize, plan_windows
from xr_terramind.cube.caller import AS_USUAL, Caller
from xr_terramind.cube.values.images import NOTHING_TOLD, Told
from xr_terramind.inference.device import Runtime, resolve_runtime
from xr_terramind.model.load import verify_weights
from xr_terramind.model.modalities import Modality, Scaling
from xr_terramind.model.specs import ModelSpec, model_spec
from xr_terramind.model.weights import WeightsRef, locate, resolve_weights

if TYPE_CHECKING:  # a worker, and a machine without xarray, need none of it
    from xr_terramind.cube.arrange import Cube
    from xr_terramind.options import EmbedOptions


@dataclass(frozen=True, kw_only=True)
class EncoderKey:
    """What makes another loaded model: equal keys share one.

    `engine`, `device` and ``precision="auto"`` are resolved on the machine that encodes. Scalings
    are part of the key because a converted model holds them.
    """

    spec: ModelSpec
    modalities: tuple[Modality, ...]
    scalings: tuple[Scaling, ...]
    weights: WeightsRef
    layer: int = -1
    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Input:
    """One image that enters the encoder: what its bands are, and how to read its raw values.

    `clip` is the range that values are clipped to; `nodata` the values that stand for no data;
    `told` what the cube's attrs say of its values, `caller` how remedies write that cube.
    """

    modality: Modality
    scaling: Scaling
    clip: tuple[float, float] | None = None
    nodata: tuple[float, ...] = ()
    told: Told = NOTHING_TOLD
    caller: Caller = AS_USUAL


@dataclass(frozen=True, kw_only=True)
class EncodeRequest:
    """All that a worker needs to know to encode a block; small, hashable, without a model."""

    key: EncoderKey
    inputs: tuple[Input, ...]  # one for each of the key's modalities, in their order; so far one
    window_px: int = 224
    batch_size: int | Literal["auto"] = "auto"
    min_valid_fraction: float = 0.0
    pooling: str | None = None  # one vector per patch; "mean" and "max" give one per window
    # The cube's first row lies south, its first column east: windows are turned north up for the
    # model, and their tokens back.
    flip_y: bool = False
    flip_x: bool = False

    @property
    def flips(self) -> tuple[int, ...]:
        """The axes of an image (..., y, x) that are turned."""
        return (-2,) * self.flip_y + (-1,) * self.flip_x


def make_request(cube: "Cube", options: "EmbedOptions") -> EncodeRequest:
    """Say all that a worker must know, having refused what cannot work.

    Engine, device and precision are resolved where this process will run it: not for a lazy cube.

    Raises
    ------
    WeightsError, EngineError
        For weights and devices that are not there.
    """
    spec, modality = model_spec(options.model), cube.modality
    weights = locate(options.weights, spec)
    if not cube.is_lazy:
        weights = resolve_weights(weights, spec)
    elif weights.kind == "file":  # otherwise the model is loaded at once anyway
        verify_weights(spec, modality, weights)
    runtime = Runtime(options.engine, options.device, options.precision)
    if not cube.is_lazy:
        runtime = resolve_runtime(*runtime)
    elif options.device not in ("auto", "cpu"):
        # Only refuses: a lazy cube may be computed elsewhere, and "auto" stays so until then.
        resolve_runtime(*runtime)
    scaling = modality.scaling(spec, options.normalize)
    return EncodeRequest(
        key=EncoderKey(
            spec=spec,
            modalities=(modality,),
            scalings=(scaling,),
            weights=weights,
            layer=options.layer,
            engine=runtime.engine,
            device=runtime.device,
            precision=runtime.precision,
        ),
        inputs=(
            Input(
                modality=modality,
                scaling=scaling,
                clip=options.clip_range,
                nodata=cube.nodata,
                told=cube.told,
                caller=cube.caller,
            ),
        ),
        window_px=options.window_size,
        batch_size=options.batch_size,
        min_valid_fraction=options.min_valid_fraction,
        pooling=options.pooling if options.output == "windows" else None,
        flip_y=cube.grid.flip_y,
        flip_x=cube.grid.flip_x,
    )


def make_plan(cube: "Cube", options: "EmbedOptions") -> Plan:
    """Lay windows over a cube."""
    if options.fit == "resize":
        pooled = options.output == "windows"
        return plan_resize(cube.shape, window_px=options.window_size, per_window=pooled)
    chunks = cube.data.variable.chunksizes if cube.is_lazy else {}
    return plan_windows(
        cube.shape,
        window_px=options.window_size,
        overlap_px=options.overlap,
        pixel_bytes=cube.data.dtype.itemsize * cube.data.sizes["band"],
        times_per_chunk=math.prod(max(chunks.get(dim, (1,))) for dim in cube.image_dims),
        per_window=options.output == "windows",
        in_memory=not cube.is_lazy,
        image_sizes=cube.data.shape[:-3],
    )
