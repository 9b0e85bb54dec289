"""Trains the model on Jane Austen's novels and writes vocabulary.json and weights.pt. About 15 minutes on one core.

apt-get download r-cran-janeaustenr && dpkg -x r-cran-janeaustenr_*.deb janeaustenr
pip install -r requirements.txt rdata==1.1.0 && python train.py janeaustenr
"""

import sys
import time
from pathlib import Path

import tokenizer
import torch
from corpus import read_novels
from model import CONTEXT, LanguageModel
from torch import Tensor
from torch.nn import functional

STEPS = 2000
TOKENS = 2048
BATCH = 16
LEARNING_RATE = 0.004
HELD_OUT = 20_000  # tokens at the end, of Sense and Sensibility, that are not trained on
HERE = Path(__file__).parent


def main(package: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    text = "\n\n".join(read_novels(package).values())
    vocabulary = tokenizer.learn(text, TOKENS)
    vocabulary.save(HERE / "vocabulary.json")
    tokens = torch.tensor(encode(vocabulary, text), device=device)
    model = LanguageModel(len(vocabulary.tokens)).to(device)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"Training {size:,} parameters on {len(text):,} characters, {len(tokens):,} tokens, on {device}")
    train(model, tokens[:-HELD_OUT], tokens[-HELD_OUT:])
    torch.save({name: value.half().cpu() for name, value in model.state_dict().items()}, HERE / "weights.pt")


def encode(vocabulary: tokenizer.Tokenizer, text: str) -> list[int]:
    """As Tokenizer.encode, but each distinct word is split once: a novel repeats itself."""
    words = tokenizer.WORD.findall(text)
    split = {word: vocabulary.encode(word) for word in set(words)}
    return [number for word in words for number in split[word]]


def train(model: LanguageModel, tokens: Tensor, held_out: Tensor) -> None:
    """Fit the model, the learning rate falling to nothing over the last two thirds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.05)
    started = time.monotonic()
    running = 0.0
    for step in range(1, STEPS + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(step / 100, 1, 1.5 * (1 - step / STEPS))
        starts = torch.randint(len(tokens) - CONTEXT, (BATCH,), device=tokens.device)
        value = loss(model, torch.stack([tokens[start : start + CONTEXT + 1] for start in starts]))
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        running += (value.item() - running) / min(step, 100)
        if step % 100 == 0:
            print(f"step {step}  loss {running:.3f}  {time.monotonic() - started:.0f} s", flush=True)
    with torch.inference_mode():
        rows = held_out[: len(held_out) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)
        print(f"loss on held-out text {loss(model, rows).item():.3f}")


def loss(model: LanguageModel, rows: Tensor) -> Tensor:
    return functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
