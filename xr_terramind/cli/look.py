"""The commands of ``xr-terramind`` that look at embeddings in files."""

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import xarray as xr

from xr_terramind.cli.read import open_embedding
from xr_terramind.errors import GridError, SourceError, explain
from xr_terramind.result.cells import north_up
from xr_terramind.result.check import find_image_dims
from xr_terramind.result.describe import describe
from xr_terramind.storage.whole_files import check_folder

MIN_PICTURE_PX = 700
"""Of the longer edge of a PNG, in which each cell is a square of pixels."""

Store = Annotated[Path, typer.Argument(metavar="STORE", help="An embedding: .zarr, .nc or .tif.")]
Picture = Annotated[
    Path, typer.Argument(metavar="OUT", help="A .png to look at, or a .tif for a GIS.")
]
Date = Annotated[
    str | None, typer.Option(metavar="DATE", help="Of a time series: the date nearest to it.")
]
Image = Annotated[
    list[str] | None,
    typer.Option(metavar="DIM=NUMBER", help="Of many images: which one, such as sample=0."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")]


def info(store: Store) -> None:
    """Say what an embedding is, and what made it."""
    facts = describe(open_embedding(store))
    width = max(map(len, facts))
    typer.echo(f"{store}")
    for name, text in facts.items():
        typer.echo(f"  {name:<{width}}  {text}")


def rgb(
    store: Store,
    target: Picture,
    date: Date = None,
    image: Image = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw an embedding's three strongest directions as red, green and blue."""
    _check_picture(target, overwrite)
    embedding = _choose_date(_choose_image(open_embedding(store), image or []), date)
    _write_picture(embedding.terramind.to_rgb(), target)


def similarity(
    store: Store,
    target: Picture,
    lon: Annotated[float | None, typer.Option(help="Longitude of the place, in degrees.")] = None,
    lat: Annotated[float | None, typer.Option(help="Latitude.")] = None,
    x: Annotated[float | None, typer.Option(help="Or its x, in the embedding's CRS.")] = None,
    y: Annotated[float | None, typer.Option(help="And its y.")] = None,
    date: Date = None,
    image: Image = None,
    overwrite: Overwrite = False,
) -> None:
    """Map how alike all places are to one: the cosine of their vectors."""
    in_degrees, in_crs = None not in (lon, lat), None not in (x, y)
    if in_degrees == in_crs or (lon, lat, x, y).count(None) != 2:
        raise typer.BadParameter("expected one place: --lon and --lat, or --x and --y.")
    _check_picture(target, overwrite)
    embedding = _choose_date(_choose_image(open_embedding(store), image or []), date)
    place: dict[str, Any] = {"x": x, "y": y}
    if in_degrees:
        place = {"x": lon, "y": lat, "crs": "EPSG:4326"}
    found = embedding.terramind.similarity(**place).compute()
    typer.echo(f"cosine to the place: {float(found.min()):.3f} to {float(found.max()):.3f}")
    _write_picture(found, target)


def _check_picture(target: Path, overwrite: bool) -> None:
    if target.suffix.lower() not in (".png", ".tif", ".tiff"):
        raise SourceError(
            explain(
                f"{str(target)!r}, which ends in {target.suffix or 'nothing'!r}",
                ".png (a picture) or .tif (a cloud-optimised GeoTIFF)",
                "Choose another name.",
            )
        )
    check_folder(target)
    if target.exists() and not overwrite:
        raise FileExistsError(
            explain(
                f"{str(target)!r}, which exists",
                "a new name",
                "Choose another one, or pass --overwrite to replace it.",
            )
        )


def _choose_image(embedding: xr.DataArray, wanted: list[str]) -> xr.DataArray:
    dims = {str(dim): dim for dim in find_image_dims(embedding) if dim != "time"}
    chosen: dict[Any, int] = {}
    for text in wanted:
        name, _, number = text.partition("=")
        if name not in dims or not number.isdigit() or int(number) >= embedding.sizes[dims[name]]:
            sizes = [f"{one}=0 to {embedding.sizes[dim] - 1}" for one, dim in dims.items()]
            expected = ", ".join(sizes) or "none, as there is one image only"
            raise typer.BadParameter(f"found --image {text}; expected {expected}.")
        chosen[dims[name]] = int(number)
    missing = [name for name, dim in dims.items() if dim not in chosen]
    if missing:
        sizes = [f"{embedding.sizes[dims[name]]} along {name}" for name in missing]
        calls = " ".join(f"--image {name}=0" for name in missing)
        found = f"several images, {', '.join(sizes)}"
        raise GridError(explain(found, "one image", f"Choose it, for example with {calls}."))
    return embedding.isel(chosen)


def _choose_date(embedding: xr.DataArray, date: str | None) -> xr.DataArray:
    if "time" not in embedding.dims:
        if date is not None:
            raise GridError(
                explain(f"--date {date} for a single date", "a time series", "Leave --date out.")
            )
        return embedding
    if date is None:
        days = np.datetime_as_string(embedding["time"].values, unit="D")
        raise GridError(
            explain(
                f"a time series of {len(days)} dates, {days[0]} to {days[-1]}",
                "one date",
                f"Choose it, for example with --date {days[0]}.",
            )
        )
    try:
        wanted = np.datetime64(date)
    except ValueError:
        raise typer.BadParameter(f"found {date!r}; expected a date such as 2022-06-15.") from None
    return embedding.sel(time=wanted, method="nearest")


def _write_picture(image: xr.DataArray, target: Path) -> None:
    if target.suffix.lower() != ".png":
        image.terramind.to_cog(target)
    else:
        # Without a CRS the first row is the top.
        image = image if image.rio.crs is None else north_up(image)
        # Matplotlib takes a second to import.
        from matplotlib.image import imsave

        values = _to_rgba(image) if "rgb" in image.dims else image.transpose("y", "x").values
        imsave(target, _enlarge(values))
    height, width = (image.sizes[dim] for dim in ("y", "x"))
    typer.echo(f"wrote {target}: {width:,} x {height:,} cells")


def _enlarge(values: np.ndarray) -> np.ndarray:
    # Otherwise a cell would be one pixel of the screen.
    factor = math.ceil(MIN_PICTURE_PX / max(values.shape[:2]))
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def _to_rgba(image: xr.DataArray) -> np.ndarray:
    # (y, x, rgba): what has no data is transparent
    colours = image.transpose("y", "x", "rgb").values
    seen = np.isfinite(colours).all(axis=-1, keepdims=True)
    return np.concatenate([np.where(seen, colours, 0), seen], axis=-1).astype(np.float32)
