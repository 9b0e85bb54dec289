"""Continues a text in the manner of Jane Austen, and streams it token by token.

Knows devices and seeds. What comes next is decided in model.py, from weights.pt; the words are in tokenizer.py.
"""

from pathlib import Path

import torch
from cog import BasePredictor, ConcatenateIterator, Input, current_scope, streaming
from model import CONTEXT, LanguageModel, next_token
from tokenizer import Tokenizer

NEW_PARAGRAPH = "\n\n"  # what an empty prompt is taken for


class Predictor(BasePredictor):
    def setup(self) -> None:
        torch.set_num_threads(1)  # the model is too small to gain from more, and instances share the machine
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer = Tokenizer.load(Path("vocabulary.json"))
        self.model = LanguageModel(len(self.tokenizer.tokens)).to(self.device).eval()
        self.model.load_state_dict(torch.load("weights.pt", map_location=self.device, weights_only=True))
        print(f"Loaded the model on {self.device}")

    # Not async: Cog 0.17 and newer collect an async generator to its end before they send any of it.
    @streaming
    def predict(
        self,
        prompt: str = Input(description="The text to continue. It is not repeated in the output."),
        max_new_tokens: int = Input(
            default=128, ge=1, le=1024, description="How much to write. A token is about four letters."
        ),
        temperature: float = Input(
            default=0.8, ge=0, le=2, description="How adventurous to be. At 0 the likeliest token is always taken."
        ),
        top_k: int = Input(default=40, ge=1, le=2048, description="Choose among this many likeliest tokens only."),
        seed: int | None = Input(
            default=None, ge=0, le=2**32 - 1, description="Same seed, same text. Left out, it is drawn at random."
        ),
    ) -> ConcatenateIterator[str]:
        seed = torch.randint(2**32, ()).item() if seed is None else seed
        print(f"Writing up to {max_new_tokens} tokens on {self.device} with seed {seed}")
        # Drawn on the CPU, so that a seed means the same text on every device, up to rounding.
        generator = torch.Generator().manual_seed(seed)
        given = self.tokenizer.encode(prompt or NEW_PARAGRAPH)
        tokens = given[-CONTEXT:]
        for _ in range(max_new_tokens):
            context = torch.tensor(tokens, device=self.device)
            tokens = [*tokens, next_token(self.model, context, temperature, top_k, generator)][-CONTEXT:]
            yield self.tokenizer.decode(tokens[-1:])
        current_scope().record_metric("input_token_count", len(given))
        current_scope().record_metric("output_token_count", max_new_tokens)
