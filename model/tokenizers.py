"""Tokenizers of the small models: byte-level BPE files that `tokenizers` and transformers read.

FLUX carries CLIP's and T5's own tokenizers; a small model needs the same files, formats and special
tokens over a small vocabulary, and any prompt must tokenize.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers as bpe_trainers
from transformers import PreTrainedTokenizerFast

# What the small models' prompts are about: their words become single tokens. Colours and patterns,
# then people and clothes, animals and plants, things, buildings, and words of places and sizes.
_CORPUS = """
a an the with and of on in at by for full letter pair star heart diamond circle emblem
h k m t x z short long two big small tall round old new young open closed front side next to
red orange yellow green blue purple pink brown black white grey gray teal navy olive cyan magenta
violet crimson golden gold silver cream beige turquoise lime maroon pale dark light bright
striped pinstriped zigzag two-tone checked dotted plain spotted leopard patchwork wooden knitted
patterned wood tweed shaded stripes dots squares flowers floral leather metal glass stone
portrait person face hair hat woman man child girl boy clothes curly beard bun plaits hood bobble
t-shirt shirt dress trousers jumper coat skirt jacket shorts dungarees waistcoat raincoat poncho
scarf cap mitten glove sun sock
cat fish bird rabbit turtle horse butterfly snail dog frog elephant owl duck bear bee
flower tulip tree cactus potted pot plant leafy leaf mushroom bush blossom palm strawberry pumpkin
rose apple pear
bag handbag backpack satchel glasses sunglasses watch strap shoe boot umbrella ring necklace
headphones
chair armchair table lamp sofa shelf bookcase chest drawers bed stool wardrobe cupboard seat cover
cloth vase cup mug ball
car bus boat sail sailing sailboat hot-air balloon truck lorry bicycle train tram plane locomotive
helicopter tractor rocket ship
house tower temple columns bridge castle lighthouse church tent pagoda windmill block flats tall
room street garden sky sea wall floor grass
"""


def write_tokenizers(folder: Path, size: int = 896) -> tuple[dict[str, Path], int, dict[str, int]]:
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
        # Word by word: what begins a line is a word after a space, too.
        tokenizer.train_from_iterator(_CORPUS.split(), trainer)
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
