"""What a manifest says of the kernels that merge a route on a GPU (decision 21)."""

from dataclasses import dataclass

from a2edit.runtime.errors import BundleError

# A weight of 8 bits is merged by one launch, or by two where a row's tiles cannot run at once.
PHASES = ("one_pass", "maxima", "levels", "cast")
_FLOATS = ("float32", "float16", "bfloat16")
_LEVELS = ("int8", "float8_e4m3fn")
_DTYPES = {"base": (*_FLOATS, "int8"), "factors": _FLOATS, "weight": (*_FLOATS, *_LEVELS)}
_LEAST = {"threads": 1, "shared": 0, "rows": 1, "columns": 1, "scratch": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeKernelEntry:
    """One function of a cubin, for one target and one combination of types.

    It is launched with ceil(out / rows) * ceil(in / columns) blocks in one dimension and, in this
    order: base [out, in], base_scales [out], A [N, r, in], B [N, out, r], weights [N], smooth [in],
    levels [out, in], scales [out], workspace (8-byte pointers, multiples of 16), out, in (int32),
    α/r (fp32), `scratch` null pointers. What a kernel does not read is given any such address.
    `workspace` is int32 [1 + ceil(out / rows) + out], all zero; "levels" takes it as "maxima" left
    it, with its first word zeroed.

    Raises:
        BundleError: an unknown phase or type, types that do not go together, or a size below what
            any kernel has.
    """

    file: str
    symbol: str  # the function in it
    phase: str  # of `PHASES`; "cast" for weights of more than 8 bits
    base: str  # dtype of W⁰; int8 comes with a scale a row
    factors: str  # of A and B
    weight: str  # of what is written
    scale: str  # of the scales that are written beside 8 bits; "" for others
    smooth: bool  # whether columns are multiplied by factors
    threads: int  # of a block
    shared: int  # bytes that a launch asks for
    rows: int  # of a block's tile
    columns: int
    scratch: int

    def __post_init__(self) -> None:
        known = {"phase": PHASES, **_DTYPES}
        known["scale"] = ("float32", "bfloat16") if self.weight in _LEVELS else ("",)
        for name, allowed in known.items():
            if (value := getattr(self, name)) not in allowed:
                raise BundleError(
                    f"merge kernel {self.symbol!r} has {name} {value!r}; known are "
                    f"{', '.join(map(repr, allowed))}"
                )
        if (self.phase == "cast") != (self.scale == ""):
            raise BundleError(
                f"merge kernel {self.symbol!r} has phase {self.phase!r} for {self.weight}"
            )
        for name, least in _LEAST.items():
            if (count := getattr(self, name)) < least:
                raise BundleError(
                    f"merge kernel {self.symbol!r} has {name} {count}: must be {least} or more"
                )
