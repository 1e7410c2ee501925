"""The torch reference, opened quietly: what the engines are measured against."""

from a2edit.bench.figures import Edits


def torch_reference(model: str) -> Edits:
    """The pipeline with unmerged experts; `model` is a checkpoint's name or folder.

    Torch and its libraries are imported here, after they have been told to keep quiet.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()

    from a2edit.model.checkpoint import Checkpoint
    from a2edit.model.pipeline import A2EditPipeline

    return A2EditPipeline(Checkpoint.load(model))
