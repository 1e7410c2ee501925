"""Plans for GPUs that are not here: what they compute in, that they repeat, what is refused."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as Type
from onnx import helper

from a2edit.export.compile.layers import read_layer_types
from a2edit.export.compile.plan_layers import plan_layer_types
from a2edit.export.compile.tensorrt import engine_from_onnx, network_layer_types
from a2edit.kernels.reference import dequantise_rows, narrowed, quantise_rows, widened
from a2edit.runtime.engines.base import GraphSpec, TensorSpec, WeightSet
from a2edit.runtime.engines.cuda import capability
from a2edit.runtime.engines.tensorrt import engine_from_blob, message_log, tensorrt_module
from a2edit.runtime.errors import EngineError, TargetError
from a2edit.runtime.targets import TARGETS, target_of

pytest.importorskip("tensorrt_rtx")

ROWS, WIDE, OUT = 64, 128, 96
STEP = 2**-5  # scale of the activations
QUANTISED = {"int8": Type.INT8, "fp8": Type.FLOAT8E4M3FN}
REST = {"fp32": Type.FLOAT, "bf16": Type.BFLOAT16}


def linear_graph(path: Path, kind: str, rest: str = "bf16", scale: str = "product") -> Path:
    """x[1, ROWS, WIDE] fp32 → one linear with its weight, and its scale, as inputs → y fp32.

    `scale` says where the rows' scale stands: behind the "product", or at the "weight".
    """
    wide = REST[rest]
    edges = {"x": (Type.FLOAT, [1, ROWS, WIDE]), "weight": (wide, [OUT, WIDE])}
    constants = [helper.make_tensor("axis", Type.INT64, [1], [0])]
    nodes = [helper.make_node("Cast", ["x"], ["wide"], to=wide)]
    operand, weight, result = "wide", "weight", "product"
    if kind in QUANTISED:
        edges["weight"] = (QUANTISED[kind], [OUT, WIDE])
        edges["scale"] = (wide, [OUT])
        constants += [
            helper.make_tensor("step", wide, [], [STEP]),
            helper.make_tensor("zero", QUANTISED[kind], [], [0]),
            helper.make_tensor("one", wide, [], [1.0]),
        ]
        rows = ["weight", "one"] if scale == "product" else ["weight", "scale"]
        nodes += [
            helper.make_node("QuantizeLinear", ["wide", "step", "zero"], ["levels"]),
            helper.make_node("DequantizeLinear", ["levels", "step", "zero"], ["back"]),
            helper.make_node(
                "DequantizeLinear", rows, ["w"], **({} if scale == "product" else {"axis": 0})
            ),
        ]
        operand, weight = "back", "w"
    nodes += [
        helper.make_node("Unsqueeze", [weight, "axis"], ["stacked"]),
        helper.make_node("Transpose", ["stacked"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", [operand, "turned"], ["product"], name="proj/MatMul"),
    ]
    if kind in QUANTISED and scale == "product":
        nodes.append(helper.make_node("Mul", ["product", "scale"], ["scaled"]))
        result = "scaled"
    nodes.append(helper.make_node("Cast", [result], ["y"], to=Type.FLOAT))
    return save(path, nodes, edges, {"y": (Type.FLOAT, [1, ROWS, OUT])}, constants)


def save(path, nodes, inputs, outputs, constants=()):  # type: ignore[no-untyped-def]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, *edge) for name, edge in inputs.items()],
        [helper.make_tensor_value_info(name, *edge) for name, edge in outputs.items()],
        [tensor for tensor in constants if tensor.name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def build(onnx_file: Path, target: str, backend: str = "tensorrt_rtx") -> Path:
    plan = onnx_file.with_name(f"{onnx_file.stem}.{target}.plan")
    report = engine_from_onnx(onnx_file, plan, TARGETS[target], backend)
    assert report.size == plan.stat().st_size > 0
    assert 0 < report.peak_mb < 2000
    return plan


@pytest.mark.parametrize(
    ("kind", "target", "expected"),
    [
        ("int8", "sm80", "int8 x int8"),
        ("int8", "sm86", "int8 x int8"),
        ("fp8", "sm89", "fp8 x fp8"),
        ("fp8", "sm120", "fp8 x fp8"),
        ("bf16", "sm80", "bf16 x bf16"),
    ],
)
def test_a_plan_is_built_without_a_gpu_and_says_what_it_multiplies(
    kind: str, target: str, expected: str, tmp_path: Path
) -> None:
    plan = build(linear_graph(tmp_path / "proj.onnx", kind), target)
    layers = read_layer_types(plan.with_suffix(".layers.json"))
    assert layers.source == "plan"
    assert layers.linear == {expected: 1}
    assert not list(tmp_path.glob("*.part"))


def test_scales_before_the_product_make_it_a_bf16_one(tmp_path: Path) -> None:
    """Asked for int8, compiled to bf16: what counting the network would not have shown."""
    graph = linear_graph(tmp_path / "proj.onnx", "int8", scale="weight")
    layers = read_layer_types(build(graph, "sm80").with_suffix(".layers.json"))
    assert layers.linear == {"bf16 x bf16": 1}


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    graph = linear_graph(tmp_path / "proj.onnx", "int8")
    hashes = set()
    for _ in range(2):
        plan = build(graph, "sm80")
        layers = plan.with_suffix(".layers.json").read_bytes()
        hashes.add(hashlib.sha256(plan.read_bytes() + layers).hexdigest())
    assert len(hashes) == 1
    assert build(graph, "sm86").read_bytes() != plan.read_bytes()


def test_sizes_may_be_left_open_within_profiles(tmp_path: Path) -> None:
    graph = save(
        tmp_path / "open.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": (Type.FLOAT, ["batch", "tokens", WIDE]), "w": (Type.FLOAT, [1, WIDE, OUT])},
        {"y": (Type.FLOAT, ["batch", "tokens", OUT])},
    )
    plan = tmp_path / "open.plan"
    profiles = [
        {"x": ((1, 16, WIDE), (1, ROWS, WIDE), (2, ROWS, WIDE))},
        {"x": ((1, ROWS, WIDE), (4, 128, WIDE), (4, 256, WIDE))},
    ]
    one, two = (
        engine_from_onnx(graph, plan, TARGETS["sm80"], "tensorrt_rtx", profiles[:count]).size
        for count in (1, 2)
    )
    assert two > one
    assert read_layer_types(plan.with_suffix(".layers.json")).linear.keys() == {"fp32 x fp32"}
    with pytest.raises(EngineError, match=r"graph open: tensorrt_rtx cannot build it for sm80: .*"):
        build(graph, "sm80")
    wrong = [{"x": ((2, 16, WIDE), (1, 16, WIDE), (2, 16, WIDE))}]
    with pytest.raises(EngineError, match=r"graph open: .* input tensors x, .* MIN<=OPT<=MAX"):
        engine_from_onnx(graph, plan, TARGETS["sm80"], "tensorrt_rtx", wrong)


def test_convolutions_and_attention_are_counted_too(tmp_path: Path) -> None:
    heads = [1, 4, 64, 32]
    attention = save(
        tmp_path / "attention.onnx",
        [
            *(helper.make_node("Cast", [name], [f"{name}_"], to=Type.BFLOAT16) for name in "qkv"),
            helper.make_node("Transpose", ["k_"], ["kt"], perm=[0, 1, 3, 2]),
            helper.make_node("MatMul", ["q_", "kt"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
            helper.make_node("MatMul", ["shares", "v_"], ["mixed"]),
            helper.make_node("Cast", ["mixed"], ["y"], to=Type.FLOAT),
        ],
        dict.fromkeys("qkv", (Type.FLOAT, heads)),
        {"y": (Type.FLOAT, heads)},
    )
    layers = read_layer_types(build(attention, "sm80").with_suffix(".layers.json"))
    assert layers.attention == {"bf16 x bf16": 1}
    convolution = save(
        tmp_path / "convolution.onnx",
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        {"x": (Type.FLOAT, [1, 8, 32, 32]), "w": (Type.FLOAT, [8, 8, 3, 3])},
        {"y": (Type.FLOAT, [1, 8, 32, 32])},
    )
    layers = read_layer_types(build(convolution, "sm80").with_suffix(".layers.json"))
    assert layers.convolution == {"fp32 x fp32": 1}


def test_weights_outside_the_graph_are_read_from_their_file(tmp_path: Path) -> None:
    """A constant in shared.safetensors by offset: it is in the plan, so its bytes change it."""
    weight = Type()
    weight.name, weight.data_type, weight.data_location = "w", Type.FLOAT, Type.EXTERNAL
    weight.dims.extend([WIDE, OUT])
    place = {"location": "shared.bin", "offset": "4096", "length": str(WIDE * OUT * 4)}
    for key, value in place.items():
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "outside",
        [helper.make_tensor_value_info("x", Type.FLOAT, [ROWS, WIDE])],
        [helper.make_tensor_value_info("y", Type.FLOAT, [ROWS, OUT])],
        [weight],
    )
    path = tmp_path / "outside.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)
    plans = []
    for byte in (b"\x3e", b"\x3f"):
        (tmp_path / "shared.bin").write_bytes(bytes(4096) + byte * WIDE * OUT * 4)
        plans.append(build(path, "sm80").read_bytes())
    assert len(plans[0]) == len(plans[1])
    assert plans[0] != plans[1]
    (tmp_path / "shared.bin").unlink()
    with pytest.raises(
        EngineError, match=r"graph outside: tensorrt_rtx cannot read it: .*initializer: w"
    ):
        build(path, "sm80")


def test_a_target_without_the_type_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    fp8 = linear_graph(tmp_path / "proj.onnx", "fp8")
    with pytest.raises(TargetError, match=r"graph proj: sm80 \(A100\) has no fp8 arithmetic.*sm89"):
        build(fp8, "sm80")
    bf16 = linear_graph(tmp_path / "proj.onnx", "bf16")
    for target, others in {"sm75": "tensorrt", "sm90": "tensorrt or inductor"}.items():
        wanted = rf"tensorrt_rtx cannot build for {target} .*--backend {others} on a machine"
        with pytest.raises(TargetError, match=wanted):
            build(bf16, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["proj.onnx"]


def test_tensorrt_builds_for_the_gpu_at_hand_alone(tmp_path: Path) -> None:
    """Without the package, or without a GPU, there is no building for one."""
    graph = linear_graph(tmp_path / "proj.onnx", "bf16")
    with pytest.raises(TargetError, match=r"'tensorrt' is not installed|needs an NVIDIA GPU"):
        build(graph, "sm90", backend="tensorrt")


def test_what_tensorrt_cannot_read_or_build_is_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nonsense")
    with pytest.raises(EngineError, match=r"graph broken: .* cannot read it: .*Failed to parse"):
        build(broken, "sm80")
    # uint8 is for the edge of a graph alone
    turned = save(
        tmp_path / "turned.onnx",
        [
            helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0], name="the_node"),
            helper.make_node("Cast", ["turned"], ["y"], to=Type.FLOAT),
        ],
        {"x": (Type.UINT8, [4, 8])},
        {"y": (Type.FLOAT, [8, 4])},
    )
    with pytest.raises(EngineError) as refusal:
        build(turned, "sm80")
    assert "graph turned: tensorrt_rtx cannot read it: node 'the_node'" in str(refusal)
    assert "\n" not in str(refusal.value)


def test_where_a_plan_says_nothing_the_network_is_counted_and_called_so(tmp_path: Path) -> None:
    trt = tensorrt_module("tensorrt_rtx")
    messages = message_log(trt)
    network = trt.Builder(messages).create_network(
        1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    )
    parser = trt.OnnxParser(network, messages)
    graph = linear_graph(tmp_path / "proj.onnx", "int8", scale="weight")
    assert parser.parse_from_file(str(graph))
    # what was asked for: the plan of this graph multiplies bf16
    counts = network_layer_types(network)
    assert (counts.source, counts.linear) == ("network", {"int8 x int8": 1})
    plan = tmp_path / "other.plan"
    plan.write_bytes(b"a plan of a version that tells nothing")
    assert plan_layer_types(plan) is None


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["bf16", "int8", "fp8"])
def test_on_a_gpu_a_plan_computes_what_numpy_does(kind: str, tmp_path: Path) -> None:
    target = target_of(capability())
    if "tensorrt_rtx" not in target.backends or kind not in target.precisions:
        pytest.skip(f"{target.name} has no {kind} of tensorrt_rtx")
    dtype = {"bf16": "bfloat16", "int8": "int8", "fp8": "float8_e4m3fn"}[kind]
    spec = GraphSpec(
        "proj",
        (TensorSpec("x", "float32", (1, ROWS, WIDE)),),
        (TensorSpec("y", "float32", (1, ROWS, OUT)),),
        (
            TensorSpec("weight", dtype, (OUT, WIDE)),
            *([TensorSpec("scale", "bfloat16", (OUT,))] if kind in QUANTISED else []),
        ),
    )
    plan = build(linear_graph(tmp_path / "proj.onnx", kind), target.name)
    rng = np.random.default_rng(0)
    x = widened(narrowed(rng.standard_normal((1, ROWS, WIDE)).astype(np.float32), "bfloat16"))
    read = x if kind == "bf16" else widened(narrowed(rounded(x / STEP, kind), dtype)) * STEP
    sets, expected = [], []
    for place in range(2):
        weight = rng.standard_normal((OUT, WIDE)).astype(np.float32)
        if kind == "bf16":
            tensors = {"weight": narrowed(weight, dtype)}
            expected.append(read @ widened(tensors["weight"]).T)
        else:
            levels, scales = quantise_rows(weight, None, dtype, "bfloat16")
            tensors = {"weight": levels, "scale": scales}
            expected.append(read @ dequantise_rows(levels, scales).T)
        sets.append(WeightSet(str(place), tensors))
    with engine_from_blob(spec, plan, kind, "tensorrt_rtx") as engine:
        for place in (0, 1, 0):
            engine.bind(sets[place])
            results = [engine.run({"x": x})["y"] for _ in range(3)]
            # the second and third are replays
            np.testing.assert_array_equal(results[0], results[2])
            error = np.linalg.norm(results[0] - expected[place])
            # the result is rounded to bf16 twice
            assert error < 5e-3 * np.linalg.norm(expected[place])


def rounded(levels: np.ndarray, kind: str) -> np.ndarray:
    """As QuantizeLinear does; to fp8 `narrowed` rounds."""
    return np.clip(np.rint(levels), -128, 127) if kind == "int8" else levels
