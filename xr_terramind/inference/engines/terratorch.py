"""TerraTorch's own TerraMind, as a reference and for those who want just that."""

from typing import TYPE_CHECKING

from xr_terramind.errors import EngineError, explain
from xr_terramind.inference.engines.pytorch import TorchEngine
from xr_terramind.model.load import read_state

if TYPE_CHECKING:
    import torch

    from xr_terramind.inference.engines.pytorch import Encoder


class TerraTorchEngine(TorchEngine):
    """A model of TerraTorch's ``BACKBONE_REGISTRY`` with verified weights in it."""

    def build_encoder(self) -> "Encoder":
        """Return TerraTorch's model on the device.

        Raises
        ------
        EngineError
            Where TerraTorch cannot be imported.
        """
        import torch

        (modality,) = self.key.modalities
        # TerraTorch's own loading would pass over keys that a file lacks.
        state = read_state(self.spec, modality, self.key.weights)
        precision = torch.get_float32_matmul_precision()
        try:
            from terratorch.registry import BACKBONE_REGISTRY
        # torchvision of another release than torch says so as a RuntimeError.
        except (ImportError, RuntimeError) as error:
            raise EngineError(
                explain(
                    f"engine='terratorch', whose import fails: {error}",
                    "terratorch with torchgeo 0.8 and torchvision of the same release as torch",
                    "Install the pinned set with pip install xr_terramind, or use engine='torch'.",
                )
            ) from error
        chosen = {"bands": {modality.name: list(modality.bands_terramind)}} if modality.full else {}
        model = BACKBONE_REGISTRY.build(self.spec.key, modalities=[modality.name], **chosen)
        # Importing TerraTorch's models lowers it to "medium" for the whole process.
        torch.set_float32_matmul_precision(precision)
        model.load_state_dict(state, strict=True)
        model = model.to(device=self.device, dtype=self.dtype).eval()

        def encode(pixels: "torch.Tensor") -> "torch.Tensor":
            return model({modality.name: pixels})[self.key.layer]

        return encode
