"""The metrics by name: what a table's column is called, which way is better, how it is written."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """A column; `title` is short, `meaning` is what a reader is told once."""

    key: str
    title: str
    unit: str
    digits: int
    better: int  # +1: higher, -1: lower, 0: neither
    meaning: str

    def text(self, value: float | None) -> str:
        return "–" if value is None else f"{value:.{self.digits}f}"


METRICS: dict[str, Metric] = {
    metric.key: metric
    for metric in (
        Metric("closer", "own closer", "%", 1, 1,
               "share of the other references that the object's colours are further from than from"
               " their own reference's"),
        Metric("psnr_mask", "PSNR mask", "dB", 2, 1, "against the truth, inside of the mask"),
        Metric("psnr_object", "PSNR object", "dB", 2, 1,
               "against the truth, where the object is: the same pixels for every kind of mask"),
        Metric("ssim_mask", "SSIM mask", "", 3, 1, "structural similarity inside of the mask"),
        Metric("l1_mask", "L1 mask", "", 1, -1, "mean absolute difference, grey levels of 255"),
        Metric("edges", "edge F1", "", 3, 1,
               "Canny edges of the edit against the truth's inside of the mask, 2 pixels of slack"),
        Metric("psnr_band", "PSNR band", "dB", 2, 1,
               "composed, in the 16 pixels around the mask, of which 6 are the seam"),
        Metric("ssim_band", "SSIM band", "", 3, 1, "composed, in that band"),
        Metric("raw_psnr_band", "PSNR band, raw", "dB", 2, 1,
               "what the model painted in the band, before it was pasted back"),
        Metric("raw_ssim_band", "SSIM band, raw", "", 3, 1, "the same by structure"),
        Metric("raw_psnr_outside", "PSNR outside, raw", "dB", 2, 1,
               "what the model painted beyond the band, in its window"),
        Metric("raw_l1_outside", "L1 outside, raw", "", 1, -1, "the same in grey levels"),
        Metric("kept", "kept outside", "%", 2, 1,
               "share of the pixels beyond the seam that are the scene's, byte for byte: composing"
               " makes them so"),
        Metric("clip_i", "CLIP-I", "", 2, 1, "cosine of CLIP's image embeddings, × 100"),
        Metric("dino_i", "DINO-I", "", 2, 1, "cosine of DINO's image embeddings, × 100"),
        Metric("lpips", "LPIPS", "", 4, -1, "AlexNet, whole picture against the truth"),
        Metric("lpips_object", "LPIPS object", "", 4, -1, "AlexNet, the object's square crop"),
        Metric("fid", "FID", "", 2, -1, "Inception, whole pictures; of few pictures: compare only"
               " runs over the same cases"),
        Metric("vlm", "VLM", "", 1, 1, "mean of the three scores, 0 to 100"),
        Metric("vlm_boundary", "VLM boundary", "", 1, 1, "seams and haloes"),
        Metric("vlm_realism", "VLM realism", "", 1, 1, "light, material, texture"),
        Metric("vlm_consistency", "VLM consistency", "", 1, 1, "structure, perspective, contact"),
        Metric("active", "experts", "", 2, 0, "active experts a block"),
        Metric("seconds", "seconds", "s", 2, -1, "an edit, from request to picture"),
    )
}  # fmt: skip
