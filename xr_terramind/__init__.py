"""TerraMind embeddings of satellite data inside xarray.

``import xr_terramind`` registers ``.terramind`` on DataArray and Dataset. The modules, in the order
of the pipeline:

==============================  ==================================================================
`sources.sample`                a synthetic Sentinel-2 scene
`sources.earth_engine`          Sentinel-2 from Earth Engine: `sources.place` and `.region` say
                                where, `.query` asks, `.chunks` and `.fetch` read
`modalities`, `models`          what TerraMind was trained on, and in which sizes it comes
`bands`                         bands by their many names; pixels without data
`dims`, `geometry`, `cube`      find a cube's dimensions, grid, bands and nodata; arrange them
`values`, `check`, `report`     check a cube, say what was found
`choices`, `options`            what a caller may choose, and where defaults come from
`windows`, `plan`               which pixels each window reads, which windows share a task
`hub`, `weights`, `encoder`     model name -> file -> verified state dict -> torch module;
`random_weights`                or drawn, the same in every process
`statistics`, `device`          what pixels are scaled by; where, and in which number format
`request`, `runner`             what a worker needs to know; loaded encoders, and in torch:
`torch_runner`                  clip, fill, normalise, encode on a device
`streams`, `fixed_shapes`       copies beside the model; batch sizes that are recorded once
`inference`                     blocks of pixels -> blocks of tokens
`engines`, `cache`              other ways to run the same encoder; what they convert is kept
`lazy`                          the Dask graph
`grid`, `attrs`                 tokens -> labelled, georeferenced DataArray
`embed`, `estimate`, `arrange`  the recipes that the accessor calls
`quantize`                      float32 -> int8 with a scale a vector, and back
`write`                         embeddings -> Zarr: `layout`, `store`, `geoemb` say how they lie,
                                `resume` what may go on, `order` and `execute` run the blocks,
                                `progress` counts them
`geoparquet`, `cog`             embeddings and maps -> tables and images for a GIS; no part of
`whole_files`                   one stands under its name before it is complete
`explore`                       embeddings -> pictures, maps, classes, vectors at points
`accessor`, `catalogue`, `cli`  what users type; `store_methods` and `explore_methods` are the
                                accessor's part for embeddings; `cli_look`, `cli_errors`, `demo`,
                                `describe`, `files` and `embedding_files` serve the command line
==============================  ==================================================================
"""

from xr_terramind._version import __version__
from xr_terramind.accessor import TerraMindAccessor
from xr_terramind.cube.report import InputReport, Issue
from xr_terramind.embed import download, embed_array, list_models
from xr_terramind.errors import (
    BandError,
    EngineError,
    GridError,
    SourceError,
    StoreError,
    StoreExistsError,
    TerraMindError,
    TerraMindWarning,
    ValueRangeError,
    WeightsError,
)
from xr_terramind.inference.estimate import PlanReport
from xr_terramind.options import set_options
from xr_terramind.sources.earth_engine.open_s2 import open_s2
from xr_terramind.sources.synthetic.scene import sample_scene

__all__ = [
    "BandError",
    "EngineError",
    "GridError",
    "InputReport",
    "Issue",
    "PlanReport",
    "SourceError",
    "StoreError",
    "StoreExistsError",
    "TerraMindAccessor",
    "TerraMindError",
    "TerraMindWarning",
    "ValueRangeError",
    "WeightsError",
    "__version__",
    "download",
    "embed_array",
    "list_models",
    "open_s2",
    "sample_scene",
    "set_options",
]
