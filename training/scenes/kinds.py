"""The table of everything that can be drawn, and which kinds training never sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from a2edit.training.scenes import (
    accessories,
    animals,
    architecture,
    furniture,
    garments,
    plants,
    portraits,
    vehicles,
)
from a2edit.training.scenes.canvas import Canvas
from a2edit.training.scenes.emblems import Place
from a2edit.training.scenes.style import Style

Split = Literal["train", "held_out"]
# UniEdit's eight.
CATEGORIES: tuple[str, ...] = (
    "portraits",
    "garments",
    "animals",
    "plants",
    "accessories",
    "furniture",
    "vehicles",
    "architecture",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A family of objects: `draw` takes its shape from the generator and its colours from a style.

    `caption` holds {look}, which becomes the words for the style's colour and pattern; `emblem` is
    where the style's emblem goes.
    """

    name: str
    category: str
    draw: Callable[[Canvas, Style, np.random.Generator], None]
    caption: str
    split: Split = "train"
    emblem: Place | None = None


KINDS: tuple[Kind, ...] = (
    Kind("short hair", "portraits", portraits.short_hair, "person in {look} clothes"),
    Kind("long hair", "portraits", portraits.long_hair, "person with long hair in {look} clothes"),
    Kind("hat", "portraits", portraits.hat, "person with a hat in {look} clothes"),
    Kind("beard", "portraits", portraits.beard, "person with a beard in {look} clothes"),
    Kind("curly hair", "portraits", portraits.curly_hair,
         "person with curly hair in {look} clothes", "held_out"),
    Kind("bun", "portraits", portraits.bun, "person with a bun in {look} clothes"),
    Kind("plaits", "portraits", portraits.plaits, "person with plaits in {look} clothes"),
    Kind("hood", "portraits", portraits.hood, "person in a {look} hood",
         emblem=Place((0.5, 0.88), 0.06)),
    Kind("bobble hat", "portraits", portraits.bobble_hat,
         "person with a bobble hat in {look} clothes", "held_out"),
    Kind("t-shirt", "garments", garments.t_shirt, "{look} t-shirt",
         emblem=Place((0.5, 0.48), 0.13)),
    Kind("dress", "garments", garments.dress, "{look} dress"),
    Kind("trousers", "garments", garments.trousers, "pair of {look} trousers"),
    Kind("jumper", "garments", garments.jumper, "{look} jumper", emblem=Place((0.5, 0.44), 0.14)),
    Kind("coat", "garments", garments.coat, "{look} coat", "held_out"),
    Kind("skirt", "garments", garments.skirt, "{look} skirt"),
    Kind("shorts", "garments", garments.shorts, "pair of {look} shorts"),
    Kind("jacket", "garments", garments.jacket, "{look} jacket"),
    Kind("dungarees", "garments", garments.dungarees, "pair of {look} dungarees", "held_out"),
    Kind("cat", "animals", animals.cat, "{look} cat"),
    Kind("fish", "animals", animals.fish, "{look} fish"),
    Kind("bird", "animals", animals.bird, "{look} bird"),
    Kind("butterfly", "animals", animals.butterfly, "{look} butterfly"),
    Kind("snail", "animals", animals.snail, "{look} snail"),
    Kind("rabbit", "animals", animals.rabbit, "{look} rabbit", "held_out"),
    Kind("turtle", "animals", animals.turtle, "{look} turtle"),
    Kind("dog", "animals", animals.dog, "{look} dog"),
    Kind("frog", "animals", animals.frog, "{look} frog"),
    Kind("elephant", "animals", animals.elephant, "{look} elephant", "held_out"),
    Kind("flower", "plants", plants.flower, "{look} flower"),
    Kind("tulip", "plants", plants.tulip, "{look} tulip"),
    Kind("tree", "plants", plants.tree, "{look} tree"),
    Kind("cactus", "plants", plants.cactus, "cactus in a {look} pot"),
    Kind("leafy plant", "plants", plants.leafy, "leafy plant in a {look} pot"),
    Kind("mushroom", "plants", plants.mushroom, "{look} mushroom", "held_out"),
    Kind("palm", "plants", plants.palm, "{look} palm tree"),
    Kind("bush", "plants", plants.bush, "bush full of {look} blossom"),
    Kind("strawberry", "plants", plants.strawberry, "{look} strawberry"),
    Kind("pumpkin", "plants", plants.pumpkin, "{look} pumpkin", "held_out"),
    Kind("bag", "accessories", accessories.bag, "{look} handbag", emblem=Place((0.5, 0.84), 0.07)),
    Kind("watch", "accessories", accessories.watch, "watch with a {look} strap"),
    Kind("shoe", "accessories", accessories.shoe, "{look} shoe"),
    Kind("umbrella", "accessories", accessories.umbrella, "{look} umbrella"),
    Kind("glasses", "accessories", accessories.glasses, "pair of {look} sunglasses"),
    Kind("cap", "accessories", accessories.cap, "{look} cap", "held_out"),
    Kind("backpack", "accessories", accessories.backpack, "{look} backpack",
         emblem=Place((0.5, 0.76), 0.09)),
    Kind("mitten", "accessories", accessories.mitten, "{look} mitten"),
    Kind("sun hat", "accessories", accessories.sun_hat, "{look} sun hat"),
    Kind("headphones", "accessories", accessories.headphones, "pair of {look} headphones",
         "held_out"),
    Kind("chair", "furniture", furniture.chair, "chair with a {look} seat"),
    Kind("lamp", "furniture", furniture.lamp, "{look} table lamp"),
    Kind("sofa", "furniture", furniture.sofa, "{look} sofa"),
    Kind("shelf", "furniture", furniture.shelf, "{look} bookcase"),
    Kind("chest", "furniture", furniture.chest, "{look} chest of drawers"),
    Kind("armchair", "furniture", furniture.armchair, "{look} armchair", "held_out"),
    Kind("bed", "furniture", furniture.bed, "bed with a {look} cover"),
    Kind("stool", "furniture", furniture.stool, "stool with a {look} seat"),
    Kind("wardrobe", "furniture", furniture.wardrobe, "{look} wardrobe"),
    Kind("table", "furniture", furniture.table, "table with a {look} cloth", "held_out"),
    Kind("car", "vehicles", vehicles.car, "{look} car"),
    Kind("bus", "vehicles", vehicles.bus, "{look} bus"),
    Kind("boat", "vehicles", vehicles.boat, "boat with a {look} sail"),
    Kind("balloon", "vehicles", vehicles.balloon, "{look} hot-air balloon",
         emblem=Place((0.5, 0.34), 0.14)),
    Kind("lorry", "vehicles", vehicles.lorry, "{look} lorry", emblem=Place((0.33, 0.48), 0.14)),
    Kind("plane", "vehicles", vehicles.plane, "{look} plane", "held_out"),
    Kind("locomotive", "vehicles", vehicles.locomotive, "{look} locomotive"),
    Kind("helicopter", "vehicles", vehicles.helicopter, "{look} helicopter"),
    Kind("tractor", "vehicles", vehicles.tractor, "{look} tractor"),
    Kind("rocket", "vehicles", vehicles.rocket, "{look} rocket", "held_out"),
    Kind("house", "architecture", architecture.house, "{look} house"),
    Kind("tower", "architecture", architecture.tower, "{look} tower"),
    Kind("temple", "architecture", architecture.temple, "temple with {look} columns"),
    Kind("block", "architecture", architecture.block, "{look} block of flats"),
    Kind("bridge", "architecture", architecture.bridge, "{look} bridge"),
    Kind("windmill", "architecture", architecture.windmill, "{look} windmill", "held_out"),
    Kind("castle", "architecture", architecture.castle, "{look} castle"),
    Kind("church", "architecture", architecture.church, "{look} church"),
    Kind("tent", "architecture", architecture.tent, "{look} tent"),
    Kind("pagoda", "architecture", architecture.pagoda, "{look} pagoda", "held_out"),
)  # fmt: skip


def kinds_of(split: Split, category: str | None = None) -> tuple[Kind, ...]:
    """The kinds of a split, of one category or of all."""
    return tuple(
        kind for kind in KINDS if kind.split == split and category in (None, kind.category)
    )
