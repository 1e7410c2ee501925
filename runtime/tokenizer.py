"""Prompts to ids, by the tokenizer files that the checkpoint came with."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as Backend

from a2edit.runtime.errors import BundleError


class PromptTokenizer:
    """One tokenizer at a fixed length: longer prompts are cut, shorter ones padded.

    The text encoder attends to the padding as well (SPEC §11.7), so pads are part of the input.
    """

    def __init__(self, path: Path, length: int, pad_id: int) -> None:
        try:
            self._backend = Backend.from_file(str(path))
        except Exception as error:  # a bare Exception is what tokenizers raises
            raise BundleError(f"tokenizer {str(path)!r} cannot be read: {error}") from error
        self._backend.enable_truncation(max_length=length)
        self._backend.enable_padding(length=length, pad_id=pad_id)

    def encode(self, prompt: str) -> tuple[NDArray[np.int64], bool]:
        """Ids, int64 [1, length], and whether the prompt had to be cut to fit."""
        encoding = self._backend.encode(prompt)
        return np.array([encoding.ids], np.int64), bool(encoding.overflowing)
