"""``xr-terramind``: check, plan and embed cubes in files, without writing Python."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
import xarray as xr
from dask.utils import format_bytes
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import xr_terramind as xtm
from xr_terramind.cli import look
from xr_terramind.cli.messages import ReadableGroup, console
from xr_terramind.cli.read import open_cube
from xr_terramind.cli.write import check_embedding, check_target, write_embedding
from xr_terramind.model.modalities import MODALITIES
from xr_terramind.model.specs import MODELS

app = typer.Typer(
    cls=ReadableGroup,
    help="TerraMind embeddings of satellite cubes. Try [bold]xr-terramind demo[/bold] first: "
    "it needs no data. Shell completion: [bold]xr-terramind --install-completion[/bold].",
    epilog="Examples:\n\nxr-terramind demo\n\nxr-terramind check s2.tif\n\n"
    "xr-terramind embed s2.tif embedding.zarr\n\nxr-terramind rgb embedding.zarr picture.png",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# A flag that is not given is None and is not passed on, so that the environment's defaults apply.
Flag = typer.Option
Source = Annotated[Path, typer.Argument(metavar="IN", help="A .tif, .nc or .zarr.")]
Output = Annotated[
    str | None,
    Flag(metavar="grid|windows|pooled", help="A vector a patch, a window, or for the extent."),
]
Model = Annotated[
    str | None,
    Flag(metavar="KEY", help="See xr-terramind models.", autocompletion=lambda: list(MODELS)),
]
Modality = Annotated[
    str | None,
    Flag(
        metavar="|".join(MODALITIES),
        help="What the bands are.",
        autocompletion=lambda: list(MODALITIES),
    ),
]
Weights = Annotated[
    str | None,
    Flag(metavar="pretrained|random|PATH", help="PATH leads to a .pt or .safetensors file."),
]
Fit = Annotated[
    str | None,
    Flag(metavar="windows|resize", help="Native resolution, or all resized to one window."),
]
WindowSize = Annotated[int | None, Flag(help="Edge of a window in pixels, a multiple of 16.")]
Overlap = Annotated[int | None, Flag(help="Pixels that windows share, a multiple of 32.")]


def _clip(text: str) -> tuple[float, float] | str:
    if text in ("auto", "none"):
        return text
    try:
        low, high = (float(limit) for limit in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"found {text!r}; expected LOW,HIGH or auto or none. For example --clip 0,10000."
        ) from None
    return low, high


def _batch_size(text: str) -> int | str:
    if text == "auto" or text.isdecimal():
        return text if text == "auto" else int(text)
    raise typer.BadParameter(f"found {text!r}; expected auto or a whole number. Leave it out.")


def _given(**flags: Any) -> dict[str, Any]:
    given = {name: value for name, value in flags.items() if value is not None}
    # The one option of which None is a value: pixels are not clipped.
    return {**given, "clip": None} if given.get("clip") == "none" else given


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xr-terramind {xtm.__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, Flag("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: xr-terramind demo --size 448")
def demo(
    folder: Annotated[Path, Flag(help="Where the results go.")] = Path("demo"),
    model: Model = None,
    weights: Weights = None,
    size: Annotated[int, Flag(min=64, help="Edge of the scene in pixels of 10 m.")] = 1120,
) -> None:
    """Embed a synthetic scene: shows within a minute that all works, and what comes out."""
    from xr_terramind.cli.demo import draw_overview

    started_s = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    target, picture = folder / "embedding.zarr", folder / "overview.png"
    scene = xtm.sample_scene(size, chunks={"y": 512, "x": 512})
    options = _given(model=model, weights=weights)
    typer.echo(scene.terramind.check())
    typer.echo(scene.terramind.plan(**options))
    try:
        embedding = _lazy_embedding(scene, options, target)
    except xtm.WeightsError as error:
        if weights is not None:
            raise
        _warn_of_random_weights(error)
        embedding = scene.terramind.embed(**options, weights="random")
    _write(embedding, target)
    with open_cube(target) as written:
        draw_overview(scene, written["embedding"], picture)
    typer.echo(f"wrote {picture}: true colour beside the principal components of the embedding")
    typer.echo(f"done in {time.perf_counter() - started_s:.1f} s: success")


def _warn_of_random_weights(error: xtm.WeightsError) -> None:
    text = Text.assemble(
        ("The pretrained weights are not to be had, so the demo goes on with RANDOM weights.\n"
         "What it writes only shows the plumbing: the vectors mean nothing.\n\n", "bold"),
        str(error),
    )  # fmt: skip
    console.print(Panel(text, title="RANDOM WEIGHTS", border_style="bold red", width=100))


@app.command(epilog="Example: xr-terramind check s2.tif")
def check(
    source: Source,
    modality: Modality = None,
    sample: Annotated[int | None, Flag(min=1, help="Windows to read for the values.")] = None,
) -> None:
    """Say what is wrong with a cube and what to do about it; exit code 1 where it is an error."""
    with open_cube(source) as cube:
        report = cube.terramind.check(sample, **_given(modality=modality))
    typer.echo(report)
    raise typer.Exit(0 if report.ok else 1)


@app.command(epilog="Example: xr-terramind plan s2.tif --model terramind_v1_base --overlap 64")
def plan(
    source: Source,
    output: Output = None,
    model: Model = None,
    modality: Modality = None,
    fit: Fit = None,
    window_size: WindowSize = None,
    overlap: Overlap = None,
    calibrate: Annotated[
        bool, Flag("--calibrate", help="Measure for two seconds how long it would take here.")
    ] = False,
) -> None:
    """Say what embed would run: windows, tasks, memory, size of the output. Nothing is computed."""
    options = _given(
        output=output, model=model, modality=modality, fit=fit, window_size=window_size,
        overlap=overlap,
    )  # fmt: skip
    with open_cube(source) as cube:
        typer.echo(cube.terramind.plan(**options, calibrate=calibrate))


@app.command(
    epilog="Examples:\n\n"
    "xr-terramind embed s2.tif embedding.zarr\n\n"
    "xr-terramind embed s2.tif embedding.zarr --resume\n\n"
    "xr-terramind embed s2.tif embedding.zarr --dtype int8\n\n"
    "xr-terramind embed s2.nc embedding.tif --model terramind_v1_base --overlap 64\n\n"
    "xr-terramind embed s2.zarr vector.nc --output pooled --pooling max"
)
def embed(
    source: Source,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .zarr, .nc or .tif.")],
    overwrite: Annotated[bool, Flag("--overwrite", help="Replace OUT where it exists.")] = False,
    resume: Annotated[
        bool, Flag("--resume", help="Go on with a .zarr that was begun: only what is missing.")
    ] = False,
    dtype: Annotated[
        str, Flag(metavar="float32|int8", help="Of a .zarr; int8 has a scale for each vector.")
    ] = "float32",
    output: Output = None,
    model: Model = None,
    modality: Modality = None,
    weights: Weights = None,
    normalize: Annotated[
        str | None, Flag(metavar="zscore|raw|none", help="By the statistics of pretraining.")
    ] = None,
    layer: Annotated[int | None, Flag(help="Encoder block to take; -1 is the last.")] = None,
    pooling: Annotated[str | None, Flag(metavar="mean|max", help="Over valid patches.")] = None,
    fit: Fit = None,
    window_size: WindowSize = None,
    overlap: Overlap = None,
    clip: Annotated[
        Any, Flag(parser=_clip, metavar="LOW,HIGH|auto|none", help="Range of raw values.")
    ] = None,
    min_valid_fraction: Annotated[
        float | None, Flag(help="Patches with less valid area (0 to 1) are NaN.")
    ] = None,
    engine: Annotated[
        str | None, Flag(metavar="auto|torch|openvino|terratorch", help="What runs the encoder.")
    ] = None,
    device: Annotated[
        str | None, Flag(metavar="auto|cpu|cuda|cuda:N|mps", help="A GPU where there is one.")
    ] = None,
    precision: Annotated[
        str | None, Flag(metavar="auto|float32|bfloat16|float16", help="Its number format.")
    ] = None,
    batch_size: Annotated[
        Any, Flag(parser=_batch_size, metavar="auto|N", help="Windows a forward pass.")
    ] = None,
) -> None:
    """Embed a cube block by block and write the embedding."""
    started_s = time.perf_counter()
    options = _given(
        output=output, model=model, modality=modality, weights=weights, normalize=normalize,
        layer=layer, pooling=pooling, fit=fit, window_size=window_size, overlap=overlap, clip=clip,
        min_valid_fraction=min_valid_fraction, engine=engine, device=device, precision=precision,
        batch_size=batch_size,
    )  # fmt: skip
    check_target(target, source, overwrite=overwrite, resume=resume, dtype=dtype)
    with open_cube(source) as cube:
        _write(_lazy_embedding(cube, options, target), target, resume=resume, dtype=dtype)
    typer.echo(f"done in {time.perf_counter() - started_s:.1f} s")


def _lazy_embedding(cube: Any, options: dict[str, Any], target: Path) -> xr.DataArray:
    embedding: xr.DataArray = cube.terramind.embed(**options)
    check_embedding(embedding, target)
    if embedding.attrs["weights"] == "pretrained" and not embedding.attrs["weights_sha256"]:
        # Not on this machine yet. The first block would fetch them too, but an embedding that is
        # made afterwards knows their checksum.
        xtm.download(embedding.attrs["model_key"])
        embedding = cube.terramind.embed(**options)
    return embedding


def _write(
    embedding: xr.DataArray, path: Path, *, resume: bool = False, dtype: str = "float32"
) -> None:
    write_embedding(embedding, path, console, resume=resume, dtype=dtype)
    n_bytes = embedding.nbytes
    if dtype == "int8":
        n_bytes = sum(array.nbytes for array in embedding.terramind.quantize().values())
    shape = " x ".join(f"{dim} {size:,}" for dim, size in embedding.sizes.items())
    typer.echo(f"wrote {path}: {shape}, {format_bytes(n_bytes)}")
    if embedding.attrs["weights"] == "random":
        typer.echo("its weights are random: the vectors mean nothing")


app.command(epilog="Example: xr-terramind info embedding.zarr")(look.info)
app.command(
    epilog="Examples:\n\nxr-terramind rgb embedding.zarr picture.png\n\n"
    "xr-terramind rgb series.zarr june.tif --date 2022-06-15"
)(look.rgb)
app.command(
    epilog="Examples:\n\nxr-terramind similarity embedding.zarr alike.tif --lon 8.1 --lat 55.5\n\n"
    "xr-terramind similarity embedding.zarr alike.png --x 445000 --y 6155000"
)(look.similarity)


@app.command(epilog="Example: xr-terramind models")
def models() -> None:
    """List the encoders, and which of them are on this machine."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")  # fits 80 columns
    table.add_column("model", no_wrap=True)
    table.add_column("features", justify="right")
    table.add_column("weights", justify="right")
    table.add_column("hub", overflow="fold")
    table.add_column("here")
    for row in xtm.list_models().reset_index().to_dict("records"):
        millions = f"{row['parameters'] / 1e6:.1f} M"
        here = "yes" if row["cached"] else "no"
        table.add_row(row["model"], str(row["features"]), millions, row["hub_id"], here)
    Console().print(table)


@app.command(epilog="Example: xr-terramind download terramind_v1_base")
def download(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="See xr-terramind models.")
    ] = None,
) -> None:
    """Fetch pretrained weights from the Hugging Face hub, and print where they lie."""
    typer.echo(xtm.download(model))


def main() -> None:
    """Run the command line."""
    app()
