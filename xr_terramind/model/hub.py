"""The Hugging Face hub's copy of the weights: cached here, or to be downloaded."""

import queue
import threading
from pathlib import Path

import pandas as pd

from xr_terramind.errors import WeightsError, explain
from xr_terramind.model.modalities import MODALITIES
from xr_terramind.model.specs import MODELS, ModelSpec

HUB_TIMEOUT_S = 5.0
"""How long the hub may take to answer before it counts as out of reach."""


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
            "cached": cached_file(spec) is not None,
        }
        for key, spec in MODELS.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def cached_file(spec: ModelSpec) -> Path | None:
    """Return the hub file of a model where it is cached on this machine."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(spec.hub_id, spec.hub_file)
    return Path(found) if isinstance(found, str) else None


def download(spec: ModelSpec) -> Path:
    """Return the hub file of a model, downloading it where it is not cached yet.

    Raises
    ------
    WeightsError
        Where the hub is out of reach, refuses, or does not have the file.
    """
    cached = cached_file(spec)
    if cached:
        return cached
    # Importing the hub's client takes a while and is not needed for cached or local weights.
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    # The hub's HTTP library changes with its releases; its own error is the one that stays.
    failures: tuple[type[Exception], ...] = (HfHubHTTPError, OSError, ValueError)
    failures += tuple(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    try:
        _ask_once(spec, failures)
        return Path(hf_hub_download(spec.hub_id, spec.hub_file))
    except failures as error:
        reason = str(error).strip().splitlines()
        gated = " It is gated: HF_TOKEN must hold a token with access." if "v01" in spec.key else ""
        raise WeightsError(
            explain(
                f"no way to download {spec.hub_file} of {spec.hub_id} from the hub "
                f"({type(error).__name__}: {reason[0][:200] if reason else 'no reason given'}), "
                "and no copy of it in the local cache",
                "the pretrained weights",
                f"Where there is internet, run `xr-terramind download {spec.key}`; or pass "
                "weights=<path of a local .pt or .safetensors file>; or point HF_HOME at a cache "
                f"that holds the file. weights='random' runs without.{gated}",
            )
        ) from error


def _ask_once(spec: ModelSpec, failures: tuple[type[Exception], ...]) -> None:
    # hf_hub_download() repeats its first question for up to a minute where nobody answers.
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        return
    answers: queue.Queue[Exception | None] = queue.Queue()

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(spec.hub_id, spec.hub_file), timeout=HUB_TIMEOUT_S)
        except HfHubHTTPError:
            answers.put(None)  # an answer, if not a friendly one: the download will say what it is
        except failures as error:
            answers.put(error)
        else:
            answers.put(None)

    # In a thread, as a client's time-out holds for each address and not for name servers.
    threading.Thread(target=ask, daemon=True).start()
    try:
        error = answers.get(timeout=2 * HUB_TIMEOUT_S)
    except queue.Empty:
        raise TimeoutError(f"no answer within {2 * HUB_TIMEOUT_S:g} s") from None
    if error is not None:
        raise error
