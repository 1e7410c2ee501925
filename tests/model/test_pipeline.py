"""The reference pipeline at tiny size, and its encoding against diffusers' FluxFillPipeline."""

from dataclasses import replace

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxFillPipeline

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import VaeEncoderGraph
from a2edit.model.latents import mask_tokens
from a2edit.model.pipeline import A2EditPipeline
from a2edit.runtime.request import EditRequest


def _request(seed: int = 0, **changes: object) -> EditRequest:
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    mask = np.zeros((70, 90), np.uint8)
    mask[20:45, 30:60] = 255
    reference = np.full((40, 40, 3), 255, np.uint8)
    reference[8:30, 10:32] = (200, 30, 60)
    values = {"image": image, "mask": mask, "reference": reference, "seed": seed, **changes}
    return EditRequest(**values)  # type: ignore[arg-type]


def test_edit_is_repeatable_and_stays_in_the_mask(tiny: Checkpoint) -> None:
    pipeline, request = A2EditPipeline(tiny), _request()
    first, again = pipeline.edit(request), pipeline.edit(request)
    other = pipeline.edit(_request(seed=1))
    before, after = np.asarray(request.image), np.asarray(first.image)
    assert np.array_equal(after, np.asarray(again.image))
    assert not np.array_equal(after, np.asarray(other.image))
    assert np.array_equal(after[:10], before[:10])
    assert not np.array_equal(after[25:40, 35:55], before[25:40, 35:55])
    assert first.gate_weights.shape == (tiny.blocks, 8)


def test_the_prompt_and_the_reference_matter(tiny: Checkpoint) -> None:
    pipeline = A2EditPipeline(tiny)
    plain = np.asarray(pipeline.edit(_request()).image)
    assert not np.array_equal(plain, np.asarray(pipeline.edit(_request(prompt="a red hat")).image))
    blue = np.full((40, 40, 3), 255, np.uint8)
    blue[8:30, 10:32] = (20, 30, 200)
    assert not np.array_equal(plain, np.asarray(pipeline.edit(_request(reference=blue)).image))


def test_conditioning_is_diffusers(tiny: Checkpoint) -> None:
    """Masked image and mask tokens as FluxFillPipeline.prepare_mask_latents makes them."""
    config = replace(tiny.config, layout="redux")
    graph = VaeEncoderGraph(replace(tiny, config=config))
    pixels, mask = graph.example_inputs()
    pipeline = FluxFillPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=tiny.vae,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=tiny.transformer,
    )
    image = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    hole = (mask >= 128).float()[:, None]
    size = config.size
    with torch.no_grad():
        theirs_mask, theirs_image = pipeline.prepare_mask_latents(
            hole, image * (1 - hole), 1, 16, 1, size, size, torch.float32, "cpu", None
        )
        ours = graph(pixels, mask).flatten(1, 2)
    torch.testing.assert_close(ours[..., :64], theirs_image, rtol=1e-5, atol=1e-5)
    assert torch.equal(ours[..., 64:], theirs_mask)
    assert torch.equal(mask_tokens(hole).flatten(1, 2), theirs_mask)


def test_the_pooled_vector_is_read_at_the_end(tiny: Checkpoint) -> None:
    """Whatever the ids before it: a change of the last word changes the vector."""
    pipeline = A2EditPipeline(tiny)
    graph = pipeline.graphs["pooled_encoder"]
    with torch.no_grad():
        cat, dog = (graph(pipeline.tokens("pooled", f"purple {word}")) for word in ("cat", "dog"))
    assert not torch.equal(cat, dog)
    ids = pipeline.tokens("pooled", "purple cat")
    after = ids.clone()
    after[0, -1] = ids.max()  # padding, behind the end
    with torch.no_grad():
        assert torch.equal(graph(ids), graph(after))
