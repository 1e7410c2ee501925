"""Tokenizers of the small models: byte-level BPE files that `tokenizers` and transformers read.

FLUX carries CLIP's and T5's own tokenizers; a small model needs the same files, formats and special
tokens over a small vocabulary, and any prompt must tokenize.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers as bpe_trainers
from transformers import PreTrainedTokenizerFast

# What the small models' prompts are about: their words become single tokens.
_CORPUS = """
a an the with and of on in short long two big small tall round striped checked dotted plain
spotted red orange yellow green blue purple pink brown black white grey teal navy olive cyan
magenta violet crimson golden cream beige turquoise lime maroon pale dark light bright portrait
person face hair hat woman man child t-shirt shirt dress trousers jumper coat skirt jacket cat dog
fish bird rabbit turtle horse butterfly flower tree cactus potted plant mushroom bush palm bag
glasses watch shoe hat umbrella ring necklace chair table lamp sofa shelf bed stool cupboard car
bus boat sailing balloon truck bicycle train plane rocket house tower temple bridge castle
lighthouse church tent
"""


def write_tokenizers(folder: Path, size: int = 640) -> tuple[dict[str, Path], int, dict[str, int]]:
    """Write "text" (T5's conventions) and "pooled" (CLIP's) tokenizers under a folder.

    Returns:
        folders by name, the vocabulary size of both, the end-of-sequence id of each.
    """
    kinds = {
        "text": (["<pad>", "</s>", "<unk>"], "$A </s>", "</s>"),
        "pooled": (
            # transformers reads the pooled vector at the end token, except where its id is 2:
            # CLIP's first configs said 2 by mistake, and mean "the highest id" by it.
            ["<pad>", "<|startoftext|>", "<unk>", "<|endoftext|>"],
            "<|startoftext|> $A <|endoftext|>",
            "<|endoftext|>",
        ),
    }
    folders, ends = {}, {}
    for kind, (special, template, end) in kinds.items():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = bpe_trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        # Four times each, so that every word is merged whole before rare pairs are.
        tokenizer.train_from_iterator([_CORPUS] * 4, trainer)
        ids: dict[str, int] = {token: place for place, token in enumerate(special)}
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(token, ids[token]) for token in special]
        )
        folders[kind], ends[kind] = folder / kind, ids[end]
        wrapped = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="<pad>", eos_token=end, unk_token=special[2]
        )
        wrapped.save_pretrained(folders[kind])
    return folders, size, ends
