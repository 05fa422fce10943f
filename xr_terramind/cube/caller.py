"""How the caller writes a cube, for remedies that work on it as it is."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # a worker that warns needs no more than the words
    from xr_terramind.model.modalities import Modality


class Caller(NamedTuple):
    """How remedies write the caller's cube.

    Attributes
    ----------
    band : str or None
        Dimension of the bands; None where each band is a variable.
    y, x : str
        Names of the dimensions there.
    named : str
        An expression for the cube with dimensions whose names rioxarray knows.
    ready : str
        The same, in the order and number that rioxarray can warp.
    keeps_transforms : bool
        A Dataset whose variables have a transform each in their attributes.
    masks_zero : bool
        The cube was read with 0 as NaN.
    variables : tuple of pairs of str
        Of a Dataset whose bands have a name besides the variable's: that name, and the variable's.
    left_out : tuple of pairs (int, str)
        Layers that stand among the bands and are none: where, and their names.
    """

    band: str | None = "band"
    y: str = "y"
    x: str = "x"
    named: str = "cube"
    ready: str = "cube"
    keeps_transforms: bool = False
    masks_zero: bool = False
    variables: tuple[tuple[str, str], ...] = ()
    left_out: tuple[tuple[int, str], ...] = ()

    @property
    def axes(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The dimensions, x first, as (the name here, the caller's name)."""
        return ("x", self.x), ("y", self.y)

    def rename_call(self, names: Sequence[object], bands: Mapping[int, str]) -> str:
        """Write the call that gives bands, by their positions, the model's names."""
        if self.band is None:
            return f"cube.rename({ {self._find_variable(names[i]): b for i, b in bands.items()} })"
        own, places = self._place_bands(names)
        for i, band in bands.items():
            own[places[i]] = band
        return f"cube.assign_coords({self.band}={own})"

    def drop_call(self, names: Sequence[object], surplus: Sequence[int]) -> str:
        """Write the call that leaves out the bands at some positions."""
        if self.band is None:
            return f"cube.drop_vars({[self._find_variable(names[i]) for i in surplus]})"
        own, places = self._place_bands(names)
        spare = {places[i] for i in surplus}
        kept = [i for i in range(len(own)) if i not in spare]
        # Names, too: those in attributes would not follow.
        labels = [own[i] for i in kept]
        return f"cube.isel({self.band}={kept}).assign_coords({self.band}={labels})"

    def arrange_call(self, modality: "Modality", *, lacks: bool = False) -> str:
        """Write the call that picks the model's bands, of a cube that may lack some."""
        also = ", missing_bands='mean'" if lacks or modality.full else ""
        return f"cube.terramind.arrange({modality.name!r}{also})"

    def _place_bands(self, names: Sequence[object]) -> tuple[list[str], list[int]]:
        # All names in the caller's cube, and where among them the bands stand.
        own = [str(name) for name in names]
        for place, name in self.left_out:
            own.insert(place, name)
        beside = {place for place, _ in self.left_out}
        return own, [place for place in range(len(own)) if place not in beside]

    def _find_variable(self, name: object) -> str:
        return dict(self.variables).get(str(name), str(name))


AS_USUAL = Caller()
