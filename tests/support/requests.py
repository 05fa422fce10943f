"""Requests as a worker gets them, with random weights unless told."""

from tests.support.weights import TINY
from xr_terramind.inference.request import EncodeRequest, EncoderKey, Input
from xr_terramind.model.modalities import MODALITIES, Modality
from xr_terramind.model.weights import WeightsRef, locate


def make_key(
    modality: Modality = MODALITIES["S2L2A"], weights: WeightsRef | None = None, **changes
) -> EncoderKey:
    spec = changes.pop("spec", TINY)
    return EncoderKey(
        spec=spec,
        modalities=(modality,),
        scalings=(modality.scaling(spec, changes.pop("normalize", "zscore")),),
        weights=weights or locate("random", spec),
        **changes,
    )


def make_request(key: EncoderKey, nodata: tuple[float, ...] = (), **changes) -> EncodeRequest:
    (modality,), (scaling,) = key.modalities, key.scalings
    source = Input(modality=modality, scaling=scaling, clip=modality.clip, nodata=nodata)
    return EncodeRequest(key=key, inputs=(source,), **changes)
