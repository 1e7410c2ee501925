"""The torch references, opened quietly: what the engines are measured against."""

from a2edit.bench.figures import Edits


def torch_reference(model: str) -> Edits:
    """The pipeline with unmerged experts; `model` is a checkpoint's name or folder."""
    quiet()
    from a2edit.model.checkpoint import Checkpoint
    from a2edit.model.pipeline import A2EditPipeline

    return A2EditPipeline(Checkpoint.load(model))


def peft_reference(model: str) -> Edits:
    """The same model with its experts as PEFT adapters, as the papers run it."""
    quiet()
    from a2edit.bench.peft_reference import PeftPipeline

    return PeftPipeline(model)


def merged_reference(model: str) -> Edits:
    """The same model with every request's experts merged before its steps."""
    quiet()
    from a2edit.bench.merged_reference import MergedPipeline
    from a2edit.model.checkpoint import Checkpoint

    return MergedPipeline(Checkpoint.load(model))


def quiet() -> None:
    """Tell torch's libraries to keep quiet, before they are imported."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
