"""The networks' metrics are the public implementations', on small and on random weights."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from a2edit.bench.quality.baselines import mean_colour, pasted
from a2edit.bench.quality.crops import object_square, reference_square
from a2edit.bench.quality.drawn import drawn_subjects
from a2edit.bench.quality.perceptual.embed import Embedder, likeness
from a2edit.bench.quality.perceptual.fid import Sets, frechet_distance
from a2edit.bench.quality.perceptual.inception import Inception, tensorflow_resize
from a2edit.bench.quality.perceptual.lpips import Lpips, distance, heads_file
from a2edit.bench.quality.perceptual.scorer import Perceptual
from a2edit.bench.quality.perceptual.sources import Sources
from a2edit.bench.quality.sides import Painted
from a2edit.bench.quality.subject import Subject, Task, task
from a2edit.export.pixels import Pixels
from a2edit.runtime.errors import RequestError

pytest.importorskip("torchmetrics", reason="extra 'quality' is not installed")


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    return drawn_subjects(1)[:2]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=16,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    side = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("dino")
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(folder)
    side = {"height": 28, "width": 28}
    BitImageProcessor(size={"shortest_edge": 28}, crop_size=side).save_pretrained(folder)
    return folder


def noise(seed: int, height: int = 40, width: int = 56) -> Pixels:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return pixels.astype(np.uint8)


def test_clip_is_the_projected_embedding(clip: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    pictures = [Image.fromarray(noise(seed)) for seed in (0, 1)]
    ours = Embedder("clip", str(clip))(pictures)
    network = CLIPVisionModelWithProjection.from_pretrained(clip).eval()
    pixels = CLIPImageProcessor.from_pretrained(clip)(images=pictures, return_tensors="pt")
    with torch.inference_mode():
        theirs = network(**pixels).image_embeds
    expected = 100 * torch.cosine_similarity(theirs[0], theirs[1], dim=0)
    assert likeness(ours[0], ours[1]) == pytest.approx(float(expected), abs=1e-4)
    assert likeness(ours[0], ours[0]) == pytest.approx(100, abs=1e-4)


def test_a_whole_clip_checkpoint_will_do_as_well(tmp_path: Path, clip: Path) -> None:
    """The hub's CLIPs hold a text half, too: its image half is taken."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPTextConfig,
        CLIPVisionConfig,
    )

    torch.manual_seed(2)
    text = CLIPTextConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4, max_position_embeddings=16, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        image_size=32, patch_size=8, projection_dim=16,
    )  # fmt: skip
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16
    )
    whole = CLIPModel(config).eval()
    whole.save_pretrained(tmp_path)
    processor = CLIPImageProcessor.from_pretrained(clip)
    processor.save_pretrained(tmp_path)
    picture = Image.fromarray(noise(3))
    with torch.inference_mode():
        pixels = processor(images=[picture], return_tensors="pt")["pixel_values"]
        theirs = whole.visual_projection(whole.vision_model(pixels).pooler_output)
    ours = Embedder("clip", str(tmp_path))([picture])
    torch.testing.assert_close(ours, theirs / theirs.norm(dim=-1, keepdim=True))


def test_weights_that_do_not_fit_are_refused(clip: Path, tmp_path: Path) -> None:
    """transformers would take random ones in their place."""
    for path in clip.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = tmp_path / "config.json"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('"projection_dim": 16', '"projection_dim": 24'), "utf-8")
    with pytest.raises(RequestError, match=r"visual_projection\.weight is missing or of another"):
        Embedder("clip", str(tmp_path))


def test_dino_is_the_class_token(dino: Path) -> None:
    from transformers import BitImageProcessor, Dinov2Model

    pictures = [Image.fromarray(noise(seed)) for seed in (0, 1)]
    network = Dinov2Model.from_pretrained(dino).eval()
    pixels = BitImageProcessor.from_pretrained(dino)(images=pictures, return_tensors="pt")
    with torch.inference_mode():
        theirs = network(**pixels).pooler_output  # DINOv2's: the class token after the norm
    ours = Embedder("dino", str(dino))(pictures)
    torch.testing.assert_close(ours, theirs / theirs.norm(dim=-1, keepdim=True))


def test_a_place_without_weights_is_refused(tmp_path: Path) -> None:
    for kind in ("clip", "dino"):
        with pytest.raises(RequestError, match=f"--{kind} .*preprocessor_config.json"):
            Embedder(kind, str(tmp_path))


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like torchvision's, with random weights."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
    features = Lpips().features.state_dict()
    weights = {f"features.{name}": value for name, value in features.items()}
    torch.save({**weights, "classifier.1.weight": torch.zeros(2)}, path)
    return path


def test_lpips_is_torchmetrics(alexnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their network with their heads and our backbone's weights: the same distance."""
    theirs_module: Any = importlib.import_module("torchmetrics.functional.image.lpips")
    ours = Lpips.load(alexnet)

    def features(net: str, pretrained: bool = False) -> nn.Module:
        assert (net, pretrained) == ("alexnet", False)
        return ours.features

    monkeypatch.setattr(theirs_module, "_get_tv_model_features", features)
    theirs = theirs_module._LPIPS(pretrained=True, net="alex", pnet_rand=True).eval()
    torch.manual_seed(4)
    first, second = (torch.rand(2, 3, 80, 96) * 2 - 1 for _ in range(2))
    with torch.inference_mode():
        expected = theirs(first, second).flatten()
        torch.testing.assert_close(ours(first, second), expected)
        assert (ours(first, first) == 0).all()
    assert (expected > 0).all()


def test_lpips_of_pictures_falls_with_likeness(alexnet: Path) -> None:
    network = Lpips.load(alexnet)
    picture = noise(5, 70, 90)
    near = np.clip(picture.astype(int) + 6, 0, 255).astype(np.uint8)
    assert distance(network, picture, picture) == 0
    assert 0 < distance(network, picture, near) < distance(network, picture, noise(6, 70, 90))
    assert distance(network, picture[:20, :30], near[:20, :30]) > 0  # as small as an object may be


def test_what_is_no_alexnet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(RequestError, match=r"no features\.0\.bias"):
        Lpips.load(path)
    with pytest.raises(RequestError, match="is not FID's Inception: it has no Conv2d_1a_3x3"):
        Inception.load(path)
    torch.save([1, 2], path)
    with pytest.raises(RequestError, match="state dict"):
        Lpips.load(path)
    path.write_text("not weights", encoding="utf-8")
    with pytest.raises(RequestError, match="cannot be read"):
        Lpips.load(path)
    with pytest.raises(RequestError, match="no such file"):
        Lpips.load(tmp_path / "nowhere.pth")
    assert heads_file().is_file()


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like FID's, with random weights that keep the signal alive through 94 layers."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    network = Inception()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.9, 1.1)
            nn.init.normal_(module.bias, 0, 0.1)
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    weights = network.state_dict()
    weights |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(weights, path)
    return path


@pytest.fixture
def torch_fidelity() -> Iterator[ModuleType]:
    """torch-fidelity's Inception alone: the package as a whole asks for torchvision.

    `make setup` puts it where nothing else finds it: torchmetrics would import it.
    """
    folder = Path(sys.prefix) / "aside/torch_fidelity"
    if not folder.is_dir():
        pytest.skip("torch-fidelity is not there: make setup")
    before = set(sys.modules)
    bare = ModuleType("torch_fidelity")
    bare.__path__ = [str(folder)]
    sys.modules["torch_fidelity"] = bare
    yield importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "torch_fidelity":
            del sys.modules[name]


def test_inception_is_torch_fidelitys(inception: Path, torch_fidelity: Any) -> None:
    theirs = torch_fidelity.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(inception)
    )
    ours = Inception.load(inception)
    pictures = torch.from_numpy(noise(7, 90, 130)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected: Tensor = theirs(pictures)[0]
        found = ours(pictures)
    assert found.shape == (1, 2048)
    # the input differs by a rounding of the resize, and 94 layers pass it on
    assert float((found - expected).norm() / expected.norm()) < 1e-4


def test_pictures_are_resized_as_tensorflow_did() -> None:
    """Output pixel i is at input place i·H/299, not at pixels' middles."""
    ramp = torch.arange(64.0)[None, None, :, None].expand(1, 3, 64, 50)
    resized = tensorflow_resize(ramp)[0, 0, :, 0]
    expected = (torch.arange(299) * 64 / 299).clamp(max=63)
    torch.testing.assert_close(resized, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("first", "second", "size"), [(40, 30, 8), (6, 5, 24), (2, 9, 16)])
def test_the_frechet_distance_is_the_formulas_and_torchmetrics(
    first: int, second: int, size: int
) -> None:
    """Against scipy's matrix root where sets are large enough for one, and torchmetrics' always."""
    from scipy.linalg import sqrtm
    from torchmetrics.image.fid import _compute_fid

    rng = np.random.default_rng(first)
    mix = rng.normal(size=(size, size))
    one = rng.normal(size=(first, size)) @ mix
    two = rng.normal(size=(second, size)) @ mix + 0.3
    means = [features.mean(axis=0) for features in (one, two)]
    spreads = [np.cov(features, rowvar=False) for features in (one, two)]
    found = frechet_distance(one, two)
    theirs = _compute_fid(
        torch.from_numpy(means[0]),
        torch.from_numpy(spreads[0]),
        torch.from_numpy(means[1]),
        torch.from_numpy(spreads[1]),
    )
    assert found == pytest.approx(float(theirs), rel=1e-5)
    if min(first, second) > size:
        root = sqrtm(spreads[0] @ spreads[1]).real
        expected = ((means[0] - means[1]) ** 2).sum() + np.trace(spreads[0] + spreads[1] - 2 * root)
        assert found == pytest.approx(float(expected), rel=1e-8)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_sets_of_one_picture_have_no_distance() -> None:
    sets, rng = Sets(), np.random.default_rng(0)
    sets.add(("a",), rng.normal(size=8), rng.normal(size=8))
    assert sets.distances() == {}
    sets.add(("a",), rng.normal(size=8), rng.normal(size=8))
    assert sets.distances()["a",] > 0
    with pytest.raises(ValueError, match="no spread"):
        frechet_distance(rng.normal(size=(1, 8)), rng.normal(size=(4, 8)))


def test_networks_see_the_objects_square(subjects: list[Subject]) -> None:
    subject = subjects[0]
    picture = np.asarray(subject.truth)
    square = object_square(picture, subject.shape)
    assert square.width == square.height
    shape = np.zeros((50, 60), np.uint8)
    shape[0:30, 5:15] = 255  # a square around it reaches above and left of the picture
    edge = object_square(noise(8, 50, 60), shape)
    assert edge.size == (36, 36)
    reference = np.asarray(reference_square(subject))
    assert reference.shape[0] == reference.shape[1]
    assert (reference[0] == 255).all()
    assert (reference != 255).any()


def test_a_scorer_takes_what_it_is_given(
    subjects: list[Subject], clip: Path, dino: Path, alexnet: Path
) -> None:
    sources = Sources(clip=str(clip), dino=str(dino), lpips=alexnet)
    assert sources.missing() == ["FID"]
    assert Sources().missing() == ["CLIP-I", "DINO-I", "LPIPS", "FID"]
    scorer = Perceptual(sources)
    fine = task(subjects[0], "fine")
    paste, flat = scorer("pasting", pasted(fine)), scorer("mean colour", mean_colour(fine))
    assert set(paste) == {"clip_i", "dino_i", "lpips", "lpips_object"}
    assert paste["lpips_object"] < flat["lpips_object"]
    assert paste["lpips"] < paste["lpips_object"]  # most of the picture is as it was
    assert scorer.sets() == {}


@pytest.mark.slow
def test_fid_is_of_sets(
    subjects: list[Subject], inception: Path, truth: Callable[[Task], Painted]
) -> None:
    scorer = Perceptual(Sources(fid=inception))
    for subject in subjects:
        for side, paint in (("model", truth), ("mean colour", mean_colour)):
            assert scorer(side, paint(task(subject, "fine"))) == {}
    found = scorer.sets()
    assert set(found) == {("model", "drawn", "fine"), ("mean colour", "drawn", "fine")}
    assert found["model", "drawn", "fine"]["fid"] < found["mean colour", "drawn", "fine"]["fid"]
