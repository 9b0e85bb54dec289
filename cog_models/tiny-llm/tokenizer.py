"""Byte-pair encoding over characters: text to token ids and back, and how to learn the merges from a text.

Knows words and pieces of words. Every token stands for whole characters, so each can be shown as soon as it is made.
"""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

WORD = re.compile(r" ?[A-Za-z]+| ?[^\sA-Za-z]+|\s+")


class Tokenizer:
    def __init__(self, characters: list[str], merges: list[tuple[str, str]]) -> None:
        self.characters = characters
        self.merges = merges
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.tokens = list(dict.fromkeys(characters + [left + right for left, right in merges]))
        self.ids = {token: number for number, token in enumerate(self.tokens)}

    def encode(self, text: str) -> list[int]:
        """Token ids of a text. Characters that were not in the training text become spaces."""
        known = "".join(character if character in self.ids else " " for character in text)
        return [self.ids[token] for word in WORD.findall(known) for token in self.split(word)]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.tokens[number] for number in ids)

    def split(self, word: str) -> list[str]:
        """The word in tokens: merge the earliest learnt pair again and again until none is left."""
        parts = list(word)
        while pairs := [pair for pair in zip(parts, parts[1:], strict=False) if pair in self.ranks]:
            parts = merge(parts, min(pairs, key=self.ranks.__getitem__))
        return parts

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"characters": self.characters, "merges": self.merges}))

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        saved = json.loads(path.read_text())
        return cls(saved["characters"], [(left, right) for left, right in saved["merges"]])


def learn(text: str, size: int) -> Tokenizer:
    """A tokenizer of about `size` tokens: merge the most frequent pair, again and again."""
    counts = Counter(WORD.findall(text))
    words = {word: list(word) for word in counts}
    pairs: Counter[tuple[str, str]] = Counter()
    holders: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def count(word: str, sign: int) -> None:
        for pair in zip(words[word], words[word][1:], strict=False):
            pairs[pair] += sign * counts[word]
            holders[pair].add(word)

    for word in words:
        count(word, +1)
    characters = sorted(set(text))
    merges: list[tuple[str, str]] = []
    while len(characters) + len(merges) < size:
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for word in list(holders[best]):
            count(word, -1)
            words[word] = merge(words[word], best)
            count(word, +1)
        del pairs[best]
    return Tokenizer(characters, merges)


def merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """The parts, with every occurrence of the pair joined."""
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined
