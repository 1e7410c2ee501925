"""The three prompts of the paper's appendix D, word for word but for the bullets' marks."""

from dataclasses import dataclass

_FOUR = """Task:
You will see four images:
Original image, Reference image, Mask (edited region indicator), Generated image."""

_FORMAT = """Output Format (JSON only)
{{
  "score": 0-100 integer,
  "reasoning": "{reasoning}"
}}"""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One of the three aspects; `key` is the metric that its score becomes."""

    key: str
    text: str


def _prompt(key: str, role: str, task: str, dimensions: str, rubric: str, reasoning: str) -> Prompt:
    parts = (
        role,
        task,
        f"Evaluation Dimensions:\n{dimensions}",
        f"Scoring Rubric (0-100)\n{rubric}",
        _FORMAT.format(reasoning=reasoning),
    )
    return Prompt(key, "\n\n".join(parts))


BOUNDARY = _prompt(
    "vlm_boundary",
    "You are an expert AI Image Boundary Artifact Auditor. Your task is to evaluate the generated "
    "image's boundary quality, especially around masked or edited regions.",
    _FOUR,
    """- Edge Cleanliness
  - Are object boundaries sharp and well-defined?
  - Is there haloing, blur bleeding, glow artifacts, or jagged edges?
  - Are contours naturally integrated or visibly pasted?
- Object Separation & Topology
  - Do objects remain distinct near mask borders?
  - Any fusion between foreground and background?
  - Any "melting" transitions across edges?
- Mask Transition Quality
  - Are transitions between edited and non-edited areas seamless?
  - Is texture continuity preserved across boundaries?
  - Are lighting and color gradients smooth across the seam?""",
    """- 90-100: Seamless integration, no visible edge artifacts.
- 70-89: Minor blending inconsistencies, not perceptually distracting.
- 40-69: Noticeable haloing, edge mismatch, or slight object fusion.
- 0-39: Severe boundary breakage, melting geometry, visible cut-and-paste artifacts.""",
    "brief boundary-focused explanation",
)
REALISM = _prompt(
    "vlm_realism",
    "You are an expert AI Visual Realism Auditor. Your task is to evaluate the perceptual realism "
    "of the generated image in terms of lighting, material behavior, texture fidelity, and global "
    "photographic plausibility.",
    _FOUR,
    """- Lighting Physics
  - Is there a consistent global light direction?
  - Are shadows coherent in angle and softness?
  - Are highlights physically plausible?
- Material Response
  - Does skin exhibit subsurface scattering?
  - Does metal reflect correctly?
  - Does fabric show realistic micro-fold shading?
  - Any plastic-like oversmoothing?
- Texture Fidelity
  - Are high-frequency details preserved?
  - Any AI over-smoothing or noise hallucination?
  - Does surface roughness vary naturally?
- Photographic Consistency
  - Depth of field logic?
  - Motion blur physically plausible?
  - Any over-sharpening or artificial HDR look?""",
    """- 90-100: Photographically indistinguishable from real.
- 70-89: High realism with minor texture/light inconsistencies.
- 40-69: Noticeable synthetic feel, lighting or material errors.
- 0-39: Strong CGI look, chaotic lighting, unrealistic material behavior.""",
    "brief realism-focused explanation",
)
CONSISTENCY = _prompt(
    "vlm_consistency",
    "You are an expert AI Local Consistency Auditor. Your task is to evaluate structural coherence "
    "and local logical consistency within the generated image, especially around edited regions.",
    _FOUR,
    """- Structural Integrity
  - Any broken anatomy (extra fingers, twisted joints)?
  - Any warped geometry?
  - Do objects retain internal structure?
- Perspective & Spatial Alignment
  - Do added objects align with scene geometry?
  - Any floating or clipping artifacts?
- Texture Continuity
  - Does local texture align across boundaries?
  - Any abrupt resolution or style shift?
  - Repeating patterns that break realism?
- Causal Consistency
  - Are shadows locally aligned?
  - Do contact points (foot-ground, object-table) behave physically?
  - Is gravity respected?""",
    """- 90-100: Fully coherent local structure and geometry.
- 70-89: Minor inconsistencies, not structurally damaging.
- 40-69: Noticeable distortions or logical misalignment.
- 0-39: Severe anatomical or geometric failures.""",
    "brief local-consistency explanation",
)
PROMPTS = (BOUNDARY, REALISM, CONSISTENCY)
