"""Which models there are, and which of them are on this machine."""

from pathlib import Path

import pandas as pd

from xr_terramind.model import hub
from xr_terramind.model.modalities import MODALITIES
from xr_terramind.model.specs import MODELS, model_spec
from xr_terramind.options import setting


def list_models() -> pd.DataFrame:
    """List TerraMind's encoders.

    Returns
    -------
    pandas.DataFrame
        Indexed by model key: ``features`` of a token, ``blocks``, ``parameters`` (with the S2L2A
        patch embedding), ``hub_id``, ``hub_file``, and whether the file is ``cached`` here.
    """
    n_bands = len(MODALITIES["S2L2A"].bands)
    rows = {
        key: {
            "features": spec.dim,
            "blocks": spec.depth,
            "parameters": spec.parameters(n_bands),
            "hub_id": spec.hub_id,
            "hub_file": spec.hub_file,
            "cached": hub.cached_file(spec) is not None,
        }
        for key, spec in MODELS.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def download(model: str | None = None) -> Path:
    """Fetch a model's pretrained weights from the Hugging Face hub into the local cache.

    Parameters
    ----------
    model : str, optional
        A key of `list_models`; the default model where none is given.

    Returns
    -------
    Path
        The cached file.

    Raises
    ------
    EngineError
        For an unknown model.
    WeightsError
        Where the hub is out of reach or refuses.
    """
    return hub.download(model_spec(model or setting("model", "terramind_v1_small")))
