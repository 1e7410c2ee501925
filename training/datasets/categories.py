"""UniEdit's categories and the subcategories that the paper names (its appendix A).

The names say where a label of another data set belongs. A data set may hold other subcategories;
only the categories matter to training.
"""

from __future__ import annotations

from typing import Final

SUBCATEGORIES: Final[dict[str, str]] = {
    "portraits": "man, woman, boy, girl, baby, elder, blonde, brunette, black hair, red hair, "
    "curly hair, straight hair, long hair, short hair, front, profile, bust, full body, sitting, "
    "standing, running, jumping",
    "garments": "t-shirt, shirt, sweater, hoodie, jacket, coat, down jacket, suit, outerwear, "
    "jeans, shorts, trousers, skirt, dress, cheongsam, sportswear, pajamas, swimsuit, vest, cloak, "
    "uniform, wedding dress, gown, raincoat, windbreaker",
    "animals": "cat, dog, tabby, ragdoll, persian, retriever, shepherd, poodle, husky, goldfish, "
    "hamster, rabbit, horse, cow, sheep, pig, tiger, lion, leopard, bear, deer, elephant, panda, "
    "wolf, bird, eagle, pigeon, parrot, duck, goose, chicken, fish, insect",
    "plants": "tree, shrub, lawn, bamboo, pine, cherry, maple, cactus, flower, rose, lily, "
    "sunflower, tulip, peony, chrysanthemum, lotus, water lily, fruit, rice, wheat, corn, "
    "vegetable, pumpkin, tomato, carrot, cucumber",
    "accessories": "hat, glasses, sunglasses, earrings, necklace, bracelet, ring, hairpin, "
    "headband, scarf, tie, cap, belt, watch, bag, backpack, wallet, shoes, sneakers, heels, boots, "
    "mask, gloves, sleeves, helmet, umbrella",
    "furniture": "sofa, chair, bed, table, tea table, desk, bookshelf, cabinet, wardrobe, rug, "
    "lamp, chandelier, mirror, curtain, photo frame, vase, plate, bowl, cup, knife, fork, spoon, "
    "tray, kettle, tv, refrigerator, fireplace, washer, computer",
    "vehicles": "car, sedan, suv, sports car, truck, bus, school bus, motorcycle, electromobile, "
    "bicycle, train, subway, tram, airplane, helicopter, drone, ship, yacht, sailboat, speedboat, "
    "scooter, skateboard, roller blades, tractor",
    "architecture": "house, villa, apartment, office, mall, supermarket, factory, warehouse, "
    "school, hospital, library, museum, church, temple, bridge, tower, castle, monument, street, "
    "square, park",
}

# Labels and folders of AnyInsertion that the paper calls otherwise.
ALIASES: Final[dict[str, str]] = {
    "person": "portraits",
    "portrait": "portraits",
    "garment": "garments",
    "top": "garments",
    "apple": "plants",
    "banana": "plants",
    "momordica charantia": "plants",
    "mug": "furniture",
}


def category_of(label: str) -> str | None:
    """The category of a label, such as "Dress" or "vehicles"; None for one that is not known."""
    name = label.strip().lower()
    return _CATEGORY.get(name)


_CATEGORY: Final[dict[str, str]] = {
    name: category
    for category, names in SUBCATEGORIES.items()
    for name in (category, *names.split(", "))
} | ALIASES
