"""``.terramind`` on DataArray and Dataset: documentation, and one delegating line a method."""

from collections.abc import Hashable
from typing import Any, Unpack

import xarray as xr

from xr_terramind import embed
from xr_terramind.choices import EmbedKeywords
from xr_terramind.cube.report import InputReport
from xr_terramind.explore_methods import ExploreMethods
from xr_terramind.inference.estimate import PlanReport
from xr_terramind.store_methods import StoreMethods


@xr.register_dataarray_accessor("terramind")
@xr.register_dataset_accessor("terramind")
class TerraMindAccessor(ExploreMethods, StoreMethods):
    """TerraMind embeddings of a satellite cube, and what can be done with them.

    Parameters
    ----------
    obj : xarray.DataArray or xarray.Dataset
        A cube with dimensions band, y, x and perhaps time in any order, or a Dataset with one
        variable a band; or an embedding.
    """

    def __init__(self, obj: xr.DataArray | xr.Dataset) -> None:
        self._obj: Any = obj

    @property
    def bands(self) -> dict[str, Hashable]:
        """Model band -> the cube's own name, for the modality that the options set.

        Raises
        ------
        BandError
            For bands that are missing, doubled or unnamed in another number.
        """
        return embed.find_bands(self._obj)

    def arrange(self, modality: str | None = None) -> xr.DataArray:
        """Bring the bands into the model's order and names; surplus ones are left out.

        Parameters
        ----------
        modality : str, optional
            ``"S2L2A"`` where no option says otherwise.

        Returns
        -------
        xarray.DataArray
            The same pixels with ``band = ['B1', ..., 'B12']``.

        Raises
        ------
        BandError
            For bands that are missing, doubled or unnamed in another number.
        """
        return embed.arrange(self._obj, modality)

    def check(self, sample: int | None = None, *, modality: str | None = None) -> InputReport:
        """Look for what would make the embedding wrong: dims, bands, CRS, resolution, values.

        Parameters
        ----------
        sample : int, optional
            Windows to read for the values; of a lazy cube 4 by default.
        modality : str, optional
            ``"S2L2A"`` where no option says otherwise.

        Returns
        -------
        InputReport
            With ``.ok``, ``.issues`` and ``.raise_for_errors()``.
        """
        return embed.check(self._obj, sample, modality)

    def embed(self, output: str = "grid", **options: Unpack[EmbedKeywords]) -> xr.DataArray:
        """Embed the cube with TerraMind: lazily where the cube is lazy, at once where it is not.

        Parameters
        ----------
        output : {"grid", "windows", "pooled"}, default "grid"
            ``"grid"``: one vector a 16 x 16-pixel patch, ``([time,] feature, y, x)``.
            ``"windows"``: one pooled vector a window. ``"pooled"``: one for the whole extent,
            ``([time,] feature)``.
        **options
            model : str, default "terramind_v1_small"
                ``terramind_v1_tiny / small / base / large`` or ``terramind_v01_base``.
            modality : str, default "S2L2A"
                ``S2L2A``, ``S2L1C``, ``RGB``, ``S1GRD``, ``S1RTC`` or ``DEM``.
            weights : str, default "pretrained"
                From the Hugging Face hub; ``"random"`` (seeded); or the path of a ``.pt`` or
                ``.safetensors`` state dict.
            normalize : {"zscore", "raw", "none"}, default "zscore"
                ``"zscore"`` takes the pretraining statistics of the model.
            layer : int, default -1
                Encoder block whose output is returned; -1 is the last, through the final norm.
            pooling : {"mean", "max"}, default "mean"
                Over valid patches.
            fit : {"windows", "resize"}, default "windows"
                Native resolution, or the whole extent resized to one window.
            window_size : int, default 224
                Edge in pixels, a multiple of 16.
            overlap : int, default 0
                Pixels that neighbours share, a multiple of 32. Each patch comes from the window
                in which it lies deepest.
            clip : "auto", (low, high) or None, default "auto"
                ``"auto"`` is 0..10000 for Sentinel-2, 0..255 for RGB, none for S1 and DEM.
            min_valid_fraction : float, default 0.0
                A patch with less valid area, or none, is NaN.
            engine : {"auto", "torch", "terratorch", "openvino"}, default "auto"
                OpenVINO on a CPU where it is installed, torch elsewhere; ``"terratorch"`` is
                TerraTorch's own model.
            device : str, default "auto"
                A GPU where there is one; or ``"cpu"``, ``"cuda:0"``, ...
            precision : {"auto", "float32", "bfloat16", "float16"}, default "auto"
                Number format of the encoder; ``"auto"`` is float32 on a CPU, and on a GPU what its
                matrix units are fastest in.
            batch_size : int or "auto", default "auto"
                Windows a forward pass.

        Returns
        -------
        xarray.DataArray
            float32, named ``embedding``, georeferenced, with ``valid_fraction`` beside it and all
            that made it in its attrs.

        Raises
        ------
        BandError, GridError, ValueRangeError
            Where the cube does not fit; the value checks of a lazy cube come with its first block.
        WeightsError
            Where the weights are missing, incomplete or unreadable.
        EngineError
            For options that cannot be met.

        Examples
        --------
        >>> import xr_terramind as xtm
        >>> cube = xtm.sample_scene(224)
        >>> grid = cube.terramind.embed(model="terramind_v1_tiny", weights="random")
        >>> grid.sizes
        Frozen({'feature': 192, 'y': 14, 'x': 14})
        """
        return embed.embed(self._obj, output, **options)

    def plan(
        self, output: str = "grid", *, calibrate: bool = False, **options: Unpack[EmbedKeywords]
    ) -> PlanReport:
        """Say what `embed` would run; computes and downloads nothing.

        Parameters
        ----------
        output : {"grid", "windows", "pooled"}, default "grid"
        calibrate : bool, default False
            Run the model on made-up windows for two seconds, with random weights, to tell how long
            the embedding would take on this machine.
        **options
            As for `embed`.

        Returns
        -------
        PlanReport
            Windows, patches, blocks, tasks, shape and bytes of the output (float32 and int8),
            memory a task and a worker; time with `calibrate`.
        """
        return embed.plan(self._obj, output, calibrate=calibrate, **options)
