"""The laws of windows: integers, on any extent, window and overlap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xr_terramind.blocks.plan import MAX_BLOCK_BYTES, Plan, plan_resize, plan_windows
from xr_terramind.blocks.windows import Axis
from xr_terramind.errors import GridError

PATCH = 16


@st.composite
def axes(draw, max_size: int = 3000) -> Axis:
    window = PATCH * draw(st.integers(1, 20))
    overlap = 32 * draw(st.integers(0, (window - 1) // 32))
    return Axis(draw(st.integers(1, max_size)), window, window - overlap)


@st.composite
def plans(draw, per_window=None) -> Plan:
    axis = draw(axes(1200))
    return plan_windows(
        (draw(st.integers(1, 6)), axis.size_px, draw(st.integers(1, 1200))),
        window_px=axis.window_px,
        overlap_px=axis.window_px - axis.stride_px,
        pixel_bytes=draw(st.sampled_from([24, 48, 2**16])),
        times_per_chunk=draw(st.integers(1, 6)),
        per_window=draw(st.booleans()) if per_window is None else per_window,
        in_memory=draw(st.booleans()),
    )


@given(axes())
def test_starts_are_multiples_of_a_patch_and_windows_stay_in_the_padded_extent(axis):
    starts = [axis.start(window) for window in range(axis.n_windows)]
    assert starts[0] == 0
    assert all(start % PATCH == 0 for start in starts)
    assert starts == sorted(set(starts))
    assert starts[-1] + axis.window_px == axis.padded_px


@given(axes())
def test_padding_is_less_than_a_patch_unless_the_extent_is_smaller_than_a_window(axis):
    if axis.size_px >= axis.window_px:
        assert axis.padded_px - axis.size_px < PATCH
    else:
        assert axis.padded_px == axis.window_px and axis.n_windows == 1


@given(axes(1500))
def test_each_patch_is_owned_once_by_the_window_in_which_it_lies_deepest(axis):
    owners = [w for w in range(axis.n_windows) for _ in range(*axis.owned(w))]
    starts = np.array([axis.start(window) for window in range(axis.n_windows)])
    first_px = PATCH * np.arange(axis.n_patches)[:, None]
    depth = np.minimum(first_px - starts, starts + axis.window_px - first_px - PATCH)
    assert owners == depth.argmax(axis=1).tolist()  # argmax takes the earlier of equals


@given(plans())
def test_blocks_fill_every_cell_once_from_pixels_that_exist(plan):
    for axis, blocks in ((plan.rows, plan.row_blocks), (plan.cols, plan.col_blocks)):
        filled = []
        for block in blocks:
            assert 0 <= block.read_start < block.read_stop <= axis.size_px
            assert block.read_start % PATCH == 0
            for span in block.spans:
                assert span.start_px >= 0 and span.start_px % PATCH == 0
                assert 0 <= span.patch_start < span.patch_stop <= axis.window_px // PATCH
                filled += range(block.out_start + span.out_start, block.out_start + span.out_stop)
        assert filled == list(range(blocks[-1].out_stop))


@given(plans(per_window=False))
def test_a_patch_is_read_from_its_own_pixels(plan):
    for block in plan.row_blocks:
        for span in block.spans:
            assert span.out_stop - span.out_start == span.patch_stop - span.patch_start
            source_px = block.read_start + span.start_px + PATCH * span.patch_start
            assert source_px == PATCH * (block.out_start + span.out_start)


@given(plans(per_window=True))
def test_a_window_pools_all_its_patches_that_touch_the_extent(plan):
    spans = [span for block in plan.row_blocks for span in block.spans]
    assert len(spans) == plan.rows.n_windows == plan.out_shape[1]
    for window, span in enumerate(spans):
        touching = plan.rows.n_patches - plan.rows.start(window) // PATCH
        assert span.patch_start == 0
        assert span.patch_stop == min(plan.rows.window_px // PATCH, touching)


@given(plans())
def test_chunks_of_the_result_suit_zarr_and_cover_it(plan):
    for sizes, total in zip(plan.chunk_sizes, plan.out_shape, strict=True):
        assert sum(sizes) == total
        assert len(set(sizes[:-1])) <= 1 and sizes[-1] <= sizes[0]
    assert [sum(sizes) for sizes in plan.block_sizes] == list(plan.out_shape)


@given(
    st.integers(1, 60),
    st.integers(224, 30_000),
    st.sampled_from([24, 48]),
    st.integers(0, 6),
    st.integers(1, 60),
)
def test_a_block_stays_within_its_bytes(n_times, size_px, pixel_bytes, overlaps, per_chunk):
    plan = plan_windows(
        (n_times, size_px, size_px),
        window_px=224,
        overlap_px=32 * overlaps,
        pixel_bytes=pixel_bytes,
        times_per_chunk=per_chunk,
    )
    edge_px = max(block.read_stop - block.read_start for block in plan.row_blocks)
    assert plan.times_per_block * edge_px**2 * pixel_bytes <= MAX_BLOCK_BYTES


@pytest.mark.parametrize(("overlap", "windows"), [(0, 1_000_000), (64, 1_960_000)])
def test_a_million_windows_make_ten_thousand_blocks(overlap, windows):
    plan = plan_windows((1, 224_000, 224_000), window_px=224, overlap_px=overlap, pixel_bytes=48)
    assert plan.n_windows == windows
    assert plan.n_blocks <= 10_000


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 20))
def test_resizing_reads_the_whole_extent_in_one_window(n_times, height, width, side):
    plan = plan_resize((n_times, height, width), window_px=PATCH * side)
    assert plan.out_shape == (n_times, side, side)
    assert plan.n_windows == n_times
    assert plan.row_blocks[0][:2] == (0, height) and plan.col_blocks[0][:2] == (0, width)


@pytest.mark.parametrize(
    ("window", "overlap"),
    [(0, 0), (100, 0), (-224, 0), (224, 16), (224, 224), (224, -32), (32, 32)],
)
def test_windows_that_would_cut_patches_are_refused(window, overlap):
    with pytest.raises(GridError, match=r"found .*; expected .*\. \S"):
        plan_windows((1, 500, 500), window_px=window, overlap_px=overlap, pixel_bytes=24)
