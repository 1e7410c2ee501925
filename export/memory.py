"""What memory a build's own process takes, counted from shapes: its weights stay in their files.

Factors are what was measured (`a2edit-bench fullsize --only calibration,activations`), rounded up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from a2edit.model.checkpoint import Checkpoint

# fp32 copies of the largest matrix at a time: merged, divided, rounded, and back. Of a linear that
# is merged for a route.
_MATRICES, _MERGED = 5, 3
# fp32 values at a time: of a token and channel in the denoiser's blocks, of one that is counted, of
# a pixel and channel in an autoencoder.
_IN_BLOCKS, _COUNTED, _IN_AUTOENCODER = 30, 3, 4.5


def denoiser_bytes(outline: Checkpoint) -> int:
    """A forward of the denoiser in fp32, batch 1: a layer's weights, and what flows through it."""
    from a2edit.model.widening import widest_bytes

    largest = max(outline.linears, key=lambda it: it.in_features * it.out_features)
    ranks = outline.config.num_experts * outline.config.rank
    experts = 2 * ranks * (largest.in_features + largest.out_features)
    matrices = _MATRICES * largest.in_features * largest.out_features
    layer = max(4 * matrices, widest_bytes(outline.transformer)) + 4 * experts
    return layer + 4 * _IN_BLOCKS * _tokens(outline) * int(outline.transformer.inner_dim)


def encoder_bytes(outline: Checkpoint) -> int:
    """The largest of the other graphs: the autoencoder's activations, or a layer of an encoder."""
    from a2edit.model.widening import widest_bytes

    height, width = outline.config.canvas
    config = outline.vae.config
    # AutoencoderKL's second level reaches full resolution; the patch autoencoder has pixels there.
    channels = int(config.block_out_channels[1]) if hasattr(config, "up_block_types") else 3
    layer = max(widest_bytes(module) for module in outline.modules().values())
    return layer + int(4 * _IN_AUTOENCODER * channels * height * width)


def counting_bytes(outline: Checkpoint, samples: int) -> int:
    """Sums that calibration keeps: second moments of inputs, of each category; their histograms."""
    from a2edit.calibration.ranges import InputSpread, shared_inputs
    from a2edit.calibration.tracing import BINS
    from a2edit.export.steps.calibrate import TRACED_AT_ONCE

    linears = outline.linears
    categories = min(samples, TRACED_AT_ONCE)
    moments = (8 + 4) * BINS * categories * sum(linear.in_features for linear in linears)
    channel = InputSpread.empty(1)
    read = sum(readers[0].in_features for readers in shared_inputs(linears))
    # Those of the calibration set, and those of the route that is being run.
    spreads = 2 * read * (channel.peaks.nbytes + channel.counts.nbytes)
    counted = 4 * _COUNTED * _tokens(outline) * max(linear.in_features for linear in linears)
    return max(moments, spreads + counted)


def skipping_bytes(outline: Checkpoint) -> int:
    """What is kept of earlier steps while a step cache is calibrated."""
    from a2edit.calibration.step_cache import WINDOW

    return 4 * 2 * WINDOW * outline.config.image_tokens * int(outline.transformer.inner_dim)


def comparing_bytes(outline: Checkpoint) -> int:
    """Inputs and outputs of linears while layers are compared, of an engine and of torch."""
    from a2edit.export.layer_errors import AT_ONCE

    each = sum(linear.in_features + linear.out_features for linear in outline.linears)
    return 2 * min(AT_ONCE, 4 * _tokens(outline) * each)


def merging_bytes(outline: Checkpoint) -> int:
    """A route that is merged, quantised and written, a few linears at a time.

    A base that is stored in 8 bits takes less: it is quantised one linear at a time.
    """
    from a2edit.runtime.merge import default_threads

    largest = max(linear.in_features * linear.out_features for linear in outline.linears)
    return 4 * _MERGED * (default_threads() + 1) * largest


def _tokens(outline: Checkpoint) -> int:
    """All that the denoiser attends to."""
    vision, config = outline.image_encoder.config, outline.config
    patches = int(vision.image_size) // int(vision.patch_size)
    return config.image_tokens + config.text_length + patches**2
