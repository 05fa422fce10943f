"""TerraMind embeddings of satellite data inside xarray: ``.terramind`` on DataArray and Dataset.

The pipeline, in the order of the folders; `embed` holds the recipes and is read first:

- `sources`: where cubes come from
- `cube`: any cube, checked and in the model's order
- `model`: what TerraMind is
- `blocks`: windows, grouped into tasks, run in order
- `inference`: blocks of pixels to arrays of vectors
- `result`: what comes out, labelled
- `storage`: kept
- `explore`: looked at
- `cli`: the same for files
"""

from xr_terramind._version import __version__
from xr_terramind.accessor import TerraMindAccessor
from xr_terramind.cube.report import InputReport, Issue
from xr_terramind.embed import download, embed, embed_array
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
from xr_terramind.model.hub import list_models
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
    "embed",
    "embed_array",
    "list_models",
    "open_s2",
    "sample_scene",
    "set_options",
]


def __dir__() -> list[str]:
    # Folders are modules of the package, too; what users look for are the names above.
    return __all__
