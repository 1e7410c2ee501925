"""Regions of boolean pictures in plain numpy: connected ground, dilation, outlines.

The runtime carries no scipy; these are the three operations that it needs of it, each linear in
the number of pixels.
"""

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]

# An outline with its inside is at least this many times the area of its line; what is thicker
# is a scribble, and means itself.
OUTLINE_RATIO = 2.0
# Gaps of an outline that are bridged, as shares of the longer side of its box: the first that
# closes it wins, so that a small gap is not bridged with a broad brush.
GAP_SHARES = (0.02, 0.05, 0.10, 0.20, 0.35)

# Outlines are told from scribbles at this many cells along the longer side of their box.
SEARCH = 1024


def dilate(mask: Bools, radius: int) -> Bools:
    """Every pixel within `radius` rows and columns of the mask (a square brush): [H,W].

    The window of 2 radius + 1 is doubled up from pairs, first down the columns, then the rows.
    """
    length = 2 * radius + 1
    for _ in range(2):
        grown = np.pad(mask, ((radius, radius), (0, 0)))
        span = 1
        while 2 * span <= length:
            grown = grown[:-span] | grown[span:]
            span *= 2
        if rest := length - span:
            grown = grown[:-rest] | grown[rest:]
        mask = np.ascontiguousarray(grown.T)
    return mask


def flood(free: Bools, seeds: Bools) -> Bools:
    """The pixels of `free` that are 4-connected to a pixel of `free & seeds`: [H,W].

    Runs of free pixels along the rows are joined by union-find, so the cost grows with the
    number of runs and not of pixels.
    """
    height, width = free.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = free
    steps = np.diff(padded, axis=1)
    # row-major and half open; every row opens as often as it closes
    rows, starts = np.nonzero(steps == 1)
    stops = np.nonzero(steps == -1)[1]
    parents = list(range(len(rows)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    first = np.searchsorted(rows, np.arange(height + 1)).tolist()
    opens, closes = starts.tolist(), stops.tolist()
    for row in range(height - 1):
        above, below = first[row], first[row + 1]
        above_end, below_end = first[row + 1], first[row + 2]
        while above < above_end and below < below_end:
            if opens[above] < closes[below] and opens[below] < closes[above]:
                parents[root(above)] = root(below)
            if closes[above] < closes[below]:
                above += 1
            else:
                below += 1

    roots = np.array([root(run) for run in range(len(parents))], dtype=np.intp)
    hits = np.concatenate([[0], np.cumsum(free & seeds)])
    seeded = hits[rows * width + stops] > hits[rows * width + starts]
    wanted = np.zeros(len(parents), np.bool_)
    wanted[roots[seeded]] = True
    kept = wanted[roots]
    edges = np.zeros((height, width + 1), np.int8)
    edges[rows[kept], starts[kept]] += 1
    edges[rows[kept], stops[kept]] -= 1
    reached: Bools = np.cumsum(edges, axis=1, dtype=np.int8)[:, :width] > 0
    return reached


def enclosed(mask: Bools) -> Bools:
    """The pixels off the mask that no path off the mask joins to the picture's edge: [H,W]."""
    edge = np.zeros_like(mask)
    edge[[0, -1], :] = True
    edge[:, [0, -1]] = True
    return ~mask & ~flood(~mask, edge)


def fill_outline(mask: Bools) -> Bools:
    """The mask with the inside of what it encloses (SPEC §7: an open outline means its inside).

    1. Holes are filled, so a closed outline becomes its shape.
    2. A thin line that is nearly closed (a gap up to about a third of its size) is closed
       and filled. It counts as an outline if that at least doubles its area; a solid scribble
       stays as it was.
    3. A thin line whose ends meet one edge, or two neighbouring edges, of the picture is closed
       by them. A band from one side to the opposite one is a band.
    """
    if not mask.any():
        return mask
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    touches = (
        rows[0] == 0,
        rows[-1] == mask.shape[0] - 1,
        columns[0] == 0,
        columns[-1] == mask.shape[1] - 1,
    )
    result = mask.copy()
    result[window] = _filled_at_most(SEARCH, mask[window], touches)
    return result


def _filled_at_most(longest: int, line: Bools, touches: tuple[bool, bool, bool, bool]) -> Bools:
    """`_filled`, decided in cells of k by k pixels where the line's box exceeds `longest`.

    A cell is on if any of its pixels is. Cells inside are filled, and so is what lies between
    them and the line, within the line's own cells.
    """
    cell = -(-max(line.shape) // longest)
    if cell == 1:
        return _filled(line, touches)
    height, width = line.shape
    padded = np.pad(line, ((0, -height % cell), (0, -width % cell)))
    blocks = padded.reshape(padded.shape[0] // cell, cell, -1, cell)
    cells: Bools = np.any(blocks, axis=(1, 3))
    filled = _filled(cells, touches)
    ground = np.kron(~filled, np.ones((cell, cell), np.bool_))[:height, :width]
    inside = np.kron(filled & ~cells, np.ones((cell, cell), np.bool_))[:height, :width]
    return line | (dilate(inside, cell) & ~ground)


def _filled(line: Bools, touches: tuple[bool, bool, bool, bool]) -> Bools:
    """`fill_outline` within the tight box of the line; `touches`: top, bottom, left, right."""
    plain = line | enclosed(np.pad(line, 1))[1:-1, 1:-1]
    if _is_outline(line, plain) or line.size < OUTLINE_RATIO * line.sum():
        return plain
    size = max(line.shape)
    for share in GAP_SHARES:
        # two brushes of this radius meet across a gap of `share`
        radius = max(1, round(size * share / 2))
        canvas = np.pad(line, 2 * radius + 1)
        inside = dilate(enclosed(dilate(canvas, radius)), radius)
        inner = slice(2 * radius + 1, -2 * radius - 1)
        closed = line | inside[inner, inner]
        closed |= enclosed(np.pad(closed, 1))[1:-1, 1:-1]
        if _is_outline(line, closed):
            return closed
    return _closed_by_edges(line, plain, touches)


def _closed_by_edges(line: Bools, plain: Bools, touches: tuple[bool, bool, bool, bool]) -> Bools:
    top, bottom, left, right = touches
    sides = {(0, 0): top, (0, -1): bottom, (1, 0): left, (1, -1): right}
    single = [(side,) for side, touched in sides.items() if touched]
    corners = [
        (row, column)
        for row in ((0, 0), (0, -1))
        for column in ((1, 0), (1, -1))
        if sides[row] and sides[column]
    ]
    for edges in [*single, *corners]:
        canvas = np.pad(line, 1)
        for axis, index in edges:
            canvas[(index, slice(None)) if axis == 0 else (slice(None), index)] = True
        closed = line | enclosed(np.pad(canvas, 1))[2:-2, 2:-2]
        if _is_outline(line, closed):
            return closed
    return plain


def _is_outline(line: Bools, filled: Bools) -> bool:
    return int(filled.sum()) >= OUTLINE_RATIO * int(line.sum())
