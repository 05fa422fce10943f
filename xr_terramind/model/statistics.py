"""Which pretraining statistics a model is fed with."""

from xr_terramind.errors import EngineError, explain
from xr_terramind.model.modalities import Modality
from xr_terramind.model.specs import ModelSpec


def statistics(
    spec: ModelSpec, modality: Modality, normalize: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return what is subtracted and divided by, band by band.

    Parameters
    ----------
    spec : ModelSpec
    modality : Modality
    normalize : str
        ``"zscore"``, ``"raw"`` or ``"none"``.

    Returns
    -------
    mean, std : tuple of float

    Raises
    ------
    EngineError
        Where the model was not pretrained on the modality.
    """
    if normalize != "zscore":
        return (0.0,) * len(modality.bands), (1.0,) * len(modality.bands)
    if spec.statistics not in modality.statistics:
        raise EngineError(
            explain(
                f"model={spec.key!r} with modality={modality.name!r}",
                "S2L2A: version 0.1 was pretrained on no other raw modality",
                "Use a terramind_v1 model, or normalize='raw' with values that you scaled.",
            )
        )
    return modality.statistics[spec.statistics]


def band_means(spec: ModelSpec, modality: Modality) -> tuple[float, ...]:
    """Return what stands in for an invalid pixel, in raw values.

    Parameters
    ----------
    spec : ModelSpec
    modality : Modality

    Returns
    -------
    tuple of float
    """
    return modality.statistics.get(spec.statistics, modality.statistics["v1"])[0]
